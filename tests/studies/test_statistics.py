"""The tables' statistics: by hand, and against numpy and scipy."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from robustmix.errors import IncompleteError, IntakeError, UsageError
from robustmix.studies import statistics
from robustmix.studies.statistics import (
    STATISTICS,
    MeanAndStd,
    mean_and_std,
    run_statistic,
    seed_interval,
    statistic,
)
from robustmix.training.loop import train

TWELVE = [0.9, 0.8, 0.1, 0.2, 0.35, 0.3, 0.45, 0.4, 0.6, 0.5, 0.7, 0.65]


@pytest.mark.parametrize(
    ("name", "accuracies", "want"),
    [
        # The last ten in order: .1 .2 .3 .35 .4 .45 .5 .6 .65 .7; those before are larger.
        ("median-last10", TWELVE, (0.4 + 0.45) / 2),
        ("median-last5", TWELVE, 0.6),
        ("best-last10", TWELVE, 0.7),
        ("last", TWELVE, 0.65),
        ("median-last10", [0.3, 0.1, 0.2], 0.2),
        ("median-last5", [0.3, 0.1], 0.2),
        ("best-last10", [0.3, 0.1], 0.3),
        ("last", [0.3], 0.3),
    ],
)
def test_by_hand(name: str, accuracies: Sequence[float], want: float) -> None:
    assert statistic(accuracies, name) == want


@pytest.mark.parametrize("n", [1, 4, 5, 7, 10, 11, 23])
def test_as_numpy_says(n: int) -> None:
    accuracies = np.random.default_rng(n).random(n)
    ways: dict[str, Any] = {"median": np.median, "best": np.max}
    for name in ("median-last10", "median-last5", "best-last10"):
        kind, _, last = name.partition("-last")
        assert statistic(list(accuracies), name) == ways[kind](accuracies[-int(last) :])


def test_unknown_and_empty() -> None:
    with pytest.raises(UsageError, match="did you mean 'median-last10'"):
        statistic([0.5], "median-last-10")
    for name in STATISTICS:
        with pytest.raises(ValueError, match="at least one epoch"):
            statistic([], name)


def log(folder: Path, tops: Sequence[Any], end: str = "\n", first: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"epoch": first + i, "top1": top}) for i, top in enumerate(tops)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + end)
    return folder


def test_of_a_run(tmp_path: Path) -> None:
    found = run_statistic(log(tmp_path, TWELVE), "median-last10")
    assert (found.value, found.first, found.last, found.epochs) == ((0.4 + 0.45) / 2, 3, 12, 10)
    assert not found.short
    found = run_statistic(log(tmp_path, TWELVE[:3]), "median-last10")
    assert (found.value, found.first, found.last, found.epochs) == (0.8, 1, 3, 3)
    assert found.short
    assert found.selected_on == "test"


def test_of_a_run_that_was_trained(tmp_path: Path) -> None:
    """What is taken is the deployed head's accuracy: the teacher's, of a method that has one."""
    settings: dict[str, Any] = {"epochs": 3, "limit_train": 64, "val_split": 0.25}
    result = train("digits-resnet8-automix", out=tmp_path, progress="none", **settings)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [record["top1"] for record in records] == [record["acc_one_k"] for record in records]
    # What the loop itself notes of the same epochs is the same number.
    for name, noted in result.metrics["summary"].items():
        found = run_statistic(tmp_path, name.replace("_", "-"))
        assert (found.value, found.first, found.last) == (noted, 1, 3)
        assert found.selected_on == "val"
    assert run_statistic(tmp_path, "last").value == records[-1]["top1"]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder = log(tmp_path, [0.5, 0.6, 0.7], end="")
    assert run_statistic(folder, "last").value == 0.7  # whole, but for its end
    text = (folder / "metrics.jsonl").read_text()
    for cut in range(1, 25):
        (folder / "metrics.jsonl").write_text(text[:-cut])
        assert (run_statistic(folder, "last").value, run_statistic(folder, "last").last) == (0.6, 2)


@pytest.mark.parametrize(
    "text",
    [
        "{}\n",
        "[]\n",
        "nonsense\n",
        '{"epoch": 1}\n',
        '{"epoch": 1, "top1": NaN}\n',
        '{"epoch": 1, "top1": 70.5}\n',
        '{"epoch": 1, "top1": true}\n',
        '{"epoch": 1.0, "top1": 0.5}\n',
        '{"epoch": 0, "top1": 0.5}\n',
        '{"epoch": 1, "top1": 0.5}\n{"epoch": 3, "top1": 0.5}\n',
        '{"epoch": 1, "top1": 0.5}\n{"epoch": 1, "top1": 0.5}\n',
        '{"epoch": 1, "top1\n{"epoch": 1, "top1": 0.5}\n',
        "[" * 100_000 + "\n",
        "\x00\xff\n",
    ],
)
def test_what_is_no_log_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(IntakeError) as error:
        run_statistic(tmp_path, "last")
    assert error.value.code == "E-METRICS"


def test_a_log_that_is_missing_empty_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IntakeError, match="No such file"):
        run_statistic(tmp_path, "last")
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(IncompleteError, match="no finished epoch"):
        run_statistic(tmp_path, "last")
    monkeypatch.setattr(statistics, "MOST_BYTES", 10)
    with pytest.raises(IntakeError, match="at most 10 are read"):
        run_statistic(log(tmp_path, [0.5]), "last")


def test_mean_and_std_by_hand() -> None:
    # 1, 2, 6: mean 3, squares 4 + 1 + 9 = 14 over n - 1 = 2.
    assert mean_and_std([1, 2, 6]) == MeanAndStd(3.0, 7**0.5, 3)
    assert mean_and_std([0.25]) == MeanAndStd(0.25, None, 1)
    for bad in ([], [0.5, float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="finite values"):
            mean_and_std(bad)


@pytest.mark.parametrize("n", [2, 3, 5, 11])
@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_intervals_as_scipy_says(n: int, level: float) -> None:
    values = 0.8 + 0.01 * np.random.default_rng(n).standard_normal(n)
    found = mean_and_std(list(values))
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    interval = seed_interval(list(values), level)
    want = scipy.stats.t.interval(
        level, n - 1, loc=values.mean(), scale=values.std(ddof=1) / n**0.5
    )
    assert interval == pytest.approx(want, rel=1e-12)


def test_intervals_by_hand() -> None:
    # Two values have one degree of freedom: the quantile is tan(pi (1.95 / 2 - 1 / 2)) = 12.706.
    interval = seed_interval([1.0, 3.0])
    half = 12.706204736  # times std / sqrt 2 = 1
    assert interval == pytest.approx((2 - half, 2 + half), rel=1e-9)
    assert seed_interval([0.5]) is None
    assert seed_interval([0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="level"):
        seed_interval([0.5, 0.6], 95)


def test_imports_are_light() -> None:
    code = """
import sys
from robustmix.studies.published import published
from robustmix.studies.statistics import statistic
assert statistic([0.5], "last") == 0.5 and published()
heavy = {"torch", "numpy", "scipy", "pandas"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
