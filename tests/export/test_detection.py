"""Backbones of detectors, read back as the libraries read them."""

import csv
import json
import pickle
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from robustmix.cli.app import run
from robustmix.errors import IncompleteError, UsageError
from robustmix.export import EXPORTS, detection, export_model
from robustmix.models.registry import build_model
from robustmix.models.resnet import ResNet
from robustmix.models.robust_model import RobustModel

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
DETECTORS = ("detectron2", "torchvision-detection", "mmdet")


def lived_in(net: nn.Module) -> RobustModel:
    """A network whose running statistics and norms are not those that every network begins with."""
    generator = torch.Generator().manual_seed(5)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.normal_(0, 0.1, generator=generator)
    return RobustModel(net, mean=MEAN, std=STD, num_classes=7, input_size=(3, 64, 64))


def own(arch: str = "resnet18") -> RobustModel:
    generator = torch.Generator().manual_seed(3)
    net = build_model(
        arch, num_classes=7, input_size=(3, 64, 64), stem="imagenet", generator=generator
    )
    return lived_in(net)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_a_faster_rcnn_of_torchvision_sees_what_the_classifier_sees(
    name: str, tmp_path: Path
) -> None:
    robust = own(name)
    done = export_model(robust, "torchvision-detection", tmp_path / "backbone.pth")
    settings = done.written.settings
    assert settings["image_mean"] == pytest.approx(MEAN)
    assert settings["image_std"] == pytest.approx(STD)
    whole = FasterRCNN(
        resnet_fpn_backbone(backbone_name=settings["backbone_name"], weights=None), num_classes=5
    ).eval()
    told = whole.load_state_dict(torch.load(done.path), strict=False)
    assert told.unexpected_keys == []
    assert not [key for key in told.missing_keys if key.startswith("backbone.body.")]

    images = torch.rand(2, 3, 70, 45, generator=torch.Generator().manual_seed(1))
    normalised = (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    assert isinstance(robust.net, ResNet)
    with torch.no_grad():
        ours = robust.net.forward_features(normalised)
        theirs = whole.backbone.body(normalised).values()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(other, mine, rtol=0, atol=1e-5 * float(mine.abs().max()))


def published_names() -> set[str]:
    """Names of Detectron2's R-50, written down from its own modules: stem, res2 to res5."""
    convolutions = ["stem.conv1"]
    for stage, blocks in zip((2, 3, 4, 5), (3, 4, 6, 3), strict=True):
        convolutions.append(f"res{stage}.0.shortcut")
        for block in range(blocks):
            convolutions += [f"res{stage}.{block}.conv{i}" for i in (1, 2, 3)]
    norms = ("weight", "bias", "running_mean", "running_var")
    return {f"{one}.weight" for one in convolutions} | {
        f"{one}.norm.{part}" for one in convolutions for part in norms
    }


def test_detectron2_finds_every_tensor_by_its_own_name(tmp_path: Path) -> None:
    robust = own("resnet50")
    done = export_model(robust, "detectron2", tmp_path / "backbone.pkl")
    with done.path.open("rb") as file:
        read = pickle.load(file)
    assert read["matching_heuristics"] is True
    assert read["__author__"] == "robustmix"
    state = read["model"]
    assert set(state) == published_names()
    assert len(state) == 53 * 5
    assert all(isinstance(one, np.ndarray) and one.dtype == np.float32 for one in state.values())
    mine = robust.net.state_dict()
    for theirs, ours in (
        ("stem.conv1.weight", "conv1.weight"),
        ("stem.conv1.norm.running_var", "bn1.running_var"),
        ("res2.0.shortcut.weight", "layer1.0.downsample.0.weight"),
        ("res3.0.shortcut.norm.bias", "layer2.0.downsample.1.bias"),
        ("res5.2.conv3.norm.running_mean", "layer4.2.bn3.running_mean"),
        ("res4.5.conv2.weight", "layer3.5.conv2.weight"),
    ):
        np.testing.assert_array_equal(state[theirs], mine[ours].numpy())
    settings = done.written.settings
    assert settings["MODEL.RESNETS.STRIDE_IN_1X1"] is False
    assert settings["INPUT.FORMAT"] == "RGB"
    assert settings["MODEL.RESNETS.DEPTH"] == 50
    assert settings["MODEL.PIXEL_MEAN"] == pytest.approx([102, 127.5, 153])
    assert settings["MODEL.PIXEL_STD"] == pytest.approx([51, 63.75, 76.5])


def test_mmdetection_takes_torchvisions_names(tmp_path: Path) -> None:
    done = export_model(own(), "mmdet", tmp_path / "backbone.pth")
    state = torch.load(done.path)["state_dict"]
    theirs = resnet18(weights=None)
    assert set(state) == {name for name in theirs.state_dict() if not name.startswith("fc.")}
    assert theirs.load_state_dict(state, strict=False).unexpected_keys == []
    backbone = done.written.settings["backbone"]
    assert isinstance(backbone, dict)
    assert (backbone["type"], backbone["depth"], backbone["style"]) == ("ResNet", 18, "pytorch")
    assert done.written.settings["data_preprocessor"] == {
        "mean": pytest.approx([102, 127.5, 153]),
        "std": pytest.approx([51, 63.75, 76.5]),
        "bgr_to_rgb": True,
    }


def test_widths_that_torchvision_has_no_name_for_go_elsewhere(tmp_path: Path) -> None:
    robust = own("resnext101_32x4d")
    mm = export_model(robust, "mmdet", tmp_path / "b.pth").written.settings["backbone"]
    assert isinstance(mm, dict)
    assert (mm["type"], mm["depth"], mm["groups"], mm["base_width"]) == ("ResNeXt", 101, 32, 4)
    with pytest.raises(UsageError, match="torchvision builds no detector on a ResNet of its"):
        export_model(robust, "torchvision-detection", tmp_path / "c.pth")


def test_grouped_bottlenecks_are_named_as_such(tmp_path: Path) -> None:
    robust = own("resnext50_32x4d")
    d2 = export_model(robust, "detectron2", tmp_path / "a.pkl").written.settings
    assert (d2["MODEL.RESNETS.NUM_GROUPS"], d2["MODEL.RESNETS.WIDTH_PER_GROUP"]) == (32, 4)
    mm = export_model(robust, "mmdet", tmp_path / "b.pth").written.settings["backbone"]
    assert isinstance(mm, dict)
    assert (mm["type"], mm["groups"], mm["base_width"]) == ("ResNeXt", 32, 4)


def test_a_network_that_computes_otherwise_is_refused_and_nothing_written(tmp_path: Path) -> None:
    robust = own()
    for module in robust.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-2  # no detector knows of it, and no name tells
    with pytest.raises(IncompleteError, match="gives other features"):
        export_model(robust, "mmdet", tmp_path / "backbone.pth")
    assert list(tmp_path.iterdir()) == []


def test_strides_on_the_1x1_convolution_are_seen(tmp_path: Path) -> None:
    robust = own("resnet50")
    block = robust.net.get_submodule("layer2.0")
    for name, stride in (("conv1", 2), ("conv2", 1)):
        convolution = block.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride = (stride, stride)
    with pytest.raises(IncompleteError, match="gives other features"):
        export_model(robust, "detectron2", tmp_path / "backbone.pkl")


@pytest.mark.parametrize("to", DETECTORS)
def test_networks_without_a_place_in_a_detector_are_refused(to: str, tmp_path: Path) -> None:
    small = build_model("resnet18", num_classes=7, input_size=(3, 32, 32))
    with pytest.raises(UsageError, match="its stem is that for small images; take one of resnet18"):
        export_model(lived_in(small), to, tmp_path / "backbone")
    with pytest.raises(UsageError, match="it is no ResNet"):
        export_model(lived_in(nn.Sequential(nn.Flatten(), nn.Linear(2, 7))), to, tmp_path / "x")


def test_the_command_writes_the_file_and_what_must_be_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "backbone.pkl"
    words = ["export", "robustmix:resnet18", "--num-classes", "7", "--img-size", "224"]
    words += ["--norm-preset", "imagenet", "--to", "detectron2", "--out", str(out)]
    assert run(words) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}\n"
    assert 'INPUT.FORMAT: "RGB"' in told.err
    assert "MODEL.RESNETS.STRIDE_IN_1X1: false" in told.err
    beside = json.loads((tmp_path / "backbone.pkl.json").read_text())
    assert beside["settings"]["MODEL.PIXEL_MEAN"] == pytest.approx([123.675, 116.28, 103.53])
    assert beside["check"]["largest_relative_difference"] <= detection.TOLERANCE
    assert beside["model"]["arch"] == "resnet18"

    assert run(words) == 2
    assert "error[E-EXISTS]" in capsys.readouterr().err
    assert run([*words, "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == beside
    assert run(["export", "robustmix:resnet18", "--to", "detectron"]) == 2
    assert "did you mean 'detectron2'?" in capsys.readouterr().err


def test_every_format_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "exports"]) == 0
    shown = capsys.readouterr().out
    assert {name for name in EXPORTS if f" {name} " in shown} == set(EXPORTS)


def test_the_page_prints_what_was_published() -> None:
    """Of docs/export.md, line by line."""
    rows = (resources.files("robustmix.studies") / "published.csv").read_text().splitlines()
    printed: dict[str, dict[str, str]] = {}
    for row in csv.DictReader(rows):
        if row["study"] == "automix-t7":
            printed.setdefault(row["method"], {})[row["metric"]] = row["value"]
    place = Path(__file__).parents[2] / "docs" / "export.md"
    if not place.exists():
        pytest.skip("the page is not beside the tests")
    page = place.read_text(encoding="utf-8").partition("## Backbones")[2].splitlines()
    table = [line.strip("| ").split(" | ") for line in page if line.startswith("| ")][1:]
    metrics = ("voc_map", "coco_map", "coco_ap50", "coco_ap75")
    assert table == [
        [name, *(figures[one] for one in metrics)] for name, figures in printed.items()
    ]
