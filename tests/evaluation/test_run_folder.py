"""One evaluation a folder, and nothing but its report in it when all is done."""

import os
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import IncompatibleError, IncompleteError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.progress import Silence
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.locks import run_lock
from robustmix.runs import evaluation_folder
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import tiny_images, tiny_model

SUITES: list[Any] = ["clean", attack("fgsm", sweep=())]


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_two_at_once_are_not_mixed(tmp_path: Path) -> None:
    """The second begins while the first is at work, is refused, and changes nothing."""
    met: list[IncompleteError] = []

    class Second(Silence):
        def start(self, suite: str, total: int) -> None:
            ways: list[dict[str, Any]] = [{}, {"resume": True}, {"force": True}]
            for how in ways:
                before = listing(tmp_path)
                with pytest.raises(IncompleteError, match="another run is working in") as caught:
                    evaluate(tiny_model(), tiny_images(seed=3), ["clean"], out=tmp_path, **how)
                met.append(caught.value)
                assert listing(tmp_path) == before

    first = evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path, progress=Second())
    assert [error.code for error in met] == ["E-BUSY"] * 6
    assert comparable(first) == comparable(evaluate(tiny_model(), tiny_images(), SUITES))
    assert listing(tmp_path) == ["report.json", "samples.npz"]


def test_a_folder_is_free_again_after_a_stop_and_after_an_error(tmp_path: Path) -> None:
    evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path, should_stop=Stop(3))
    with pytest.raises(UsageError, match="unfinished evaluation"):
        evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path)
    with run_lock(tmp_path):
        pass
    assert ".lock" not in listing(tmp_path)


def test_what_a_kill_after_the_report_left_is_cleared_away(tmp_path: Path) -> None:
    whole = evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path)
    evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path / "b", should_stop=Stop(3))
    os.rename(tmp_path / "b" / "units", tmp_path / "units")
    for left in (".report.json.abcdefgh.tmp", "units/fgsm/.sweep-t0-00000.npz.a1b2c3d4.tmp"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).write_bytes(b"half")
    with pytest.raises(UsageError, match="add resume to continue it"):
        evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path)
    again = evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path, resume=True)
    assert again.content.run.id == whole.content.run.id
    assert [name for name in listing(tmp_path) if not name.startswith("b")] == [
        "report.json", "samples.npz",
    ]  # fmt: skip


def test_samples_newer_than_the_report_do_not_end_the_evaluation(tmp_path: Path) -> None:
    """A kill between the two files leaves the record of the new report beside the old one."""
    other: list[Any] = ["clean", Occlusion(ratios=(0.5,), trials=1)]  # type: ignore[arg-type]
    evaluate(tiny_model(), tiny_images(), other, out=tmp_path)
    with pytest.raises(IncompatibleError):
        evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path, resume=True)
    old = (tmp_path / "report.json").read_bytes()
    whole = evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path, force=True)
    evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path / "b", should_stop=Stop(3))
    os.rename(tmp_path / "b" / "units", tmp_path / "units")
    (tmp_path / "report.json").write_bytes(old)
    done = evaluate(tiny_model(), tiny_images(), SUITES, out=tmp_path, resume=True)
    assert comparable(done) == comparable(whole)
    assert done.content.run.resumed_units > 0


def test_a_place_that_is_no_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("x" * 300)):
        with pytest.raises(IncompleteError, match="cannot write") as caught:
            evaluate(tiny_model(), tiny_images(), ["clean"], out=out)
        assert caught.value.code == "E-WRITE"
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_resumed_without_a_folder_is_the_latest_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTMIX_RUNS", str(tmp_path))
    today = evaluation_folder("last", {"a": 1})
    name = today.name[len("2000-01-01") :]
    for date in ("2000-01-01", "2001-12-31", "x001-12-31"):
        (tmp_path / f"{date}{name}").mkdir()
    (tmp_path / f"2002-01-01{evaluation_folder('last', {'a': 2}).name[10:]}").mkdir()
    assert evaluation_folder("last", {"a": 1}) == today
    assert evaluation_folder("last", {"a": 1}, earlier=True).name == f"2001-12-31{name}"
    assert evaluation_folder("first", {"a": 1}, earlier=True).name[10:] == name.replace(
        "last", "first"
    )
