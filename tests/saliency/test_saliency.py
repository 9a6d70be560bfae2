"""Each saliency source against a closed form or a slow second implementation."""

import io
import math
import os
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from robustmix.data.folder import load_folder
from robustmix.data.images import ImageSet
from robustmix.errors import IncompleteError, IntakeError, UsageError
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel, padded
from robustmix.saliency.from_file import load_maps, save_maps
from robustmix.saliency.gradcam import weighted_maps
from robustmix.saliency.object_regions import box_coverage, load_regions, regions_digest
from robustmix.saliency.registry import SALIENCY
from robustmix.saliency.rollout import attention_rollout
from robustmix.saliency.sources import Explained, saliency_maps, smoothgrad
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model


def images(n: int = 5, side: int = 32, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def explained(robust: RobustModel, x: Tensor, labels: Tensor | None = None) -> Explained:
    ids = tuple(f"s{i}" for i in range(len(x)))
    return Explained(
        robust=robust, model=padded(robust), images=x, labels=labels, sample_ids=ids, seed=0
    )


def maps(name: str, robust: RobustModel, x: Tensor, labels: Tensor | None = None) -> Tensor:
    return saliency_maps(SALIENCY[name], explained(robust, x, labels))


def linear(classes: int = 4, side: int = 8) -> tuple[RobustModel, Tensor]:
    """A linear model of normalised pixels, and its weights per pixel in [0, 1]."""
    layer = nn.Linear(3 * side * side, classes)
    net = nn.Sequential(nn.Flatten(), layer)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator))
    robust = RobustModel(net, mean=MEAN, std=STD, num_classes=classes, input_size=(3, side, side))
    weight = layer.weight.detach().view(classes, 3, side, side)
    return robust, weight / torch.tensor(STD).view(3, 1, 1)


def test_the_table_says_of_every_source_what_it_asks() -> None:
    assert all(10 < len(row.help) < 90 for row in SALIENCY.rows().values())
    of_the_model = [name for name, row in SALIENCY.rows().items() if row.of_the_model]
    assert of_the_model == ["gradxinput", "smoothgrad", "gradcam", "rollout", "attention"]
    assert [*SALIENCY] == [*of_the_model, "center", "file"]


# gradxinput


def test_gradient_times_input_of_a_linear_model_is_pixel_times_weight() -> None:
    robust, weight = linear()
    x = images(6, 8)
    predicted = robust(x).argmax(dim=1)
    want = (x * weight[predicted]).abs().sum(dim=1)
    torch.testing.assert_close(maps("gradxinput", robust, x), want)
    label = (predicted + 1) % 4
    want = (x * weight[label]).abs().sum(dim=1)
    torch.testing.assert_close(maps("gradxinput", robust, x, label), want)


def test_saliency_of_an_image_does_not_depend_on_the_others() -> None:
    robust, x = tiny_model(), images(11)
    for name in ("gradxinput", "smoothgrad", "center"):
        whole = maps(name, robust, x)
        ids = explained(robust, x).sample_ids
        for i in (0, 10):
            alone = Explained(
                robust=robust,
                model=padded(robust),
                images=x[i : i + 1],
                labels=None,
                sample_ids=ids[i : i + 1],
                seed=0,
            )
            torch.testing.assert_close(SALIENCY[name](alone)[0], whole[i], rtol=1e-5, atol=1e-7)


class NoGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x.detach() > 0).float().mean(dim=(2, 3))


class Broken(nn.Module):
    """Its gradient is not finite where a pixel is exactly at the mean."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sqrt(x.abs()).mean(dim=(2, 3))


def test_models_without_a_usable_gradient_are_refused() -> None:
    for net, error, text in (
        (NoGradient(), UsageError, "no gradient"),
        (Broken(), IncompleteError, "1 samples is not finite: s1"),
    ):
        robust = RobustModel(net, mean=(0.5,) * 3, std=STD, num_classes=3, input_size=(3, 8, 8))
        x = images(3, 8)
        x[1] = 0.5
        with pytest.raises(error, match=text):
            maps("gradxinput", robust, x)


# smoothgrad


def test_smoothgrad_of_a_linear_model_is_its_gradient() -> None:
    robust, weight = linear()
    x = images(6, 8)
    want = weight[robust(x).argmax(dim=1)].abs().sum(dim=1)
    torch.testing.assert_close(maps("smoothgrad", robust, x), want)


class Square(nn.Module):
    """One class scores sum(x^2) / 2, whose gradient is x itself."""

    def forward(self, x: Tensor) -> Tensor:
        half = x.square().flatten(1).sum(dim=1) / 2
        return torch.stack([half, -half], dim=1)


def test_smoothgrad_averages_sixteen_draws_of_noise_of_a_tenth() -> None:
    """The mean gradient is x plus the mean noise, of standard deviation 0.1 / 4 a value."""
    robust = RobustModel(
        Square(), mean=(0, 0, 0), std=(1, 1, 1), num_classes=2, input_size=(3, 16, 16)
    )
    x = torch.full((8, 3, 16, 16), 0.5)
    noise = maps("smoothgrad", robust, x) / 3 - 0.5  # mean of three channels' noise
    assert abs(float(noise.mean())) < 5 * 0.1 / math.sqrt(16 * x.numel())
    n = noise.numel()
    assert float(noise.std()) == pytest.approx(0.1 / math.sqrt(48), rel=5 / math.sqrt(2 * n))
    assert float((noise[0] * noise[1]).mean()) == pytest.approx(0, abs=5 * 0.01 / 48 / 16)
    one = smoothgrad(explained(robust, x), copies=1) / 3 - 0.5
    assert float(one.std()) == pytest.approx(0.1 / math.sqrt(3), rel=5 / math.sqrt(2 * n))
    # Around zero signs cancel over the copies, before the sign is taken off.
    centred = RobustModel(
        Square(), mean=(0.5,) * 3, std=(1, 1, 1), num_classes=2, input_size=(3, 16, 16)
    )
    folded = maps("smoothgrad", centred, x, torch.zeros(8, dtype=torch.int64)) / 3
    want = 0.1 / 4 * math.sqrt(2 / math.pi)
    assert float(folded.mean()) == pytest.approx(want, rel=5 / math.sqrt(3 * n))


def test_smoothgrad_explains_the_prediction_for_the_clean_image() -> None:
    """Images on which noise changes the answer half of the time."""

    class Edge(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            level = x[:, :, :1, :1].sum(dim=(1, 2, 3)) - 1.5 + 1e-4
            other = x[:, :, 1:2, :1].sum(dim=(1, 2, 3))
            return torch.stack([level, other - other.detach()], dim=1)

    robust = RobustModel(Edge(), mean=(0, 0, 0), std=(1, 1, 1), num_classes=2, input_size=(3, 4, 4))
    found = maps("smoothgrad", robust, torch.full((3, 3, 4, 4), 0.5))
    want = torch.zeros(3, 4, 4)
    want[:, 0, 0] = 3
    torch.testing.assert_close(found, want)


# gradcam


class TwoMaps(nn.Module):
    """Taps like timm: two maps of fixed colour filters, pooled and weighted by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.fc.weight.copy_(torch.tensor([[1.0, -2.0], [-1.0, 3.0]]))

    def forward_intermediates(
        self, x: Tensor, indices: list[int] | None
    ) -> tuple[Tensor, list[Tensor]]:
        first = F.avg_pool2d(x, 2)
        last = torch.stack([first[:, 0], first[:, 1]], dim=1)
        stages = [first, last]
        return last, stages if indices is None else [stages[i] for i in indices]

    def forward_head(self, x: Tensor, pre_logits: bool) -> Tensor:
        return x.mean(dim=(2, 3))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.fc(self.forward_intermediates(x, None)[0].mean(dim=(2, 3))))


def test_gradcam_by_hand() -> None:
    """Class 0 wants red and not green: weights 1/16 and -2/16 for maps of 4x4."""
    robust = RobustModel(
        TwoMaps(), mean=(0, 0, 0), std=(1, 1, 1), num_classes=2, input_size=(3, 8, 8)
    )
    x = torch.zeros(1, 3, 8, 8)
    x[0, 0, :2, :2] = 0.8  # red only: 0.8
    x[0, 0, :2, 2:4] = 0.8  # red and green: 0.8 - 2 * 0.3
    x[0, 1, :2, 2:4] = 0.3
    x[0, 1, 6:, 6:] = 0.1  # green only: below zero, cut
    small = torch.zeros(1, 1, 4, 4)
    small[0, 0, 0, 0], small[0, 0, 0, 1] = 0.8 / 16, 0.2 / 16
    want = F.interpolate(small, (8, 8), mode="bilinear")[:, 0]
    torch.testing.assert_close(maps("gradcam", robust, x, torch.tensor([0])), want)
    assert maps("gradcam", robust, x, torch.tensor([1]))[0, 7, 7] > 0  # class 1 wants green


def test_gradcam_of_a_pooled_linear_head_is_cam() -> None:
    """Zhou et al. 2016: with global pooling the maps are weighted by the class's weights."""
    net = build_model("resnet18", num_classes=6, input_size=(3, 32, 32))
    swap = [3, 0, 1, 2, 5, 4]
    robust = RobustModel(
        net, mean=MEAN, std=STD, num_classes=6, input_size=(3, 32, 32), class_map=swap
    )
    x = images(3)
    with torch.no_grad():
        stages = net.forward_features((x - robust.mean) / robust.std)  # type: ignore[operator]
        predicted = robust(x).argmax(dim=1)
        weight = cast(nn.Linear, net.fc).weight[[swap.index(p) for p in predicted.tolist()]]
        cam = torch.einsum("nc,nchw->nhw", weight, stages[-1]).relu() / 16
        want = F.interpolate(cam.unsqueeze(1), (32, 32), mode="bilinear").squeeze(1)
    torch.testing.assert_close(maps("gradcam", robust, x), want, rtol=1e-4, atol=1e-6)
    # A label is one of the data set's: the class map leads back to the network's output.
    torch.testing.assert_close(maps("gradcam", robust, x, predicted), want, rtol=1e-4, atol=1e-6)


def test_gradcam_weighs_a_map_by_its_mean_gradient() -> None:
    grown = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])
    gradient = torch.tensor([[[[4.0, 0.0]], [[-3.0, 1.0]]]])  # means 2 and -1
    assert weighted_maps(grown, gradient, (1, 2)).tolist() == [[[0.0, 3.0]]]


def vit(**options: Any) -> RobustModel:
    net = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=(32, 16),
        patch_size=8,
        depth=3,
        embed_dim=24,
        num_heads=3,
        num_classes=5,
        **options,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return RobustModel(net, mean=MEAN, std=STD, num_classes=5, input_size=(3, 32, 16))


@pytest.mark.parametrize(
    ("source", "robust", "text"),
    [
        ("gradcam", lambda: vit(), "not made of maps"),
        ("gradcam", lambda: tiny_model(), "cannot be tapped"),
        ("rollout", lambda: tiny_model(), "not a ViT of timm"),
        ("rollout", lambda: vit(global_pool="map"), "'map' pooling"),
    ],
)
def test_sources_that_do_not_suit_a_network_say_so(source: str, robust: Any, text: str) -> None:
    model: RobustModel = robust()
    x = torch.rand(2, *model.input_size, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match=text) as caught:
        maps(source, model, x)
    assert caught.value.code == "E-SALIENCY"
    assert "choose --saliency" in caught.value.hint


# rollout


def test_rollout_of_two_layers_by_hand() -> None:
    """Token 0 takes all of token 1 in the first layer, then half of 0 and half of 2."""
    first = torch.tensor([[0.0, 1, 0], [0, 1, 0], [0, 0, 1]])
    second = torch.tensor([[0.5, 0, 0.5], [1, 0, 0], [0, 1, 0]])
    got = attention_rollout([first.view(1, 1, 3, 3), second.view(1, 1, 3, 3)])[0]
    # (first + I)/2 = [[.5,.5,0],[0,1,0],[0,0,1]]; (second + I)/2 = [[.75,0,.25],...]
    assert got[0].tolist() == [0.375, 0.375, 0.25]
    assert got[1].tolist() == [0.25, 0.75, 0.0]
    assert got[2].tolist() == [0.0, 0.5, 0.5]
    heads = torch.stack([first, second]).unsqueeze(0)  # heads are averaged
    torch.testing.assert_close(
        attention_rollout([heads])[0], (first + second) / 4 + torch.eye(3) / 2
    )


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_rollout_equals_attention_computed_from_the_weights(pool: str) -> None:
    robust = vit(global_pool=pool)
    net: Any = robust.net
    x = torch.rand(5, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    before = [block.attn.fused_attn for block in net.blocks]
    got = maps("rollout", robust, x)
    assert [block.attn.fused_attn for block in net.blocks] == before

    with torch.no_grad():
        state = net._pos_embed(net.patch_embed((x - robust.mean) / robust.std))
        total = torch.eye(9).expand(5, 9, 9)
        for block in net.blocks:
            given = block.norm1(state)
            q, k, _ = (given @ block.attn.qkv.weight.T + block.attn.qkv.bias).split(24, dim=2)
            mean = torch.zeros(5, 9, 9)
            for head in range(3):
                part = slice(8 * head, 8 * head + 8)
                scores = q[:, :, part] @ k[:, :, part].transpose(1, 2) / math.sqrt(8)
                mean += scores.softmax(dim=2) / 3
            total = (mean + torch.eye(9)) / 2 @ total
            state = block(state)
        row = total[:, 0, 1:] if pool == "token" else total[:, 1:, 1:].mean(dim=1)
        want = F.interpolate(row.view(5, 1, 4, 2), (32, 16), mode="bilinear").squeeze(1)
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)
    assert float(want.std()) > 1e-3  # the weights are no trivial case


# center


def test_center_is_one_in_the_middle_and_zero_in_the_corners() -> None:
    found = maps("center", tiny_model(), images(2, 32)[:, :, :, :])
    assert torch.equal(found[0], found[1])
    one = found[0]
    assert float(one[0, 0]) == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(one, one.flip(0))
    torch.testing.assert_close(one, one.T)
    assert int(one.argmax()) in (15 * 32 + 15, 15 * 32 + 16, 16 * 32 + 15, 16 * 32 + 16)
    centre = torch.tensor(15.5)
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    distance = torch.hypot(y - centre, x - centre)
    torch.testing.assert_close(one, 1 - distance / distance.max(), atol=1e-6, rtol=0)


# file


def test_maps_come_back_by_sample_id(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    ids, stored = ("s2", "x", "s0", "s1"), rng.random((4, 8, 8)).astype(np.float32)
    save_maps(tmp_path / "maps.npz", ids, stored)
    np.savez(tmp_path / "named.npz", **dict(zip(ids, stored, strict=True)))
    for name in ("maps.npz", "named.npz"):
        read = load_maps(tmp_path / name)
        got = read.take(["s0", "s1", "s2"], (8, 8))
        np.testing.assert_array_equal(got.numpy(), stored[[2, 3, 0]])
        blocks = read.take(["s1"], (16, 24))[0]
        np.testing.assert_array_equal(blocks.numpy(), np.kron(stored[3], np.ones((2, 3))))
        with pytest.raises(IntakeError, match="no map for 1 of 2 samples"):
            read.take(["s0", "s9"], (8, 8))
    assert load_maps(tmp_path / "maps.npz").sha256 != load_maps(tmp_path / "named.npz").sha256


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"sample_ids": ["a"], "maps": np.full((1, 2, 2), -1.0)}, "negative"),
        ({"sample_ids": ["a"], "maps": np.full((1, 2, 2), np.nan)}, "NaN"),
        ({"sample_ids": ["a"], "maps": np.ones((2, 2, 2))}, "1 ids and maps of shape"),
        ({"sample_ids": ["a", "a"], "maps": np.ones((2, 2, 2))}, "twice"),
        ({"maps": np.ones((2, 2, 2))}, "not a readable npz"),
        ({"a": np.ones((2, 2)), "b": np.ones((3, 2))}, "not a readable npz"),
    ],
)
def test_damaged_maps_are_refused(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    np.savez(tmp_path / "maps.npz", **arrays)
    with pytest.raises(IntakeError, match=text):
        load_maps(tmp_path / "maps.npz")
    (tmp_path / "maps.npz").write_bytes(b"PK but no zip")
    with pytest.raises(IntakeError, match="not a readable npz"):
        load_maps(tmp_path / "maps.npz")


def text_npy(shape: str, dtype: str, size: int) -> bytes:
    """An npy whose header says what numpy would not write."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(size)


HOSTILE = {
    "negative": ("(-1, 4)", "'<f4'", 16),
    "vast": ("(1, 100000000000)", "'<f4'", 16),
    "dates": ("(1, 4)", "'<M8[s]'", 32),
    "records": ("(1, 4)", "[('x', '<f4'), ('y', '<f4')]", 32),
    "objects": ("(1, 4)", "'|O'", 32),
    "empty texts": ("(1, 4)", "'<U0'", 0),
    "complex": ("(1, 4)", "'<c8'", 32),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["maps", "boxes", "sample_ids"])
def test_odd_arrays_are_refused_before_they_are_read(tmp_path: Path, kind: str, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for other in {"sample_ids", "boxes" if name == "boxes" else "maps"} - {name}:
            file = io.BytesIO()
            np.save(file, np.array(["a"]) if other == "sample_ids" else np.ones((1, 2, 2)))
            archive.writestr(f"{other}.npy", file.getvalue())
        archive.writestr(f"{name}.npy", text_npy(*HOSTILE[kind]))
    with pytest.raises(IntakeError, match="is not a readable npz"):
        load_regions(tmp_path / "x.npz", tiny_images(3))
    with pytest.raises(IntakeError, match=r"is not a readable npz|of shape"):
        load_maps(tmp_path / "x.npz")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    for read in (load_maps, lambda path: load_regions(path, tiny_images(3)), regions_digest):
        with pytest.raises(IntakeError, match="it is a pipe, socket or device"):
            read(tmp_path / "x.npz")


# regions


def test_box_coverage_equals_a_fine_raster() -> None:
    boxes = torch.tensor([[1.25, 0.5, 2.5, 1.75], [-3.0, 2.0, 5.0, 9.0], [9.0, 9.0, 1.0, 1.0]])
    got = box_coverage(boxes, (4, 6))
    fine = 8
    for i, (left, top, width, height) in enumerate(boxes.tolist()):
        y, x = np.mgrid[0 : 4 * fine, 0 : 6 * fine] / fine + 0.5 / fine
        inside = (left <= x) & (x < left + width) & (top <= y) & (y < top + height)
        want = inside.reshape(4, fine, 6, fine).mean(axis=(1, 3))
        np.testing.assert_allclose(got[i].numpy(), want, atol=1e-6)


def folder_of_boxes(root: Path) -> tuple[Path, ImageSet]:
    """Two classes of pictures of several shapes, each with one white box, in CUB's layout."""
    rng = np.random.default_rng(0)
    images_txt, boxes_txt = [], []
    for i, (width, height) in enumerate([(120, 90), (70, 150), (100, 100), (260, 91)]):
        name = f"{i % 2:03d}.bird/bird_{i}.png"
        path = root / "set" / "test" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        box_w, box_h = int(rng.integers(30, width // 2)), int(rng.integers(30, height // 2))
        left = int(width / 2 - box_w * rng.uniform(0.2, 0.8))
        top = int(height / 2 - box_h * rng.uniform(0.2, 0.8))
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        picture[top : top + box_h, left : left + box_w] = 255
        Image.fromarray(picture).save(path)
        images_txt.append(f"{i + 1} {name}")
        boxes_txt.append(f"{i + 1} {left:.1f} {top:.1f} {box_w:.1f} {box_h:.1f}")
    cub = root / "CUB"
    cub.mkdir()
    (cub / "images.txt").write_text("\n".join(images_txt) + "\n")
    (cub / "bounding_boxes.txt").write_text("\n".join(boxes_txt) + "\n")
    return cub, load_folder(root / "set", "test", 96)


def test_cub_boxes_go_through_the_resizing_and_the_crop(tmp_path: Path) -> None:
    """The oracle is the picture itself: its box is white, and went through the transform."""
    cub, data = folder_of_boxes(tmp_path)
    for chosen in (data, data.subset([3, 1])):
        regions = load_regions(cub, chosen)
        shown = chosen.pixels.take(torch.arange(len(chosen)))[:, 0].float() / 255
        got = regions.take(chosen.sample_ids, (96, 96))
        assert float((got - shown).abs().mean()) < 0.01  # bicubic filters ring at the edges
        assert float(shown.mean()) > 0.05
        torch.testing.assert_close(got.sum(dim=(1, 2)), shown.sum(dim=(1, 2)), rtol=0.02, atol=0)


def test_boxes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    cub, data = folder_of_boxes(tmp_path)
    with pytest.raises(IntakeError, match="no box for 7 of 7 samples"):
        load_regions(cub, tiny_images(7))
    (cub / "bounding_boxes.txt").write_text("1 2 3\n")
    with pytest.raises(IntakeError, match="without 5 fields"):
        load_regions(cub, data)
    ids = list(data.sample_ids)
    np.savez(tmp_path / "b.npz", sample_ids=ids, boxes=np.array([[0, 0, 5, 0.0]] * len(ids)))
    with pytest.raises(IntakeError, match="positive width"):
        load_regions(tmp_path / "b.npz", data)
    np.savez(tmp_path / "b.npz", sample_ids=ids, boxes=np.array([[8, 16, 8, 4.0]] * len(ids)))
    found = load_regions(tmp_path / "b.npz", data).take(ids[:1], (96, 96))[0]
    assert float(found.sum()) == 32
    assert float(found[16:20, 8:16].sum()) == 32
    save_maps(tmp_path / "m.npz", ids[:3], np.ones((3, 6, 6)))
    with pytest.raises(IntakeError, match="no map for 1 of 4"):
        load_regions(tmp_path / "m.npz", data)
