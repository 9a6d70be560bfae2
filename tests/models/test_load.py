import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.models.checkpoint import save_checkpoint
from robustmix.models.load import load_model
from robustmix.models.names import NORM_PRESETS
from robustmix.models.robust_model import RobustModel
from robustmix.models.strict import StateMismatchError
from tests.models.builders import (
    CLASSES,
    SIZE,
    CreatesFile,
    checkpoint,
    images,
    network,
    state,
    torch_file,
)

HALF = NORM_PRESETS["half"]
State = dict[str, Tensor]


def save(folder: Path, content: object, name: str = "model.pth") -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def load(path: Path, **options: object) -> RobustModel:
    given: dict[str, object] = {"arch": "resnet8", "norm_preset": "half", **options}
    return load_model(path, **given)  # type: ignore[arg-type]


def refused(path: Path, **options: object) -> RobustmixError:
    with pytest.raises(IntakeError) as caught:
        load(path, **options)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 300
    return caught.value


def assert_scores(model: RobustModel, weights: dict[str, Tensor], arch: str = "resnet8") -> None:
    """The model is the network of these weights, with a normalisation of 0.5 and 0.5."""
    x = images(2, model.input_size)
    with torch.no_grad():
        torch.testing.assert_close(model(x), network(weights, arch)(2 * x - 1))


def prefixed(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in weights.items()}


# --- our own checkpoints


def test_own_checkpoint_needs_no_option(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint(weights="ema", head="one_k"))
    model = load_model(path)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))
    with torch.no_grad():
        torch.testing.assert_close(model(images()), network(state(0))((images() - mean) / std))
    info = model.info
    assert info.source == "best.pth"
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (info.format, info.arch, info.arch_options) == (
        "robustmix",
        "resnet8",
        {"stem": "cifar"},
    )
    assert (info.head, info.weights, info.epoch, info.dataset) == ("one_k", "ema", 2, "digits")
    assert info.class_names == tuple("abcdefg")
    assert info.recipe == checkpoint().recipe
    assert not info.trusted_pickle
    assert info.notes == ()


@pytest.mark.parametrize(
    ("options", "flag", "note"),
    [
        ({"input_size": (3, 16, 20)}, "--img-size", "W-INPUT-SIZE"),
        ({"norm_preset": "half"}, "--norm-preset", "W-NORM"),
        ({"mean": HALF[0], "std": HALF[1]}, "--mean and --std", "W-NORM"),
        ({"resize": 40}, "resize", "W-RESIZE"),
    ],
)
def test_options_that_contradict_a_checkpoint_must_be_meant(
    tmp_path: Path, options: dict[str, Any], flag: str, note: str
) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint(arch_options={"stem": "cifar", "resize": 48}))
    with pytest.raises(IntakeError) as caught:
        load_model(path, **options)
    assert f"{flag} contradicts best.pth" in caught.value.message
    assert caught.value.hint == f"leave {flag} out, or pass --override-checkpoint"
    model = load_model(path, override_checkpoint=True, **options)
    assert [text.split(":")[0] for text in model.info.notes] == [note]


def test_an_overridden_checkpoint_does_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint())
    model = load_model(path, input_size=(3, 16, 20), norm_preset="half", override_checkpoint=True)
    assert_scores(model, state(0))
    assert model.input_size == (3, 16, 20)


def test_options_that_agree_with_a_checkpoint_are_no_contradiction(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint())
    model = load_model(path, input_size=SIZE, mean=(0.4, 0.5, 0.6), std=[0.2, 0.25, 0.3])
    assert model.info.notes == ()


@pytest.mark.parametrize(
    "options", [{"arch": "resnet18"}, {"weights": "ema"}, {"head": "mix_k"}, {"num_classes": 8}]
)
def test_own_checkpoint_contradicted_is_refused(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint())
    with pytest.raises(IntakeError):
        load_model(path, **options)  # type: ignore[arg-type]
    load_model(path, arch="resnet8-cifar", weights="raw", num_classes=CLASSES)


def test_resize_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "best.pth"
    save_checkpoint(path, checkpoint(arch_options={"stem": "cifar", "resize": 48}))
    assert load_model(path).resize == (48, 48)
    assert load_model(path, resize=48).info.notes == ()
    assert load_model(path, resize=40, override_checkpoint=True).resize == (40, 40)


def test_own_checkpoint_of_a_library_architecture(tmp_path: Path) -> None:
    net = load_model("timm:test_vit", num_classes=CLASSES, input_size=(3, 64, 64)).net
    path = tmp_path / "best.pth"
    given = {"arch": "timm:test_vit", "arch_options": {}, "input_size": (3, 64, 64)}
    save_checkpoint(path, checkpoint(0, model=net.state_dict(), **given))
    loaded = load_model(path).net.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in net.state_dict().items())


# --- containers and prefixes

CONTAINERS: dict[str, Callable[[State], object]] = {
    "bare": lambda w: w,
    "state_dict": lambda w: {"state_dict": w, "epoch": 3, "optimizer": {"lr": 0.1}},
    "model_state_dict": lambda w: {"model_state_dict": w, "acc": 0.5},
    "model": lambda w: {"model": w, "arch": "x"},
    "net": lambda w: {"net": w, "acc": 1},
    "network": lambda w: {"network": w, "acc": 1},
    "module": lambda w: {"module": w, "global_step": 1},
    "nested": lambda w: {"model": {"state_dict": w, "note": "x"}, "epoch": 1},
    "order": lambda w: {"model": state(8), "state_dict": w},
    "parallel": lambda w: prefixed("module.", w),
    "compiled": lambda w: prefixed("_orig_mod.", w),
    "lightning": lambda w: {"state_dict": prefixed("model.", w), "pytorch-lightning_version": "2"},
    "all": lambda w: {"state_dict": prefixed("module._orig_mod.net.model.module.", w)},
    "timm_model": lambda w: prefixed("timm_model.", w),
    "half": lambda w: {k: v.half() if v.is_floating_point() else v for k, v in w.items()},
    "no-counters": lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
}


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("form", CONTAINERS)
def test_containers_and_prefixes(tmp_path: Path, form: str, legacy: bool) -> None:
    weights = {k: v.half().float() for k, v in state(1).items()}
    path = tmp_path / "model.pth"
    path.write_bytes(torch_file(CONTAINERS[form](weights), legacy=legacy))
    model = load(path)
    assert_scores(model, weights)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert model.num_classes == CLASSES
    assert model.info.weights == "raw"


EMA_FILES: dict[str, Callable[[State, State], object]] = {
    "state_dict_ema": lambda a, b: {"state_dict": a, "state_dict_ema": b},
    "model_ema": lambda a, b: {"model": a, "model_ema": b, "epoch": 1},
    "ema": lambda a, b: {"model_state_dict": a, "ema": {"state_dict": b, "updates": 4}},
    "mmcv": lambda a, b: {
        "state_dict": {
            **a,
            **{
                "ema_" + k.replace(".", "_"): v
                for k, v in b.items()
                if "weight" in k or "bias" in k
            },
        }
    },
}


@pytest.mark.parametrize("form", EMA_FILES)
def test_raw_and_averaged_weights_need_a_choice(tmp_path: Path, form: str) -> None:
    raw, ema = state(1), state(2)
    if form == "mmcv":  # only parameters are averaged there
        ema = {k: v if "weight" in k or "bias" in k else raw[k] for k, v in ema.items()}
    path = save(tmp_path, EMA_FILES[form](raw, ema))
    error = refused(path)
    assert error.code == "E-WEIGHTS"
    assert "--weights raw" in error.hint
    assert_scores(load(path, weights="raw"), raw)
    assert_scores(load(path, weights="ema"), ema)
    assert load(path, weights="ema").info.weights == "ema"


def test_only_averaged_weights_are_taken_and_recorded(tmp_path: Path) -> None:
    path = save(tmp_path, {"model_ema": state(2), "epoch": 4})
    assert load(path).info.weights == "ema"
    assert refused(path, weights="raw").code == "E-WEIGHTS"


def test_averaged_weights_that_are_not_there(tmp_path: Path) -> None:
    assert "no ema weights" in refused(save(tmp_path, state(0)), weights="ema").message


@pytest.mark.parametrize(
    "content", [{}, {"epoch": 3, "acc": 0.5}, [1, 2], {"state_dict": {}}, None]
)
def test_no_weights(tmp_path: Path, content: object) -> None:
    assert refused(save(tmp_path, content)).code == "E-NO-WEIGHTS"


# --- strictness


@pytest.mark.parametrize("key", ["fc.weight", "conv1.weight", "layer2.0.bn1.running_var"])
def test_trap_06_one_missing_tensor_is_refused(tmp_path: Path, key: str) -> None:
    weights = state(0)
    del weights[key]
    error = refused(save(tmp_path, weights), num_classes=CLASSES)
    assert isinstance(error, StateMismatchError)
    assert "1 missing, 0 unexpected, 0 of other shape" in error.message
    assert f"missing     {key}" in error.table
    assert error.table in str(error)


def test_unexpected_and_misshapen_tensors_are_tabled(tmp_path: Path) -> None:
    weights = state(0)
    weights["layer1.0.conv1.weight"] = torch.zeros(16, 16, 1, 1)
    weights["fc.extra"] = torch.zeros(3)
    weights["bn1.weight"] = torch.zeros(16, dtype=torch.int64)
    error = refused(save(tmp_path, weights))
    assert isinstance(error, StateMismatchError)
    assert "0 missing, 1 unexpected, 2 of other shape" in error.message
    assert "shape       layer1.0.conv1.weight file (16, 16, 1, 1), architecture" in error.table
    assert len(error.table.splitlines()) == 3


@pytest.mark.parametrize(("stem", "size", "other"), [("cifar", 32, 224), ("imagenet", 224, 32)])
def test_trap_07_a_file_with_the_other_stem(
    tmp_path: Path, stem: str, size: int, other: int
) -> None:
    arch = f"resnet18-{stem}"
    weights = state(0, arch)
    path = save(tmp_path, weights)
    error = refused(path, arch="resnet18", input_size=(3, other, other))
    assert "conv1.weight" in error.message
    assert f"pass --arch {arch}" in error.hint
    assert_scores(load(path, arch=arch, input_size=(3, 40, 33)), weights, arch)
    # The file chooses the stem where neither the name nor the size does.
    model = load(path, arch="resnet18")
    assert model.info.arch_options == {"stem": stem}
    assert model.input_size == (3, size, size)
    assert "W-INPUT-SIZE" in model.info.notes[-1]


def test_architecture_is_inferred_to_be_suggested_only(tmp_path: Path) -> None:
    error = refused(save(tmp_path, state(0)), arch=None)
    assert error.code == "E-NO-ARCH"
    assert error.hint == f"its tensors look like --arch resnet8-cifar and {CLASSES} classes"


def test_wrong_architecture_names_the_likely_one(tmp_path: Path) -> None:
    path = save(tmp_path, state(0))
    assert "--arch resnet8-cifar" in refused(path, arch="resnet18").hint


def test_classes_must_agree(tmp_path: Path) -> None:
    error = refused(save(tmp_path, state(0)), num_classes=10)
    assert f"has {CLASSES} classes, expected 10" in error.message
    assert "--class-map" in error.hint


def test_a_backbone_alone_cannot_be_scored(tmp_path: Path) -> None:
    backbone = {k: v for k, v in state(0).items() if not k.startswith("fc.")}
    assert refused(save(tmp_path, prefixed("encoder_q.", backbone))).code == "E-NO-HEAD"
    assert refused(save(tmp_path, backbone), num_classes=7).code == "E-NO-HEAD"


# --- normalisation


def test_unknown_normalisation_is_asked_for(tmp_path: Path) -> None:
    error = refused(save(tmp_path, state(0)), norm_preset=None)
    assert error.code == "E-NO-NORM"
    assert "--norm-preset" in error.hint


def test_mean_and_std_are_used(tmp_path: Path) -> None:
    model = load(save(tmp_path, state(0)), norm_preset=None, mean=HALF[0], std=HALF[1])
    assert_scores(model, state(0))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"norm_preset": None, "mean": HALF[0]}, "E-NORM"),
        ({"mean": HALF[0], "std": HALF[1]}, "E-NORM"),
        ({"norm_preset": "cifar-100"}, "E-UNKNOWN-NORM-PRESET"),
        ({"weights": "averaged"}, "E-WEIGHTS"),
        ({"head": "k_one"}, "E-UNKNOWN-HEAD"),
        ({"arch": "resnet19"}, "E-UNKNOWN-ARCH"),
        ({"expect_sha256": "abc"}, "E-CHECKSUM"),
    ],
)
def test_options_that_cannot_be_meant(
    tmp_path: Path, options: dict[str, object], code: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load(save(tmp_path, state(0)), **options)
    assert caught.value.code == code


# --- OpenMixup


def momentum_file(**changes: dict[str, Tensor]) -> dict[str, object]:
    """A file as the momentum methods leave it, every part with weights of its own."""
    parts = {"backbone_q": state(1), "backbone_k": state(2)}
    heads = {"one_q": 3, "mix_q": 4, "one_k": 5, "mix_k": 6}
    content: dict[str, Tensor] = {"mix_block.conv_q.conv.weight": torch.zeros(2, 2, 1, 1)}
    for name, weights in parts.items():
        content |= prefixed(f"{name}.", {k: v for k, v in weights.items() if "fc" not in k})
    for name, seed in heads.items():
        for key in ("weight", "bias"):
            content[f"head_{name}.fc.{key}"] = state(seed)[f"fc.{key}"]
    for alias, owner in (("backbone.", "backbone_k."), ("head.", "head_one_k.")):
        content |= {
            alias + k.removeprefix(owner): v for k, v in content.items() if k.startswith(owner)
        }
    for part, values in changes.items():
        content = {k: v for k, v in content.items() if not k.startswith(f"{part}.")}
        content |= prefixed(f"{part}.", values)
    return {"meta": {"epoch": 200, "mmcv_version": "1.7.1"}, "state_dict": content}


def expected_part(encoder_seed: int, head_seed: int) -> dict[str, Tensor]:
    head = {k: v for k, v in state(head_seed).items() if k.startswith("fc.")}
    return {**state(encoder_seed), **head}


@pytest.mark.parametrize(
    ("head", "encoder_seed", "head_seed"),
    [(None, 2, 5), ("one_k", 2, 5), ("mix_k", 2, 6), ("one_q", 1, 3), ("mix_q", 1, 4)],
)
def test_trap_05_each_head_goes_with_its_encoder(
    tmp_path: Path, head: str | None, encoder_seed: int, head_seed: int
) -> None:
    model = load(save(tmp_path, momentum_file()), head=head)
    assert_scores(model, expected_part(encoder_seed, head_seed))
    assert (model.info.head, model.info.format) == (head or "one_k", "openmixup")
    assert any("mix_block" in note for note in model.info.notes)


def test_default_normalisation_of_openmixup_files(tmp_path: Path) -> None:
    path = save(tmp_path, momentum_file())
    small = load(path, norm_preset=None)
    assert small.std.flatten().tolist() == pytest.approx([0.2023, 0.1994, 0.2010])
    assert any("openmixup-cifar" in note for note in small.info.notes)
    tiny = load(path, norm_preset=None, input_size=(3, 64, 64))
    assert tiny.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert not any("I-NORM" in note for note in load(path).info.notes)


@pytest.mark.parametrize("alias", ["backbone", "head"])
def test_unequal_aliases_are_refused(tmp_path: Path, alias: str) -> None:
    content = momentum_file()
    tensors = content["state_dict"]
    assert isinstance(tensors, dict)
    key = next(k for k in tensors if k.startswith(f"{alias}.") and k.endswith("weight"))
    tensors[key] = tensors[key] + 1
    error = refused(save(tmp_path, content))
    assert error.code == "E-ALIAS"
    assert key in error.message


def test_an_alias_stands_in_for_what_it_names(tmp_path: Path) -> None:
    content = momentum_file(backbone_k={}, head_one_k={})
    assert_scores(load(save(tmp_path, content)), expected_part(2, 5))


def test_files_without_aliases(tmp_path: Path) -> None:
    content = momentum_file(backbone={}, head={})
    assert_scores(load(save(tmp_path, content)), expected_part(2, 5))


@pytest.mark.parametrize(
    ("missing", "head"), [("backbone_q", "one_q"), ("head_mix_k", "mix_k"), ("head_one_q", "one_q")]
)
def test_a_head_that_is_not_there(tmp_path: Path, missing: str, head: str) -> None:
    changes: dict[str, dict[str, Tensor]] = {missing: {}}
    error = refused(save(tmp_path, momentum_file(**changes)), head=head)
    assert error.code == "E-HEAD"
    assert missing in error.message


@pytest.mark.parametrize("linear", ["fc", "fc_cls", "layers.head"])
def test_names_of_the_linear_layer(tmp_path: Path, linear: str) -> None:
    head = {k.replace("fc", linear): v for k, v in state(1).items() if "fc" in k}
    backbone = {k: v for k, v in state(1).items() if "fc" not in k}
    content = {**prefixed("backbone.", backbone), **prefixed("head.", head)}
    model = load(save(tmp_path, {"meta": {}, "state_dict": content}), norm_preset="half")
    assert_scores(model, state(1))
    assert model.info.head is None


def test_a_plain_openmixup_file_has_no_heads_to_choose(tmp_path: Path) -> None:
    content = {f"backbone.{k}" if "fc" not in k else f"head.{k}": v for k, v in state(1).items()}
    assert "single head" in refused(save(tmp_path, content), head="mix_k").message
    assert "single head" in refused(save(tmp_path, state(1)), head="one_k").message


def test_a_head_of_several_layers_is_refused(tmp_path: Path) -> None:
    content = momentum_file(head_mix_k={"mlp.0.weight": torch.ones(2, 2)})
    assert "no linear classifier" in refused(save(tmp_path, content), head="mix_k").message


def test_average_of_heads_is_not_supported(tmp_path: Path) -> None:
    error = refused(save(tmp_path, momentum_file()), head="avg")
    assert "not supported" in error.message
    assert "one_k" in error.hint


# --- safetensors


def test_safetensors_with_and_without_a_header(tmp_path: Path) -> None:
    bare, full = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(state(3), bare)
    assert_scores(load(bare), state(3))
    assert refused(bare, arch=None).code == "E-NO-ARCH"
    header = {
        "arch": "resnet8",
        "input_size": json.dumps([3, 32, 32]),
        "mean": json.dumps(HALF[0]),
        "std": json.dumps(HALF[1]),
    }
    save_file(state(3), full, metadata=header)
    assert_scores(load_model(full), state(3))
    assert load_model(full).info.format == "safetensors"


@pytest.mark.parametrize("value", ["half", "[0.5, 0.5]", '["a", "b", "c"]', "{}"])
def test_a_safetensors_header_of_another_form_is_refused(tmp_path: Path, value: str) -> None:
    path = tmp_path / "a.safetensors"
    save_file(state(3), path, metadata={"arch": "resnet8", "mean": value, "std": value})
    with pytest.raises(IntakeError, match="header"):
        load_model(path)


# --- integrity


def test_expected_digest(tmp_path: Path) -> None:
    path = save(tmp_path, state(0))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(path, expect_sha256=digest.upper()).info.sha256 == digest
    assert refused(path, expect_sha256="0" * 64).code == "E-CHECKSUM"


def test_a_digest_in_the_name_is_checked(tmp_path: Path) -> None:
    plain = save(tmp_path, state(0))
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    good = tmp_path / f"resnet8-{digest[:8]}.pth"
    good.write_bytes(plain.read_bytes())
    load(good)
    bad = tmp_path / "resnet8-0bad0bad.pth"
    bad.write_bytes(plain.read_bytes())
    assert refused(bad).code == "E-CHECKSUM"
    dated = tmp_path / "run-20240131.pth"
    dated.write_bytes(plain.read_bytes())
    load(dated)


def test_non_finite_weights(tmp_path: Path) -> None:
    weights = state(0)
    weights["fc.bias"][2] = torch.nan
    assert refused(save(tmp_path, weights)).code == "E-NONFINITE-WEIGHTS"


def test_no_file() -> None:
    assert refused(Path("no-such-file.pth")).code == "E-NO-FILE"


def test_a_hostile_file_runs_only_when_trusted(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "model.pth"
    path.write_bytes(torch_file({"state_dict": state(0), "x": CreatesFile(trace)}))
    assert refused(path).code == "E-UNSAFE-PICKLE"
    assert not trace.exists()
    model = load(path, trust_checkpoint=True)
    assert trace.exists()
    assert model.info.trusted_pickle
    assert "W-TRUSTED-PICKLE" in model.info.notes[-1]


def test_a_trusted_pickled_module_is_read_for_its_weights(tmp_path: Path) -> None:
    path = save(tmp_path, {"model": network(state(4)), "epoch": 1})
    assert refused(path).code == "E-UNSAFE-PICKLE"
    assert_scores(load(path, trust_checkpoint=True), state(4))


# --- class maps


def test_class_map_from_a_file_and_a_sequence(tmp_path: Path) -> None:
    path = save(tmp_path, state(0))
    table = tmp_path / "map.csv"
    table.write_text("0,1\n2,0\n3,1\n")
    plain = load(path)(images()).double()
    expected = torch.stack([plain[:, 2], plain[:, [0, 3]].logsumexp(1)], dim=1)
    for given in (table, str(table), [1, -1, 0, 1]):
        model = load(path, class_map=given, num_classes=2)
        torch.testing.assert_close(model(images()).double(), expected, rtol=1e-5, atol=1e-5)
        assert model.num_classes == 2
        assert model.info.class_map_sha256 is not None


def test_class_map_by_names(tmp_path: Path) -> None:
    path = save(tmp_path, state(0))
    table = tmp_path / "map.csv"
    table.write_text("\n".join("gfedcba"))
    model = load(path, class_map=table, class_names=list("abcdefg"))
    assert torch.equal(model(images()), load(path)(images()).flip(1))


@pytest.mark.parametrize(
    ("labels", "classes"), [([0] * 8, None), ([0, 1, 2], 4), ([0, 2], None), ([0, 1, 5], 3)]
)
def test_impossible_class_maps(tmp_path: Path, labels: list[int], classes: int | None) -> None:
    refused(save(tmp_path, state(0)), class_map=labels, num_classes=classes)


# --- modules and names


def test_a_module_is_copied_and_left_as_it_was() -> None:
    net = network(state(5)).train().half()
    model = load_model(net, norm_preset="half", input_size=SIZE)
    assert_scores(
        model, {k: v.half().float() if v.is_floating_point() else v for k, v in state(5).items()}
    )
    assert net.training
    assert all(p.requires_grad and p.dtype == torch.float16 for p in net.parameters())
    assert (model.info.format, model.info.arch) == ("module", "ResNet")


def test_a_module_must_come_with_its_facts() -> None:
    net = network(state(5))
    with pytest.raises(IntakeError, match="its normalisation; pass norm_preset"):
        load_model(net, input_size=SIZE)
    with pytest.raises(IntakeError, match=r"its image size; pass input_size=\(3, H, W\)"):
        load_model(net, norm_preset="half")
    with pytest.raises(IntakeError, match=r"size and normalisation; .*H, W\); pass norm_"):
        load_model(net)


def test_a_robust_model_is_returned_as_it_is() -> None:
    model = load_model(network(state(5)), norm_preset="half", input_size=SIZE)
    assert load_model(model) is model


def test_names_have_random_weights_and_say_so() -> None:
    model = load_model("robustmix:resnet8", num_classes=5, norm_preset="half")
    assert model.info.notes[0].startswith("W-RANDOM-INIT")
    assert (model.info.arch, model.info.format) == ("resnet8", "robustmix")
    assert model.input_size == (3, 32, 32)
    again = load_model("robustmix:resnet8", num_classes=5, norm_preset="half")
    assert torch.equal(model(images()), again(images()))


@pytest.mark.parametrize(
    ("source", "options", "kind", "text"),
    [
        ("robustmix:resnet8", {}, UsageError, "needs num_classes"),
        ("robustmix:resnet88", {"num_classes": 3}, UsageError, "did you mean 'resnet8'?"),
        ("robustmix:resnet8@default", {"num_classes": 3}, UsageError, "publishes no weights"),
        ("robustmix:resnet8", {"num_classes": 3, "arch": "resnet18"}, UsageError, "architecture"),
        ("torchvision:resnet18@NONE", {}, UsageError, "unknown weights 'NONE'"),
        ("torchvision:resnet188@default", {}, UsageError, "torchvision:resnet18"),
        ("torchvision:resnet18@default", {}, IntakeError, "allow_download"),
        ("timm:resnet18@default", {}, IntakeError, "allow_download"),
        ("timm:resnet18@a1_in1k", {}, IntakeError, "allow_download"),
        ("timm:resnet18@a9_in1k", {}, UsageError, "did you mean"),
        ("timm:resnet18.a1_in1k", {"num_classes": 1000}, IntakeError, "allow_download"),
    ],
)
def test_names_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    source: str,
    options: dict[str, object],
    kind: type[RobustmixError],
    text: str,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(kind) as caught:
        load_model(source, **options)  # type: ignore[arg-type]
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
