"""Architectures that timm builds, saved and loaded by their short names."""

from pathlib import Path

import pytest
import torch

from robustmix.errors import IntakeError
from robustmix.models.checkpoint import read_checkpoint, save_checkpoint
from robustmix.models.load import load_model
from robustmix.models.registry import arch_options, build_model
from tests.models.builders import CLASSES, checkpoint

timm = pytest.importorskip("timm")


@pytest.mark.parametrize(
    ("arch", "size", "drop_path"),
    [
        ("convnext_tiny", 32, 0.3),
        ("swin_tiny", 64, 0.2),
        ("deit_small", 64, 0.1),
        ("mobilenetv2", 32, 0.0),
        ("efficientnet_b0", 32, 0.0),
    ],
)
def test_a_checkpoint_is_evaluated_by_its_name(
    tmp_path: Path, arch: str, size: int, drop_path: float
) -> None:
    shape = (3, size, size)
    seed = torch.Generator().manual_seed(8)
    net = build_model(
        arch, num_classes=CLASSES, input_size=shape, drop_path=drop_path, generator=seed
    )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=seed))
    path = tmp_path / "best.pth"
    given = {"arch": arch, "arch_options": arch_options(net), "input_size": shape}
    save_checkpoint(
        path, checkpoint(0, model=net.state_dict(), mean=(0,) * 3, std=(1,) * 3, **given)
    )
    assert read_checkpoint(path).arch_options == arch_options(net)
    model = load_model(path)
    assert model.info.arch_options.get("drop_path", 0.0) == drop_path
    images = torch.rand(2, *shape, generator=seed)
    with torch.no_grad():
        assert torch.equal(model(images), net.eval()(images))


def test_a_plain_file_is_read_by_the_short_name_too(tmp_path: Path) -> None:
    net = timm.create_model("mobilenetv2_100", num_classes=CLASSES)
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": net.state_dict()}, path)
    with pytest.raises(IntakeError, match="arch mobilenetv2 and 7 classes"):
        load_model(path, norm_preset="none")
    model = load_model(path, arch="mobilenetv2", norm_preset="none")
    assert model.input_size == (3, 224, 224)
    assert "224 pixels assumed for mobilenetv2" in model.info.notes[-1]
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(model(images), net.eval()(images))


def test_the_stem_is_told_from_the_file(tmp_path: Path) -> None:
    net = build_model("convnext_tiny", num_classes=CLASSES, input_size=(3, 32, 32), stem="imagenet")
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    model = load_model(path, arch="convnext_tiny", norm_preset="none")
    assert model.input_size == (3, 224, 224)
    assert dict(model.info.arch_options) == {"stem": "imagenet"}
