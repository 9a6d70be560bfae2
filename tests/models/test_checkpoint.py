import contextlib
import math
from collections import OrderedDict
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustmix.errors import IntakeError
from robustmix.models.checkpoint import (
    FORMAT_VERSION,
    Checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from tests.models.builders import CreatesFile, RunsCommand, checkpoint, state, torch_file


def raw(**changes: object) -> dict[str, Any]:
    """Return the content of a file, changed by hand; a value of ... removes the field."""
    base = checkpoint()
    content: dict[str, Any] = {"format_version": FORMAT_VERSION}
    content |= {f.name: getattr(base, f.name) for f in fields(base)} | changes
    return {name: value for name, value in content.items() if value is not ...}


def written(folder: Path, content: object) -> Path:
    path = folder / "last.pth"
    torch.save(content, path)
    return path


def assert_same(a: object, b: object) -> None:
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor)
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert isinstance(b, dict)
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    else:
        assert a == b
        assert type(a) is type(b)


def test_round_trip_keeps_every_field(tmp_path: Path) -> None:
    original = checkpoint(weights="ema", head="one_k")
    save_checkpoint(tmp_path / "a" / "last.pth", original)
    assert_same(asdict(read_checkpoint(tmp_path / "a" / "last.pth")), asdict(original))
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["last.pth"]


def test_the_file_loads_weights_only(tmp_path: Path) -> None:
    resume = {
        "rng": {"philox": 2**127 + 1, "torch": torch.get_rng_state()},
        "betas": (0.9, 0.999),
        "best": math.inf,
        "flags": [True, None, "x"],
    }
    save_checkpoint(tmp_path / "last.pth", checkpoint(resume=resume))
    content = torch.load(tmp_path / "last.pth", weights_only=True)
    assert content["format_version"] == FORMAT_VERSION
    assert_same(content["resume"], resume)


def test_a_view_does_not_drag_its_storage_along(tmp_path: Path) -> None:
    model = state(0)
    model["bn1.weight"] = torch.zeros(10**6)[:16]
    save_checkpoint(tmp_path / "last.pth", checkpoint(model=model, resume=None))
    assert (tmp_path / "last.pth").stat().st_size < 10**6
    assert read_checkpoint(tmp_path / "last.pth").resume is None


def test_parameters_and_ordered_dicts_are_stored_as_plain_ones(tmp_path: Path) -> None:
    model = OrderedDict(
        (k, torch.nn.Parameter(v, v.is_floating_point())) for k, v in state(1).items()
    )
    save_checkpoint(tmp_path / "last.pth", checkpoint(model=model))
    assert_same(read_checkpoint(tmp_path / "last.pth").model, state(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": {"top1": np.float64(0.5)}}, r"metrics\.top1 is numpy\.float64"),
        ({"metrics": {"top1": math.nan}}, r"metrics\.top1 is nan"),
        ({"recipe": {"lr": {"base": np.float32(1)}}}, r"recipe\.lr\.base is numpy\.float32"),
        ({"recipe": {"out": Path("x")}}, r"recipe\.out is pathlib"),
        ({"recipe": {"weight": torch.zeros(1)}}, r"JSON-like values only, but recipe\.weight"),
        ({"recipe": {("a",): 1}}, "key of recipe is tuple"),
        ({"run_id": np.str_("a")}, r"run_id is numpy\.str_"),
        ({"epoch": np.int64(3)}, r"epoch is numpy\.int64"),
        ({"resume": {"a": [1, np.zeros(2)]}}, r"resume\.a\[1\] is numpy\.ndarray"),
        ({"resume": {"generator": torch.Generator()}}, "resume.generator is torch"),
        ({"num_classes": True}, r"num_classes should be a positive integer"),
        ({"mean": (0.5, 0.5)}, "mean should be 3 numbers"),
        ({"class_names": ("a",)}, "class_names has 1 entries for 7"),
        ({"model": {}}, "model holds no tensors"),
    ],
)
def test_what_would_not_load_is_not_written(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        save_checkpoint(tmp_path / "last.pth", checkpoint(0, **changes))
    assert not any(tmp_path.iterdir())


def test_a_failed_save_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, checkpoint())
    before = path.read_bytes()
    with pytest.raises(ValueError, match="numpy"):
        save_checkpoint(path, checkpoint(metrics={"x": np.float64(1)}))
    assert path.read_bytes() == before


def refused(path: Path) -> IntakeError:
    with pytest.raises(IntakeError) as caught:
        read_checkpoint(path)
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.line()
    assert len(caught.value.line()) < 300
    return caught.value


def test_only_a_checkpoint_with_foreign_parts_says_so(tmp_path: Path) -> None:
    plugin = {"kind": "method", "name": "mine", "module": "my_mix", "version": "1.2"}
    for name, plugins in (("without.pth", ()), ("with.pth", (plugin,))):
        save_checkpoint(tmp_path / name, checkpoint(plugins=plugins))
        content = torch.load(tmp_path / name, weights_only=True)
        assert content.get("plugins") == (plugins or None)
        assert read_checkpoint(tmp_path / name).plugins == plugins


@pytest.mark.parametrize(
    "name", [f.name for f in fields(Checkpoint) if f.name not in ("plugins", "raw")]
)
def test_every_missing_field_is_named(tmp_path: Path, name: str) -> None:
    assert f"{name} is missing" in str(refused(written(tmp_path, raw(**{name: ...}))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("arch", 3),
        ("arch", "resnet9000"),
        ("arch_options", {"stem": [1]}),
        ("method", None),
        ("num_classes", "7"),
        ("num_classes", 0),
        ("num_classes", 10**9),
        ("input_size", (3, 32)),
        ("input_size", (3, 32, -1)),
        ("mean", (0.5, math.nan, 0.5)),
        ("mean", (10**400, 0.5, 0.5)),
        ("std", (0.5, 0.0, 0.5)),
        ("class_names", "abcdefg"),
        ("class_names", ["a", "b"]),
        ("dataset", 1),
        ("recipe", [1]),
        ("recipe", {"tensor": torch.zeros(2)}),
        ("run_id", 5),
        ("epoch", -1),
        ("epoch", 1.5),
        ("metrics", {3: 1}),
        ("model", {"fc.weight": [1.0]}),
        ("model", {}),
        ("weights", "averaged"),
        ("head", 1),
        ("plugins", [{"kind": "arch", "name": "mine"}]),
        ("plugins", [{"kind": "arch", "name": "mine", "module": "m", "version": 3}]),
        ("plugins", {}),
        ("resume", "no"),
        ("format_version", "1"),
        ("format_version", 0),
        ("format_version", True),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, name: str, value: object) -> None:
    if (name, value) == ("arch", "resnet9000"):
        assert read_checkpoint(written(tmp_path, raw(arch=value))).arch == value  # intake's matter
    else:
        refused(written(tmp_path, raw(**{name: value})))


def test_a_list_that_contains_itself_is_refused(tmp_path: Path) -> None:
    loop: list[object] = []
    loop.append(loop)
    refused(written(tmp_path, raw(recipe={"loop": loop})))


def test_newer_format_asks_for_an_upgrade(tmp_path: Path) -> None:
    error = refused(written(tmp_path, raw(format_version=FORMAT_VERSION + 1)))
    assert error.code == "E-NEWER-FORMAT"
    assert "upgrade robustmix" in error.hint


def test_class_count_must_fit_the_classifier(tmp_path: Path) -> None:
    content = raw(num_classes=6, class_names=[])
    assert "num_classes is 6 but its classifier has 7" in str(refused(written(tmp_path, content)))


@pytest.mark.parametrize("weight", [None, torch.ones(7), torch.ones(7, 64, 1, 1)])
def test_a_checkpoint_without_a_classifier_is_told_as_such(
    tmp_path: Path, weight: torch.Tensor | None
) -> None:
    content = raw()
    del content["model"]["fc.weight"]
    if weight is not None:
        content["model"]["fc.weight"] = weight
    told = str(refused(written(tmp_path, content)))
    n = len(content["model"])
    assert f"none of its {n} tensors is the matrix of a classifier, such as fc.weight" in told


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_weights_are_named(tmp_path: Path, value: float) -> None:
    model = state(0)
    model["layer2.0.bn1.running_var"][3] = value
    error = refused(written(tmp_path, raw(model=model)))
    assert error.code == "E-NONFINITE-WEIGHTS"
    assert "layer2.0.bn1.running_var" in error.message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, checkpoint())
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert refused(path).code in ("E-DAMAGED", "E-FORMAT")


def test_flipped_bytes_never_escape_as_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_checkpoint(path, checkpoint(resume=None))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for position in rng.integers(0, len(data), 40):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        with contextlib.suppress(IntakeError):
            read_checkpoint(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.pth").code == "E-NO-FILE"
    (tmp_path / "checkpoints").mkdir()
    save_checkpoint(tmp_path / "checkpoints" / "last.pth", checkpoint())
    assert "last.pth" in refused(tmp_path).hint


def test_a_foreign_file_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    assert "not a robustmix checkpoint" in str(refused(written(tmp_path, state(0))))


@pytest.mark.parametrize("bomb", [CreatesFile, RunsCommand])
@pytest.mark.parametrize("legacy", [False, True])
def test_reading_never_runs_what_the_file_says(
    tmp_path: Path, bomb: type[CreatesFile], legacy: bool
) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "last.pth"
    path.write_bytes(torch_file(raw(recipe={"x": bomb(trace)}), legacy=legacy))
    assert refused(path).code == "E-UNSAFE-PICKLE"
    assert not trace.exists()
