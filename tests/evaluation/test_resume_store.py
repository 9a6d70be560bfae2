import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.errors import IncompatibleError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.resume_store import Kept, Unit, UnitStore
from robustmix.evaluation.suites.corruption import Corruption
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import tiny_images, tiny_model

IDENTITY = {"run": "r", "fgsm": "f", "pgd": "p"}
IDS = ("a", "b", "c", "d", "e")
UNIT = Unit("fgsm", "sweep-t0", 1, IDS)
ROWS: dict[str, Any] = {
    "8/255|pred": np.array([3, 1, 4, 1, 5]), "8/255|logits": np.arange(10.0).reshape(5, 2),
}  # fmt: skip


def opened(folder: Path, identity: dict[str, str] = IDENTITY) -> UnitStore:
    store = UnitStore(folder / "units")
    store.open(identity, resume=True)
    return store


def cut(rows: dict[str, Any], n: int) -> dict[str, Any]:
    return {name: array[:n] for name, array in rows.items()}


def test_a_unit_comes_back_as_it_was(tmp_path: Path) -> None:
    opened(tmp_path).put(UNIT, Kept(5, ROWS))
    found = opened(tmp_path).get(UNIT)
    assert found is not None
    assert found.n == 5
    assert list(found.arrays) == list(ROWS)
    for name, array in ROWS.items():
        assert np.array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype


def test_a_part_of_a_unit_is_kept_and_known_as_one(tmp_path: Path) -> None:
    opened(tmp_path).put(UNIT, Kept(2, cut(ROWS, 2)))
    found = opened(tmp_path).get(UNIT)
    assert found is not None
    assert found.n == 2
    assert found.arrays["8/255|pred"].tolist() == [3, 1]


@pytest.mark.parametrize(
    ("unit", "identity"),
    [
        (UNIT._replace(sample_ids=("a", "b", "c", "d", "x")), IDENTITY),
        (UNIT._replace(sample_ids=("b", "a", "c", "d", "e")), IDENTITY),
        (UNIT._replace(sample_ids=IDS[:4]), IDENTITY),
        (UNIT, IDENTITY | {"run": "another"}),
        (UNIT, IDENTITY | {"fgsm": "another"}),
    ],
)
def test_a_unit_of_others_is_none(tmp_path: Path, unit: Unit, identity: dict[str, str]) -> None:
    """Also where what they belong to cannot be read: each unit says it itself."""
    opened(tmp_path).put(UNIT, Kept(5, ROWS))
    (tmp_path / "units" / "identity.json").write_text("")
    assert opened(tmp_path, identity).get(unit) is None
    assert opened(tmp_path / "elsewhere", identity).get(unit) is None


def test_a_unit_under_another_name_is_none(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put(UNIT, Kept(5, ROWS))
    for other in (UNIT._replace(block=2), UNIT._replace(suite="pgd")):
        target = store._path(other)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(store._path(UNIT).read_bytes())
        assert store.get(other) is None


def resaved(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Write a unit again with its arrays changed, whole and readable."""

    def damage(path: Path) -> None:
        with np.load(path) as file:
            arrays = dict(file)
        change(arrays)
        with open(path, "wb") as out:
            np.savez(out, **arrays)

    return damage


def shortened(arrays: dict[str, Any]) -> None:
    for name in ROWS:
        arrays[name] = arrays[name][:3]


def flipped(arrays: dict[str, Any]) -> None:
    arrays["8/255|pred"] = arrays["8/255|pred"][::-1]


def retyped(arrays: dict[str, Any]) -> None:
    arrays["8/255|pred"] = arrays["8/255|pred"].astype(np.int32)


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "shortened": resaved(shortened),
    "a column less": resaved(lambda arrays: arrays.pop("8/255|pred")),
    "a column more": resaved(lambda arrays: arrays.update({"8/255|x": np.zeros(5)})),
    "no column": resaved(lambda arrays: [arrays.pop(name) for name in ROWS]),
    "no seal": resaved(lambda arrays: arrays.pop("|seal")),
    "a number for a seal": resaved(lambda arrays: arrays.update({"|seal": np.array(3.0)})),
    "a long count": resaved(
        lambda arrays: arrays.update({"|seal": np.array([arrays["|seal"][0], "9" * 5000])})
    ),
    "other values": resaved(flipped),
    "another type": resaved(retyped),
    "dates": resaved(lambda arrays: arrays.update({"8/255|pred": np.zeros(5, "datetime64[s]")})),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "text": lambda path: path.write_text("null"),
    "a folder": replaced_by_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_unit_is_none_and_made_again(tmp_path: Path, damage: str) -> None:
    store = opened(tmp_path)
    store.put(UNIT, Kept(5, ROWS))
    path = store._path(UNIT)
    DAMAGES[damage](path)
    assert store.get(UNIT) is None


MARKERS = [b"", bytes(64), b"[]", b"null", b"3", b'{"run": [1]}', b"{", b"\xff\xfe", b"[" * 100_000]


@pytest.mark.parametrize("marker", MARKERS, ids=range(len(MARKERS)))
def test_what_a_power_cut_leaves_of_the_marker_loses_no_work(tmp_path: Path, marker: bytes) -> None:
    suites: list[Any] = [Corruption(corruptions="fog", severity=(1, 2))]
    whole = evaluate(tiny_model(), tiny_images(40), suites)
    evaluate(tiny_model(), tiny_images(40), suites, out=tmp_path, should_stop=Stop(4))
    path = tmp_path / "units" / "identity.json"
    recorded = json.loads(path.read_text())
    path.write_bytes(marker)
    if marker == b'{"run": [1]}':  # readable, and of another evaluation
        with pytest.raises(IncompatibleError, match="another model, data or seed"):
            evaluate(tiny_model(), tiny_images(40), suites, out=tmp_path, resume=True)
        return
    with pytest.raises(UsageError, match="unfinished evaluation"):
        evaluate(tiny_model(), tiny_images(40), suites, out=tmp_path)
    again = evaluate(
        tiny_model(), tiny_images(40), suites, out=tmp_path, resume=True, should_stop=Stop(4)
    )
    assert json.loads(path.read_text()) == recorded
    assert again.content.run.resumed_units == 2  # clean, and fog at severity 1
    done = evaluate(tiny_model(), tiny_images(40), suites, out=tmp_path, resume=True)
    assert comparable(done) == comparable(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "samples.npz"]


def test_units_of_a_removed_marker_are_not_mixed_with_another_run(tmp_path: Path) -> None:
    """As a kill within ``--force`` of an older version could leave them."""
    evaluate(tiny_model(), tiny_images(40), ["clean", "fgsm"], out=tmp_path, should_stop=Stop(3))
    (tmp_path / "units" / "identity.json").unlink()
    other = tiny_images(40, seed=5)
    found = evaluate(tiny_model(), other, ["clean"], out=tmp_path, resume=True)
    assert found.content.run.resumed_units == 0
    assert comparable(found) == comparable(evaluate(tiny_model(), other, ["clean"]))
