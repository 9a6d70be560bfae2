"""Official corrupted sets in an evaluation: found, checked before any work, paired, resized."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from robustmix.corruptions import SEVERITIES, corrupt
from robustmix.data.folder import load_folder
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.resized import ResizedPixels
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate, exit_code
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites import official
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.official import as_stored, benchmark_name
from robustmix.metrics.mce import ALEXNET
from robustmix.models.robust_model import RobustModel
from robustmix.report import Report
from tests.evaluation.cifar_like import cifar_c, cifar_like
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model


class Colour(nn.Module):
    """As many logits as classes, of the mean colour; notes what it sees."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, classes, generator=generator))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return x.mean(dim=(2, 3)) @ self.weight


def model_for(data: ImageSet) -> tuple[RobustModel, Colour]:
    net = Colour(data.num_classes)
    robust = RobustModel(
        net, mean=(0,) * 3, std=(1,) * 3, num_classes=data.num_classes, input_size=data.input_size
    )
    return robust, net


def write_images(root: Path, counts: dict[str, int], side: int, seed: int, prefix: str) -> None:
    """Write coarse random pictures, ``<class>/<prefix>_<number>.png``."""
    rng = np.random.default_rng(seed)
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for _ in range(count):
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)
            image.save(root / name / f"{prefix}_{number:08d}.png")
            number += 1


def corrupted_copy(clean: ImageSet, root: Path, name: str, severity: int) -> None:
    """Write what ``corrupt`` makes of a folder's images in the layout of ImageNet-C."""
    images = clean.pixels.take(torch.arange(len(clean)))
    changed = corrupt(images, name, severity, seed=9, sample_ids=clean.sample_ids)
    for sample_id, image in zip(clean.sample_ids, changed, strict=True):
        path = root / name / str(severity) / Path(*Path(sample_id).parts[-2:])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    counts = {"n01440764": 3, "n01443537": 2, "n02099601": 4}
    write_images(tmp_path / "val", counts, 224, 0, "ILSVRC2012_val")
    clean = load_folder(tmp_path / "val", "test", None)
    monkeypatch.setattr(official, "IMAGENET_CLASSES", clean.class_names_sha256)
    root = tmp_path / "ImageNet-C"
    for severity in SEVERITIES:
        corrupted_copy(clean, root / "weather", "brightness", severity)
        corrupted_copy(clean, root / "digital", "contrast", severity)
    return clean


def test_trap_14_imagenet_c_is_found_paired_and_not_resized(
    imagenet: ImageSet, tmp_path: Path
) -> None:
    assert benchmark_name(imagenet) == "imagenet-1k"
    assert imagenet.name == "folder:val"
    robust, net = model_for(imagenet)
    suite = Corruption(corruptions="contrast,brightness", severity=(1, 3))
    report = evaluate(robust, imagenet, ["clean", suite], data_dir=tmp_path, out=tmp_path / "out")
    part = report.content.suites["corruption"]
    assert (part.status, part.details["source"], part.details["paired"]) == ("ok", "official", True)
    images = imagenet.pixels.take(torch.arange(9))
    want = corrupt(images, "contrast", 3, seed=9, sample_ids=imagenet.sample_ids)
    torch.testing.assert_close(net.seen[-1][:9], want.float() / 255)
    assert recompute(Report.load(tmp_path / "out")) == []
    assert part.conditions[0].metrics["retention"].value is not None


def test_a_part_of_imagenet_sees_its_own_images(imagenet: ImageSet, tmp_path: Path) -> None:
    robust, net = model_for(imagenet)
    suite = Corruption(corruptions="contrast", severity=(3,))
    report = evaluate(robust, imagenet, ["clean", suite], data_dir=tmp_path, limit=4)
    assert report.samples is not None
    chosen = [imagenet.sample_ids.index(i) for i in report.samples.sample_ids]
    images = imagenet.pixels.take(torch.arange(9))
    want = corrupt(images, "contrast", 3, seed=9, sample_ids=imagenet.sample_ids)[chosen]
    torch.testing.assert_close(net.seen[-1][:4], want.float() / 255)


def test_alexnet_is_for_the_official_images_of_imagenet(imagenet: ImageSet, tmp_path: Path) -> None:
    robust, _ = model_for(imagenet)
    suite: Any = Corruption(corruptions="contrast", mce_reference="alexnet")
    report = evaluate(robust, imagenet, ["clean", suite], data_dir=tmp_path)
    params = report.content.suites["corruption"].params
    assert params["mce_reference"]["errors"] == list(ALEXNET.errors)
    suite = Corruption(
        corruptions="contrast", mce_reference="alexnet", corruption_source="generate"
    )
    with pytest.raises(IncompatibleError, match="of official images, these are generated"):
        evaluate(robust, imagenet, ["clean", suite], data_dir=tmp_path)
    suite = Corruption(corruptions="contrast", mce_reference="alexnet")
    with pytest.raises(UsageError, match="imagenet-1k, not of tiny"):
        evaluate(tiny_model(), tiny_images(7), ["clean", suite])


def test_files_of_other_images_are_refused_before_any_work(
    imagenet: ImageSet, tmp_path: Path
) -> None:
    images = imagenet.pixels.take(torch.arange(9))
    others = [i for i in range(9) if i != 4] + [4]
    for sample_id, image in zip(imagenet.sample_ids, images[others].flip(0), strict=True):
        path = tmp_path / "ImageNet-C" / "weather" / "brightness" / "1"
        file = path / Path(*Path(sample_id).parts[-2:])
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(file)
    robust, net = model_for(imagenet)
    suite = Corruption(corruptions="brightness")
    with pytest.raises(IntakeError, match="does not show the clean images: mean correlation"):
        evaluate(robust, imagenet, ["clean", suite], data_dir=tmp_path)
    assert net.seen == []
    with pytest.raises(IntakeError, match="holds no fog"):
        evaluate(
            robust, imagenet, ["clean", Corruption(corruptions="fog,contrast")],
            data_dir=tmp_path,
        )  # fmt: skip
    small = load_folder(tmp_path / "val", "test", 64)
    robust, _ = model_for(small)
    suite = Corruption(corruptions="contrast")
    with pytest.raises(IntakeError, match="224x224 pixels, the clean ones have 64x64"):
        evaluate(robust, small, ["clean", suite], data_dir=tmp_path)


def test_tiny_imagenet_c_is_not_paired(tmp_path: Path) -> None:
    counts = {f"n{10_000_000 + c}": 1 for c in range(199)} | {"n20000000": 3}
    write_images(tmp_path / "tiny" / "val", counts, 64, 0, "val")
    clean = load_folder(tmp_path / "tiny", "test", None)
    assert benchmark_name(clean) == "tiny-imagenet"
    # Other photographs, under other names.
    write_images(tmp_path / "Tiny-ImageNet-C" / "fog" / "2", counts, 64, 1, "test")
    robust, net = model_for(clean)
    suite = Corruption(corruptions="fog", severity=(2,))
    report = evaluate(robust, clean, ["clean", suite], data_dir=tmp_path, out=tmp_path / "out")
    part = report.content.suites["corruption"]
    assert (part.status, part.details["source"], part.details["paired"]) == (
        "ok",
        "official",
        False,
    )
    assert part.conditions[0].metrics["retention"].value is None
    assert part.metrics["drop_selected1_subset"].ci_method == "normal95/unpaired"
    files = sorted((tmp_path / "Tiny-ImageNet-C").rglob("*.png"))
    want = torch.stack([torch.from_numpy(np.array(Image.open(f))).permute(2, 0, 1) for f in files])
    seen = torch.cat(net.seen[-2:])[-208:][: len(clean)]
    torch.testing.assert_close(seen, want.float() / 255)
    assert recompute(Report.load(tmp_path / "out")) == []


def test_other_folders_of_images_have_no_official_files(tmp_path: Path) -> None:
    write_images(tmp_path / "cats", {"a": 2, "b": 2}, 64, 0, "x")
    data = load_folder(tmp_path / "cats", "test", None)
    assert benchmark_name(data) == "folder:cats"
    (tmp_path / "Tiny-ImageNet-C").mkdir()
    assert official.official_folder(data, tmp_path) is None


def enlarged(data: ImageSet, side: int) -> ImageSet:
    object.__setattr__(data, "pixels", ResizedPixels(data.pixels, side))
    return data


def test_enlarged_images_are_corrupted_at_their_own_size() -> None:
    """A network for 224 pixels sees CIFAR's corruptions enlarged, not those made for 224."""
    small = tiny_images(9)
    images = small.pixels.take(torch.arange(9))
    data = enlarged(tiny_images(9), 56)
    robust, net = model_for(data)
    suite = Corruption(corruptions="pixelate", severity=(5,))
    report = evaluate(robust, data, ["clean", suite], limit=6)
    part = report.content.suites["corruption"]
    assert part.details["profile"] == "cifar"
    assert report.samples is not None
    chosen = [data.sample_ids.index(i) for i in report.samples.sample_ids]
    want = corrupt(images[chosen], "pixelate", 5, seed=0)
    large = ResizedPixels(TensorPixels(want), 56).take(torch.arange(6))
    torch.testing.assert_close(net.seen[-1][:6], large.float() / 255)


def test_stored_pixels_of_a_choice_of_enlarged_ones() -> None:
    data = enlarged(tiny_images(9), 48).subset([7, 2, 5])
    stored = as_stored(data.pixels)
    small = tiny_images(9).pixels.take(torch.tensor([5, 7]))
    assert torch.equal(stored.pixels.take(torch.tensor([2, 0])), small)
    assert torch.equal(stored.enlarge(small), data.pixels.take(torch.tensor([2, 0])))


def test_enlarged_cifar_sees_the_official_files_enlarged(tmp_path: Path) -> None:
    data = cifar_like()
    cifar_c(tmp_path, data)
    small = data.pixels.take(torch.arange(10_000))
    large = enlarged(data, 40)
    robust, net = model_for(large)
    suite = Corruption(corruptions="brightness", severity=(4,))
    report = evaluate(robust, large, ["clean", suite], data_dir=tmp_path, limit=5)
    assert report.samples is not None
    chosen = [int(i.rpartition("/")[2]) for i in report.samples.sample_ids]
    brighter = (small[chosen].int() + 4).clamp(max=255).to(torch.uint8)
    want = ResizedPixels(TensorPixels(brighter), 40).take(torch.arange(5))
    torch.testing.assert_close(net.seen[-1][:5], want.float() / 255)


def test_a_set_that_does_not_belong_is_refused_and_the_other_suites_unharmed(
    tmp_path: Path,
) -> None:
    """Class-sorted copies, other labels, missing files: at the start, or with the rest intact."""
    data = cifar_like()
    folder = cifar_c(tmp_path, data)
    order = torch.argsort(data.labels, stable=True)
    in_classes = ImageSet(
        name="cifar100", split="test", pixels=data.subset(order).pixels, labels=data.labels[order],
        sample_ids=data.sample_ids, class_names=data.class_names, mean=MEAN, std=STD,
    )  # fmt: skip
    robust, net = model_for(data)
    suite = Corruption(corruptions="brightness", severity=(1,))
    with pytest.raises(IntakeError, match="differs from the clean labels of cifar100"):
        evaluate(robust, in_classes, ["clean", suite], data_dir=tmp_path, limit=50)
    # The pixels in class order, the labels as they were.
    object.__setattr__(in_classes, "labels", data.labels)
    with pytest.raises(IntakeError, match="does not show the clean images of cifar100"):
        evaluate(robust, in_classes, ["clean", suite], data_dir=tmp_path, limit=50)
    assert net.seen == []
    report = evaluate(
        robust, in_classes, ["clean", suite, "calibration"], data_dir=tmp_path, limit=50,
        keep_going=True, out=tmp_path / "out",
    )  # fmt: skip
    parts = report.content.suites
    assert {name: part.status for name, part in parts.items()} == {
        "clean": "ok", "calibration": "ok", "corruption": "failed",
    }  # fmt: skip
    assert "does not show" in (parts["corruption"].reason or "")
    assert [warn.suite for warn in report.content.errors] == ["corruption"]
    assert (report.content.run.status, exit_code(report)) == ("failed", 4)
    assert recompute(Report.load(tmp_path / "out")) == []
    with pytest.raises(IntakeError, match="holds no contrast"):
        evaluate(robust, data, ["clean", Corruption(corruptions="contrast")], data_dir=tmp_path)
    (folder / "brightness.npy").write_bytes((folder / "brightness.npy").read_bytes()[:-5])
    with pytest.raises(IntakeError, match=r"cannot read .*brightness.npy"):
        evaluate(robust, data, ["clean", suite], data_dir=tmp_path)
    generated = Corruption(corruptions="brightness", severity=(1,), corruption_source="generate")
    done = evaluate(robust, data, ["clean", generated], data_dir=tmp_path, limit=50)
    assert done.content.run.status == "success"
