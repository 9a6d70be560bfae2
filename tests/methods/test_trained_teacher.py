"""The trained network of a method that asks one: loaded, frozen, and in nobody's state."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from robustmix.data.loader import Batch
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.files import file_digest
from robustmix.methods import Setup
from robustmix.methods.registry import build_method
from robustmix.methods.trained_teacher import Supervisor, load_teacher
from robustmix.models import load_model
from robustmix.models.names import NORM_PRESETS
from tests.training.runs import trained_network

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)


def load(path: str | None = None, **changes: Any) -> Supervisor:
    rng = np.random.default_rng(0)
    setup = Setup(rng=rng, num_classes=10, input_size=(3, 32, 32), mean=MEAN, std=STD)
    path = str(trained_network()) if path is None else path
    return load_teacher(path, replace(setup, **changes))


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels - mean) / std


def test_it_sees_the_pixels_behind_another_normalisation() -> None:
    teacher, model = load(), load_model(trained_network())
    pixels = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    images = normalised(pixels)
    torch.testing.assert_close(teacher.pixels(images), pixels, rtol=0, atol=1e-6)
    with torch.no_grad():
        want = model(pixels)
        torch.testing.assert_close(teacher(images), want, rtol=1e-4, atol=1e-5)
        alone = teacher.network(teacher.inputs(images))
        torch.testing.assert_close(alone, want, rtol=1e-4, atol=1e-5)
        teacher(normalised(2 * pixels))  # mixtures may leave [0, 1]


def test_a_gradient_reaches_the_images_and_nothing_else() -> None:
    teacher = load()
    images = torch.zeros(1, 3, 32, 32, requires_grad=True)
    teacher(images).sum().backward()
    assert images.grad is not None
    assert float(images.grad.abs().sum()) > 0
    assert all(p.grad is None and not p.requires_grad for p in teacher.model.parameters())


class Method(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.teacher = load()


def test_it_is_no_part_of_what_is_trained_or_saved() -> None:
    method = Method()
    assert {name for name, _ in method.named_parameters()} == {"layer.weight", "layer.bias"}
    state = method.state_dict()
    assert set(state) == {"layer.weight", "layer.bias", "teacher._extra_state"}
    assert state["teacher._extra_state"].shape == (32,)
    method.train()
    assert not any(module.training for module in method.teacher.model.modules())
    method.double()
    assert next(method.teacher.model.parameters()).dtype == torch.float64


def test_a_run_continues_with_its_own_teacher_only() -> None:
    method = Method()
    assert method.teacher.sha256 == file_digest(trained_network())
    state = method.state_dict()
    method.load_state_dict(state)
    state["teacher._extra_state"] = 255 - state["teacher._extra_state"]
    with pytest.raises(IncompatibleError, match="had a teacher with SHA-256") as error:
        method.load_state_dict(state)
    assert error.value.code == "E-OTHER-TEACHER"


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        ("", {}, "this method needs a trained teacher; give its checkpoint as teacher"),
        ("no/such.pth", {}, "there is no teacher no/such.pth; give a checkpoint's path"),
        (None, {"num_classes": 4}, "teacher best.pth has 10 classes, the data 4"),
        (None, {"input_size": (3, 16, 24)}, "takes images of 32x32, the data has 16x24"),
    ],
)
def test_what_cannot_be_a_teacher_is_one_line(
    path: str | None, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        load(path, **changes)
    assert message in str(error.value)
    assert error.value.code == "E-TEACHER"


def test_a_file_of_something_else_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "notes.pth"
    file.write_text("nothing")
    with pytest.raises(UsageError, match=r"teacher notes\.pth: ") as error:
        load(str(file))
    assert error.value.code == "E-TEACHER"


def test_any_number_of_classes_may_be_meant() -> None:
    assert load(num_classes=0).model.num_classes == 10


PUBLISHED = "torchvision:resnet18@IMAGENET1K_V1"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Put made weights where torchvision keeps those it fetched; return the network of them."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: nn.Module = torchvision.models.resnet18()
    torch.save(net.state_dict(), file)
    return net.eval()


def test_published_weights_see_images_in_their_own_size(published: nn.Module) -> None:
    teacher = load(PUBLISHED, num_classes=0)
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    large = F.interpolate(pixels, (224, 224), mode="bilinear", align_corners=False)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in NORM_PRESETS["imagenet"])
    maps: list[torch.Tensor] = []
    published.get_submodule("layer4").register_forward_hook(lambda *given: maps.append(given[2]))
    with torch.no_grad():
        logits = published((large - mean) / std)
        teacher.check_map()
        torch.testing.assert_close(teacher.last_map(normalised(pixels)), maps[0])
        torch.testing.assert_close(teacher(normalised(pixels)), logits)
        same = teacher.pixels(normalised(large))  # which have that size
        torch.testing.assert_close(same, large, rtol=0, atol=1e-6)
    assert maps[0].shape == (2, 512, 7, 7)
    assert len(teacher.sha256) == 64


def test_the_paper_s_attentivemix_keeps_six_of_49_cells(published: nn.Module) -> None:
    """Those whose mean over the channels of the trained network's last map is largest."""
    rng = np.random.default_rng(0)
    setup = Setup(rng=rng, num_classes=10, input_size=(3, 56, 56), mean=MEAN, std=STD)
    method: Any = build_method(
        "attentivemix", nn.Identity(), {"top_k": 6, "teacher": PUBLISHED}, setup
    )
    images = torch.rand(3, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    batch = Batch(normalised(images), torch.tensor([0, 1, 2]), torch.arange(3))
    perm = torch.tensor([1, 2, 0])
    got = method.mix(batch, perm=perm)
    assert torch.unique(got.weights[0]).tolist() == pytest.approx([6 / 49])
    with torch.no_grad():
        ranks = method.teacher.last_map(batch.images).mean(dim=1).flatten(1)
    for i in range(3):
        kept = set(ranks[i].argsort(descending=True)[:6].tolist())
        for cell, (row, col) in enumerate(np.ndindex(7, 7)):
            block = (slice(None), slice(8 * row, 8 * row + 8), slice(8 * col, 8 * col + 8))
            source = batch.images[i] if cell in kept else batch.images[perm[i]]
            assert torch.equal(got.images[i][block], source[block])


def test_what_published_weights_cannot_be(
    published: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="torchvision:resnet18 names no weights; write torch"):
        load("torchvision:resnet18")
    with pytest.raises(UsageError, match="has 1000 classes, the data 10"):
        load(PUBLISHED)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(IntakeError, match="not in the local cache; pass allow_download") as error:
        load(PUBLISHED, num_classes=0)
    assert error.value.code == "E-NO-WEIGHTS"
