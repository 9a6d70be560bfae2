"""Files as others write them: whatever lies around the weights, the model is the same."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import robustmix
from robustmix.errors import IntakeError
from robustmix.models.archives import read_archive
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel
from tests.models.builders import CLASSES, SIZE, images, network, state

State = dict[str, Tensor]
MEAN, STD = (0.3, 0.45, 0.6), (0.2, 0.25, 0.3)


def save(folder: Path, content: object) -> Path:
    path = folder / "model.pth"
    torch.save(content, path)
    return path


def load(path: Path, **options: Any) -> RobustModel:
    return load_model(path, **{"arch": "resnet8", "input_size": SIZE, **options})


def refused(path: Path, **options: Any) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        load(path, **options)
    assert caught.value.exit_code == 3
    assert len(caught.value.line()) < 400
    return caught.value


def under(prefix: str, weights: State) -> State:
    return {prefix + key: value for key, value in weights.items()}


def expected(weights: State, mean: Any = MEAN, std: Any = STD) -> Tensor:
    m, s = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        return network(weights)((images() - m) / s)  # type: ignore[no-any-return]


def assert_scores(model: RobustModel, weights: State, mean: Any = MEAN, std: Any = STD) -> None:
    with torch.no_grad():
        torch.testing.assert_close(model(images()), expected(weights, mean, std))


def notes(model: RobustModel, code: str) -> list[str]:
    return [note for note in model.info.notes if note.startswith(code)]


def averaged(weights: State) -> State:
    return AveragedModel(network(weights)).state_dict()


def split(weights: State, body: str, head: str) -> State:
    parts = {False: body, True: head}
    return {parts[k.startswith("fc.")] + k.removeprefix("fc."): v for k, v in weights.items()}


METRICS = {"val_acc.tp": torch.zeros(7), "train_loss.total": torch.tensor(3.0)}

LAYOUTS: dict[str, Callable[[State], object]] = {
    "averaged": averaged,
    "averaged-parallel": lambda w: under("module.", averaged(w)),
    "lightning-loss": lambda w: {
        "state_dict": {**under("model.", w), "criterion.weight": torch.ones(CLASSES)},
        "hyper_parameters": {"lr": 0.1},
        "callbacks": {"ModelCheckpoint{'monitor': 'acc'}": {"best": 0.5}},
    },
    "lightning-metrics": lambda w: {"state_dict": {**METRICS, **under("net.", w)}},
    "backbone": lambda w: under("backbone.", w),
    "classifier": lambda w: {**under("classifier.", w), "log_vars": torch.zeros(2)},
    "network": lambda w: {"state": under("network.", w)},
    "parts": lambda w: split(w, "backbone.", "classifier."),
    "parts-deep": lambda w: under("module.", split(w, "features.", "head.1.")),
    "parts-apart": lambda w: split(w, "encoder.", "fc."),
    "model_state": lambda w: {"epoch": 3, "model_state": w, "optim_state": {"lr": 1}},
    "weights": lambda w: {"weights": w},
    "params": lambda w: {"params": w, "config": {"depth": 8}},
    "odd": lambda w: {"run": {"best": {"net_g": w}}},
    "beside-numbers": lambda w: {**w, "epoch": 12, "name": "a"},
    "compiled-parts": lambda w: {
        k.replace("layer1.", "layer1._orig_mod."): v for k, v in w.items()
    },
    "sharded": lambda w: under("_fsdp_wrapped_module.model._checkpoint_wrapped_module.", w),
    "torchvision-script": lambda w: {"model": w, "args": argparse.Namespace(lr=0.1, amp=False)},
}


@pytest.mark.parametrize("form", LAYOUTS)
def test_weights_are_found_below_one_prefix(tmp_path: Path, form: str) -> None:
    weights = state(1)
    model = load(save(tmp_path, LAYOUTS[form](weights)), mean=MEAN, std=STD)
    assert_scores(model, weights)
    assert model.num_classes == CLASSES
    assert model.info.weights == ("ema" if "averaged" in form else "raw")
    assert not model.info.trusted_pickle


@pytest.mark.parametrize(
    ("form", "left"),
    [
        ("lightning-loss", "criterion.weight"),
        ("lightning-metrics", "val_acc.tp, train_loss.total"),
        ("classifier", "log_vars"),
        ("averaged", None),
        ("network", None),
    ],
)
def test_what_was_left_out_is_said(tmp_path: Path, form: str, left: str | None) -> None:
    model = load(save(tmp_path, LAYOUTS[form](state(1))), mean=MEAN, std=STD)
    said = notes(model, "W-LEFT-OUT")
    assert said == ([] if left is None else [f"W-LEFT-OUT: tensors beside the weights: {left}"])


def test_where_the_weights_were_is_said(tmp_path: Path) -> None:
    content = {"a": {"b": split(state(1), "m.backbone.", "m2.classifier.")}}
    model = load(save(tmp_path, content), mean=MEAN, std=STD)
    assert notes(model, "I-LAYOUT") == [
        "I-LAYOUT: weights found under a/b/m.backbone.*, the classifier under m2.classifier"
    ]


# --- averages


AVERAGES: dict[str, Callable[[State, State], object]] = {
    "torchvision": lambda raw, ema: {"model": raw, "model_ema": averaged(ema), "epoch": 2},
    "shadow": lambda raw, ema: {"model": raw, "ema": {"shadow": ema, "decay": 0.99}},
    "lightning": lambda raw, ema: {
        "state_dict": {**under("model.", raw), **under("ema_model.module.", ema)}
    },
    "swa": lambda raw, ema: {"net": raw, "swa_net": ema},
}


@pytest.mark.parametrize("form", AVERAGES)
def test_averages_are_told_from_raw_weights(tmp_path: Path, form: str) -> None:
    raw, ema = state(1), state(2)
    path = save(tmp_path, AVERAGES[form](raw, ema))
    assert "--weights raw or --weights ema" in refused(path, mean=MEAN, std=STD).hint
    assert_scores(load(path, mean=MEAN, std=STD, weights="raw"), raw)
    model = load(path, mean=MEAN, std=STD, weights="ema")
    assert_scores(model, ema)
    assert model.info.weights == "ema"


@pytest.mark.parametrize(
    "content",
    [
        lambda a, b: {"student": a, "tutor": b},
        lambda a, b: {**under("one.", a), **under("two.", b)},
    ],
)
def test_two_networks_are_not_chosen_between(
    tmp_path: Path, content: Callable[[State, State], object]
) -> None:
    error = refused(save(tmp_path, content(state(1), state(2))), mean=MEAN, std=STD)
    assert error.code == "E-WEIGHTS"
    assert "different weights" in error.message
    same = state(1)
    assert_scores(load(save(tmp_path, content(same, same)), mean=MEAN, std=STD), same)


# --- normalisation inside the file

VIEW = (1, 3, 1, 1)
WRAPPERS: dict[str, Callable[[State, Tensor, Tensor], State]] = {
    "normalize": lambda w, m, s: {
        "normalize.mean": m.view(VIEW),
        "normalize.std": s.view(VIEW),
        **under("model.", w),
    },
    "beside": lambda w, m, s: {"mean": m, "std": s, **under("model.", w)},
    "sequential": lambda w, m, s: {"0.mean": m.view(3, 1, 1), "0.std": s, **under("1.", w)},
    "robustbench": lambda w, m, s: {"mu": m.view(VIEW), "sigma": s.view(VIEW), **w},
    "madry": lambda w, m, s: {
        **under("module.model.", w),
        **under("module.attacker.model.", w),
        **under("module.normalizer.", {"new_mean": m, "new_std": s}),
        **under("module.attacker.normalize.", {"new_mean": m, "new_std": s}),
    },
}


@pytest.mark.parametrize("form", WRAPPERS)
def test_a_wrappers_normalisation_is_taken_where_none_is_given(tmp_path: Path, form: str) -> None:
    weights = state(1)
    content = WRAPPERS[form](weights, torch.tensor(MEAN), torch.tensor(STD))
    path = save(tmp_path, {"model": content, "epoch": 3})
    model = load(path)
    assert_scores(model, weights)
    assert len(notes(model, "I-NORM")) == 1
    assert "mu" in notes(model, "I-NORM")[0] or "mean" in notes(model, "I-NORM")[0]
    given = load(path, norm_preset="half")
    assert_scores(given, weights, (0.5,) * 3, (0.5,) * 3)
    assert len(notes(given, "W-NORM")) == 1
    assert not notes(load(path, mean=MEAN, std=STD), "W-NORM")


def test_a_normalisation_of_0_to_255_is_proposed_in_other_units(tmp_path: Path) -> None:
    content = {"mean": torch.full((3,), 127.5), "std": torch.full((3,), 51.0)}
    path = save(tmp_path, {**content, **under("model.", state(1))})
    error = refused(path)
    assert error.code == "E-NO-NORM"
    assert "--mean 0.5,0.5,0.5 --std 0.2,0.2,0.2" in error.hint


def test_two_normalisations_that_differ_are_not_chosen_between(tmp_path: Path) -> None:
    content = {"a.mean": torch.full((3,), 0.5), "a.std": torch.full((3,), 0.2)}
    content |= {"b.mean": torch.full((3,), 0.4), "b.std": torch.full((3,), 0.2)}
    assert refused(save(tmp_path, {**content, **under("m.", state(1))})).code == "E-NO-NORM"


# --- strict all the same


def without(weights: State, key: str) -> State:
    return {k: v for k, v in weights.items() if k != key}


@pytest.mark.parametrize("form", ["averaged", "lightning-loss", "backbone", "params", "sharded"])
def test_a_missing_tensor_is_refused_in_every_layout(tmp_path: Path, form: str) -> None:
    build = {"averaged": lambda w: {**under("module.", w), "n_averaged": torch.tensor(1)}}
    content = build.get(form, LAYOUTS[form])(without(state(1), "layer2.0.bn1.bias"))
    error = refused(save(tmp_path, content), mean=MEAN, std=STD)
    assert error.code == "E-STATE-DICT"
    assert "1 missing, 0 unexpected" in error.message
    assert "layer2.0.bn1.bias" in error.message


def test_a_tensor_too_many_among_the_weights_is_refused(tmp_path: Path) -> None:
    content = {**under("model.", state(1)), "model.layer1.0.se.weight": torch.zeros(3)}
    error = refused(save(tmp_path, content), mean=MEAN, std=STD)
    assert "0 missing, 1 unexpected" in error.message


@pytest.mark.parametrize(
    "more",
    [
        {"neck.weight": torch.zeros(64, 64), "classifier.weight": torch.zeros(7, 64)},  # no bias
        {"classifier.0.weight": torch.zeros(64, 64), "classifier.2.weight": torch.zeros(7, 64)},
        {"classifier.weight": torch.zeros(7, 63), "classifier.bias": torch.zeros(7)},
        {"projector.weight": torch.zeros(7, 64), "projector.bias": torch.zeros(7)},
        {
            **{"fc.weight": torch.zeros(7, 64), "fc.bias": torch.zeros(7)},
            **{"head.weight": torch.zeros(9, 64), "head.bias": torch.zeros(9)},
        },
    ],
    ids=["no-bias", "two-layers", "other-features", "projection", "two-heads"],
)
def test_a_doubtful_classifier_is_none(tmp_path: Path, more: State) -> None:
    body = {k: v for k, v in state(1).items() if not k.startswith("fc.")}
    path = save(tmp_path, {**under("backbone.", body), **more})
    assert refused(path, mean=MEAN, std=STD).code == "E-NO-HEAD"


def test_a_contrastive_encoder_is_no_classifier(tmp_path: Path) -> None:
    content = {"state_dict": under("module.encoder_q.", state(1, classes=128))}
    assert refused(save(tmp_path, content), mean=MEAN, std=STD).code == "E-NO-HEAD"


def test_one_channel_is_named(tmp_path: Path) -> None:
    weights = state(1)
    weights["conv1.weight"] = weights["conv1.weight"][:, :1].clone()
    assert "1 channel" in refused(save(tmp_path, weights), mean=MEAN, std=STD).hint


# --- one error for all that is missing


def test_all_that_is_missing_is_asked_for_at_once(tmp_path: Path) -> None:
    path = save(tmp_path, {"state_dict": under("model.", state(1)), "loss": torch.ones(1)})
    with pytest.raises(IntakeError) as caught:
        load_model(path)
    assert caught.value.code == "E-NO-ARCH"
    assert caught.value.message == "model.pth does not say its architecture and normalisation"
    assert f"--arch resnet8-cifar and {CLASSES} classes; pass --norm-preset " in caught.value.hint


def test_an_unknown_network_is_asked_for_its_size_too(tmp_path: Path) -> None:
    path = save(tmp_path, {"a.weight": torch.zeros(4, 4), "a.bias": torch.zeros(4)})
    with pytest.raises(IntakeError) as caught:
        load_model(path)
    assert "architecture, image size and normalisation" in caught.value.message
    assert "robustmix list archs" in caught.value.hint


def test_options_that_errors_name_exist(tmp_path: Path) -> None:
    import re

    import typer

    from robustmix.cli.app import app

    sources = (Path(robustmix.__file__).parent / "models").glob("*.py")
    named = {
        flag
        for source in sources
        for flag in re.findall(r"--[a-z][a-z0-9-]+", source.read_text(encoding="utf-8"))
    }
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    flags = {flag for p in commands["eval"].params for flag in p.opts}
    own = {flag for p in commands["train"].params for flag in p.opts}
    assert named - flags - own == {"--debug"}  # of every command
    assert {"--norm-preset", "--override-checkpoint", "--allow-download"} <= flags


# --- classifiers by what the architecture says


class Hidden(nn.Module):
    """A network whose hidden layer is called as a classifier, and its classifier is not."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * 8 * 8, 11)
        self.last = nn.Linear(11, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.fc(x.flatten(1)).relu())  # type: ignore[no-any-return]


class Fixed(Hidden):
    """A network that has always 5 outputs, two of a tuple."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(5)

    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


@pytest.mark.parametrize(("make", "classes"), [(Hidden, 6), (Fixed, 5)])
def test_the_architecture_tells_its_classifier(
    tmp_path: Path, make: type[Hidden], classes: int
) -> None:
    from robustmix.models.names import ARCHS

    torch.manual_seed(3)
    net = make(6).eval()
    path = save(tmp_path, {"model": under("module.", net.state_dict())})
    with ARCHS.temporary():
        ARCHS.register("hidden", make, "a test's")
        options: Any = {"arch": "hidden", "input_size": (3, 8, 8), "norm_preset": "none"}
        model = load_model(path, **options)
        x = images(2, (3, 8, 8))
        with torch.no_grad():
            torch.testing.assert_close(model(x), Hidden.forward(net, x))
        assert model.num_classes == classes
        assert load_model(path, num_classes=classes, **options).num_classes == classes
        with pytest.raises(IntakeError, match=f"has {classes} classes, expected 9"):
            load_model(path, num_classes=9, **options)
        joined = load_model(path, num_classes=2, class_map=[0, 1, 1], **options)
        assert joined(x).shape == (2, 2)


# --- timm and torchvision

TIMM = "test_vit"


def timm_net(**options: Any) -> nn.Module:
    import timm

    torch.manual_seed(5)
    return timm.create_model(TIMM, num_classes=6, **options).eval()  # type: ignore[no-any-return]


def train_file(net: nn.Module, **args: object) -> dict[str, object]:
    """A checkpoint as timm's ``train.py`` writes it."""
    usual = {"model": TIMM, "num_classes": 6, "img_size": None, "mean": None, "std": None}
    usual |= {"interpolation": "", "crop_pct": None, "model_kwargs": {}, "gp": None, "lr": 0.1}
    return {
        "epoch": 3,
        "arch": TIMM,
        "state_dict": net.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "version": 2,
        "args": argparse.Namespace(**{**usual, **args}),
        "metric": 71.5,
    }


def scored(net: nn.Module, x: Tensor, mean: Any, std: Any) -> Tensor:
    m, s = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    with torch.no_grad():
        return net((x - m) / s)  # type: ignore[no-any-return]


def test_a_checkpoint_of_timms_script_needs_no_option(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    net = timm_net()
    model = load_model(save(tmp_path, train_file(net)))
    usual = timm.data.resolve_data_config({}, pretrained_cfg=net.pretrained_cfg)
    assert model.input_size == usual["input_size"]
    x = images(2, model.input_size)
    torch.testing.assert_close(model(x), scored(net, x, usual["mean"], usual["std"]))
    assert (model.info.arch, model.info.format) == (f"timm:{TIMM}", "torch")
    resize = int(160 / usual["crop_pct"])
    assert model.info.test_transform == f"resize{resize}-bicubic+centercrop160"
    assert not model.info.trusted_pickle


def test_the_scripts_arguments_are_obeyed(tmp_path: Path) -> None:
    net = timm_net(img_size=64, global_pool="avg", class_token=False)
    content = train_file(
        net,
        **{"img_size": 64, "mean": [0.4], "std": [0.2, 0.25, 0.3], "crop_pct": 0.8},
        **{"interpolation": "bilinear", "gp": "avg", "model_kwargs": {"class_token": False}},
    )
    model = load_model(save(tmp_path, content))
    x = images(2, (3, 64, 64))
    torch.testing.assert_close(model(x), scored(net, x, (0.4,) * 3, (0.2, 0.25, 0.3)))
    assert model.info.test_transform == "resize80-bilinear+centercrop64"
    assert model.info.arch_options == {"class_token": False, "global_pool": "avg"}
    error = refused(tmp_path / "model.pth", arch=None, input_size=None, norm_preset="half")
    assert "--norm-preset contradicts model.pth, its args" in error.message
    load_model(tmp_path / "model.pth", norm_preset="half", override_checkpoint=True)


def test_arguments_that_change_the_network_otherwise_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, train_file(timm_net(), model_kwargs={"qk_norm": True}))
    error = refused(path, arch=None, input_size=None)
    assert "qk_norm=True" in error.message
    assert "robustmix.load_model" in error.hint


def test_the_scripts_arguments_are_inert(tmp_path: Path) -> None:
    from robustmix.models.archives import Record

    content = read_archive(save(tmp_path, train_file(timm_net(), eval="x"))).content
    assert isinstance(content, dict)
    args = content["args"]
    assert type(args) is Record
    assert args.values["lr"] == 0.1
    assert args.values["eval"] == "x"


def test_a_checkpoint_of_torchvisions_script(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    net = torchvision.models.squeezenet1_1(num_classes=4).eval()
    args = argparse.Namespace(
        **{"model": "squeezenet1_1", "val_resize_size": 72, "val_crop_size": 64},
        **{"interpolation": "bilinear", "weights": None},
    )
    model = load_model(save(tmp_path, {"model": net.state_dict(), "epoch": 1, "args": args}))
    x = images(2, (3, 64, 64))
    want = scored(net, x, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    torch.testing.assert_close(model(x), want)
    assert model.info.test_transform == "resize72-bilinear+centercrop64"


@pytest.mark.parametrize("safe", [False, True, "both"])
def test_a_folder_for_the_hub_needs_no_option(tmp_path: Path, safe: bool | str) -> None:
    timm = pytest.importorskip("timm")
    net = timm_net(img_size=64)
    data = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.3), "crop_pct": 0.9}
    data |= {"interpolation": "bilinear"}
    timm.models.save_for_hf(
        net,
        tmp_path / "hub",
        model_config={"label_names": list("uvwxyz")},
        safe_serialization=safe,
        data_config=data,
    )
    model = load_model(tmp_path / "hub")
    x = images(2, (3, 64, 64))
    torch.testing.assert_close(model(x), scored(net, x, (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)))
    assert model.info.class_names == tuple("uvwxyz")
    assert model.info.test_transform == "resize71-bilinear+centercrop64"
    assert model.info.format == ("safetensors" if safe else "torch")
    with pytest.raises(IntakeError, match=r"mean and std contradicts .*config\.json"):
        load_model(tmp_path / "hub", mean=MEAN, std=STD)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"architecture": None}, "E-FORMAT"),
        ({"architecture": "test_vit9"}, "E-UNKNOWN-ARCH"),
        ({"num_classes": 7}, "E-CLASSES"),
        ({"model_args": {"depth": 100000}}, "E-ARCH"),
        ({"model_args": {"global_pool": "nonsense"}}, "E-ARCH"),
        ({"model_args": {"img_size": [64, 10**6]}}, "E-INPUT-SIZE"),
        ({"model_args": {"img_size": [64]}}, "E-FORMAT"),
        ({"pretrained_cfg": {"mean": [0, 0, 0], "std": [1, 0, 1]}}, "E-FORMAT"),
        ({"pretrained_cfg": {"input_size": [3, 64, 64]}}, "E-NO-NORM"),
    ],
)
def test_a_folder_that_does_not_fit_its_weights(
    tmp_path: Path, change: dict[str, object], code: str
) -> None:
    import json

    timm = pytest.importorskip("timm")
    timm.models.save_for_hf(timm_net(img_size=64), tmp_path, safe_serialization=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(IntakeError) as caught:
        load_model(tmp_path)
    assert caught.value.code == code
    assert caught.value.exit_code == 3


def test_a_folder_without_weights_or_with_a_broken_description(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architecture": "test_vit"}')
    assert "no weights" in refused(tmp_path).message
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert refused(tmp_path).code == "E-FORMAT"


# --- published weights


def test_published_weights_of_torchvision_bring_their_own_preparation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    for name, want in {
        "IMAGENET1K_V1": "resize256-bilinear+centercrop224",
        "IMAGENET1K_V2": "resize232-bilinear+centercrop224",
    }.items():
        weights = torchvision.models.MobileNet_V2_Weights[name]
        state_dict = torchvision.models.mobilenet_v2(weights=None).state_dict()
        file = tmp_path / "checkpoints" / Path(weights.url).name
        torch.save(state_dict, file)
        monkeypatch.setattr(
            type(weights), "get_state_dict", lambda *_, file=file, **__: torch.load(file)
        )
        model = load_model(f"torchvision:mobilenet_v2@{name}")
        assert model.info.test_transform == want
        other = load_model(f"torchvision:mobilenet_v2@{name}", input_size=(3, 96, 96))
        assert other.info.test_transform is None  # which is of images of another size


def test_published_weights_of_timm_bring_their_own_preparation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm")
    hub = pytest.importorskip("huggingface_hub")
    path = tmp_path / "pytorch_model.bin"
    torch.save(timm.create_model(TIMM).state_dict(), path)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: str(path))
    usual = timm.data.resolve_data_config(
        {}, pretrained_cfg=timm.get_pretrained_cfg(TIMM).to_dict()
    )
    side = usual["input_size"][1]
    resize = int(side / usual["crop_pct"])
    model = load_model(f"timm:{TIMM}@default")
    want = f"resize{resize}-{usual['interpolation']}+centercrop{side}"
    assert model.info.test_transform == want


def test_random_weights_have_no_preparation_of_their_own() -> None:
    model = load_model("robustmix:resnet8", num_classes=3)
    assert model.info.test_transform is None
