from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError, UsageError
from robustmix.models.checkpoint import save_checkpoint
from robustmix.models.registry import build_model
from robustmix.models.resnet import ResNet
from robustmix.models.start_weights import load_start_weights
from robustmix.models.taps import find_tap
from tests.models.builders import CLASSES, SIZE, CreatesFile, checkpoint, images, network, state

State = dict[str, Tensor]


def save(folder: Path, content: object, name: str = "model.pth") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def fresh(arch: str = "resnet8", classes: int = 3, **options: Any) -> nn.Module:
    return build_model(arch, num_classes=classes, **{"input_size": SIZE, **options})


def body(weights: State) -> State:
    return {key: value for key, value in weights.items() if not key.startswith("fc.")}


def assert_started(net: nn.Module, weights: State) -> None:
    """All but the classifier is the file's, and the classifier is what it was."""
    after = net.state_dict()
    assert all(torch.equal(after[key], value) for key, value in body(weights).items())
    drawn = fresh(classes=len(after["fc.weight"])).state_dict()
    assert torch.equal(after["fc.weight"], drawn["fc.weight"])
    assert torch.equal(after["fc.bias"], drawn["fc.bias"])


def test_torchvision_weights_give_torchvision_features(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    theirs = torchvision.models.resnet18(weights=None, num_classes=1000).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in theirs.state_dict().items():
            if "running_var" in name:
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.ndim == 1:
                value.copy_(torch.rand(value.shape, generator=generator))
    path = save(tmp_path, theirs.state_dict(), "resnet18.pth")
    ours = fresh("resnet18", 7, input_size=(3, 224, 224)).eval()
    line = load_start_weights(ours, str(path))
    assert "\n" not in line
    assert str(path) in line
    assert "raw weights" in line
    x = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.no_grad():
        pooled = find_tap(ours, (3, 64, 64))(ours, x).pooled
        theirs.fc = nn.Identity()
        torch.testing.assert_close(pooled, theirs(x), rtol=1e-5, atol=1e-5)
        assert ours(x).shape == (2, 7)


def test_published_weights_of_torchvision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    source = "torchvision:resnet18@default"
    ours = fresh("resnet18", 5, stem="imagenet")
    with pytest.raises(IntakeError) as caught:
        load_start_weights(ours, source)
    assert caught.value.code == "E-NO-WEIGHTS"
    assert "--allow-download" in caught.value.hint
    theirs = torchvision.models.resnet18(weights=None)
    chosen = torchvision.models.ResNet18_Weights.DEFAULT
    (tmp_path / "checkpoints").mkdir()
    torch.save(theirs.state_dict(), tmp_path / "checkpoints" / Path(chosen.url).name)
    line = load_start_weights(ours, source)
    assert line.startswith(
        "weights of torchvision:resnet18@default (torchvision weights IMAGENET1K"
    )
    loaded = ours.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in body(theirs.state_dict()).items())


def test_published_weights_of_timm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    hub = pytest.importorskip("huggingface_hub")
    theirs = timm.create_model("deit_small_patch16_224")
    path = save(tmp_path, theirs.state_dict(), "pytorch_model.bin")
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: str(path))
    ours = fresh("deit_small", 5, input_size=(3, 224, 224))
    line = load_start_weights(ours, "timm:deit_small_patch16_224@fb_in1k")
    assert "timm weights deit_small_patch16_224.fb_in1k" in line
    loaded, expected = ours.state_dict(), theirs.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in expected.items() if k[:5] != "head.")
    assert loaded["head.weight"].shape == (5, 384)
    small = fresh("deit_small", 5, input_size=(3, 64, 64))
    with pytest.raises(IntakeError, match="pos_embed"):
        load_start_weights(small, "timm:deit_small_patch16_224@fb_in1k")


def test_own_checkpoint_and_its_own_number_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint(4))
    for classes in (3, CLASSES):  # a classifier that would fit is left out all the same
        net = fresh(classes=classes)
        line = load_start_weights(net, str(path))
        assert "resnet8 by mixup, epoch 2 on digits" in line
        assert "fc starts anew" in line
        assert_started(net, state(4))


def test_gradients_modes_and_the_random_stream_stay(tmp_path: Path) -> None:
    path = save(tmp_path, state(1))
    net = fresh().train()
    parameters = [*net.parameters()]
    stream = torch.get_rng_state()
    load_start_weights(net, str(path))
    assert torch.equal(stream, torch.get_rng_state())
    assert all(a is b for a, b in zip(net.parameters(), parameters, strict=True))
    assert all(parameter.requires_grad for parameter in parameters)
    assert net.training


@pytest.mark.parametrize(
    ("form", "what"),
    [
        (lambda raw, ema: raw, "raw"),
        (lambda raw, ema: {"state_dict": {f"module.{k}": v for k, v in raw.items()}}, "raw"),
        (lambda raw, ema: {"model": raw, "model_ema": ema}, "ema"),
        (lambda raw, ema: {"state_dict_ema": ema}, "ema"),
        (lambda raw, ema: body(raw), "raw"),
        (lambda raw, ema: body(raw) | {"head.weight": ema["fc.weight"]}, "raw"),
        (lambda raw, ema: {f"encoder.{k}": v for k, v in body(raw).items()}, "raw"),
    ],
    ids=["plain", "wrapped", "both", "averaged", "headless", "renamed", "encoder"],
)
def test_foreign_layouts(tmp_path: Path, form: Any, what: str) -> None:
    raw, ema = state(1, classes=1000), state(2, classes=1000)
    net = fresh()
    assert f"{what} weights" in load_start_weights(net, str(save(tmp_path, form(raw, ema))))
    assert_started(net, raw if what == "raw" else ema)


@pytest.mark.parametrize(
    ("encoders", "expected"),
    [
        ({"backbone.": 1}, 1),
        ({"backbone.": 2, "backbone_k.": 2, "backbone_q.": 1}, 2),
        ({"backbone_k.": 2, "backbone_q.": 1}, 2),
        ({"backbone_q.": 1}, 1),
    ],
    ids=["plain", "alias", "pair", "student"],
)
def test_openmixup_files(tmp_path: Path, encoders: dict[str, int], expected: int) -> None:
    content = {
        prefix + key: value
        for prefix, seed in encoders.items()
        for key, value in body(state(seed)).items()
    }
    content |= {"head.fc_cls.weight": torch.ones(9, 64), "head.fc_cls.bias": torch.ones(9)}
    net = fresh()
    line = load_start_weights(net, str(save(tmp_path, {"state_dict": content, "meta": {}})))
    assert "of OpenMixup" in line
    assert_started(net, state(expected))


def test_older_files_without_counters_load(tmp_path: Path) -> None:
    weights = {k: v for k, v in state(1).items() if not k.endswith("num_batches_tracked")}
    net = fresh()
    load_start_weights(net, str(save(tmp_path, weights)))
    assert_started(net, weights)


def refused(net: nn.Module, source: str) -> IntakeError:
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(IntakeError) as caught:
        load_start_weights(net, source)
    assert "\n" not in caught.value.line()
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    return caught.value


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    weights = state(1)
    missing = {key: value for key, value in weights.items() if key != "layer2.0.conv1.weight"}
    error = refused(fresh(), str(save(tmp_path, missing)))
    assert "1 missing, 0 unexpected, 0 of other shape" in error.message
    assert "layer2.0.conv1.weight" in error.message
    wide = weights | {"layer2.0.conv1.weight": torch.zeros(2, 2, 3, 3)}
    assert "1 of other shape" in refused(fresh(), str(save(tmp_path, wide))).message


def test_a_deeper_network_that_contains_ours_is_refused(tmp_path: Path) -> None:
    deep = ResNet(2, block="basic", depths=(1, 1, 2), stem="cifar", width=16).state_dict()
    assert body(state(1)).keys() < deep.keys()
    assert "unexpected" in refused(fresh(), str(save(tmp_path, deep))).message


def test_the_other_stem_is_named(tmp_path: Path) -> None:
    path = save(tmp_path, state(1, "resnet18"))
    error = refused(fresh("resnet18", stem="imagenet"), str(path))
    assert error.code == "E-STATE-DICT"
    assert "3x3, without max-pool" in error.hint
    load_start_weights(fresh("resnet18"), str(path))


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    assert refused(fresh(), str(tmp_path / "none.pth")).code == "E-NO-FILE"
    nan = state(1) | {"layer1.0.conv1.weight": torch.full((16, 16, 3, 3), torch.nan)}
    assert refused(fresh(), str(save(tmp_path, nan))).code == "E-NONFINITE-WEIGHTS"
    assert refused(fresh(), str(save(tmp_path, {"epoch": 3}))).code == "E-NO-WEIGHTS"
    marker = tmp_path / "ran"
    error = refused(fresh(), str(save(tmp_path, {"a": CreatesFile(marker)})))
    assert error.code == "E-UNSAFE-PICKLE"
    assert not marker.exists()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("torchvision:resnet18", "E-WEIGHTS"),
        ("timm:resnet18", "E-WEIGHTS"),
        ("robustmix:resnet18@default", "E-WEIGHTS"),
        ("torchvision:resnet18@nonsense", "E-UNKNOWN-WEIGHTS"),
        ("torchvision:resnet188@default", "E-UNKNOWN-ARCH"),
    ],
)
def test_sources_that_cannot_be_meant(source: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_start_weights(fresh(), source)
    assert caught.value.code == code


def test_a_network_without_a_classifier() -> None:
    with pytest.raises(UsageError, match="no linear classifier"):
        load_start_weights(fresh(classes=0), "any.pth")


def test_a_start_scores_like_its_source_after_its_classifier_is_copied(tmp_path: Path) -> None:
    weights = state(6)
    net = fresh(classes=CLASSES)
    load_start_weights(net, str(save(tmp_path, weights)))
    fc = net.get_submodule("fc")
    fc.load_state_dict({k.removeprefix("fc."): v for k, v in weights.items() if "fc." in k})
    with torch.no_grad():
        torch.testing.assert_close(net.eval()(images()), network(weights)(images()))


class Hidden(nn.Module):
    """A network whose hidden layer is called as a classifier is."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 5)
        self.last = nn.Linear(5, num_classes)


def test_a_hidden_layer_called_fc_is_no_classifier(tmp_path: Path) -> None:
    from robustmix.models.names import ARCHS
    from robustmix.models.registry import classifier_of

    torch.manual_seed(2)
    theirs, ours = Hidden(4), Hidden(4)
    before = ours.last.weight.detach().clone()
    path = save(tmp_path, {"state_dict": theirs.state_dict()})
    with ARCHS.temporary():
        ARCHS.register("hidden", Hidden, "a test's")
        names = classifier_of("hidden", SIZE)
    assert names == ["last.weight", "last.bias"]
    line = load_start_weights(ours, str(path), classifier=names)
    assert "the classifier last starts anew" in line
    assert torch.equal(ours.fc.weight, theirs.fc.weight)
    assert torch.equal(ours.last.weight, before)
