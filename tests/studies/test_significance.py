"""Differences to the best of a column are tested as ``compare`` does it; Holm is over all."""

from dataclasses import replace
from pathlib import Path

import pytest

from robustmix.comparison.compare import compare, compare_groups
from robustmix.comparison.paths import parse_path
from robustmix.report.report import SAMPLES_FILE
from robustmix.studies.layout import Layout
from robustmix.studies.results import RunResult, read_report_alone
from robustmix.studies.significance import with_significance
from robustmix.studies.table import Table
from robustmix.studies.tabulate import tabulate
from tests.comparison.reports import base, damaged, report_of, saved, sibling

METRICS = ("clean.top1", "fgsm.robust_acc")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("significance")
    for name, report in (("base", base()), ("sibling", sibling()), ("damaged", damaged())):
        saved(report, place / name)
    saved(report_of(seed=2, noise=0.1, name="worse"), place / "worse")
    return place


def run(place: Path, name: str, row: str, seed: int = 0) -> RunResult:
    labels = {"method": row, "run": name}
    found = read_report_alone(place / name, labels=labels)
    whole = {path: replace(value, reduced=()) for path, value in found.values.items()}
    return replace(found, labels=labels, seed=seed, values=whole)


def with_tests(*runs: RunResult) -> Table:
    return with_significance(tabulate(runs, Layout(metrics=METRICS)))


def test_one_run_a_side_is_compared_image_by_image(place: Path) -> None:
    rows = ("base", "sibling", "damaged")
    table = with_tests(*(run(place, name, name) for name in rows))
    p_values = {}
    for at, path in enumerate(METRICS):
        best = next(row.title for row in table.rows if row.cells[at].rank == 1)
        for name in rows:
            if name != best:
                document = compare(place / best, place / name, metrics=[parse_path(path)])
                p_values[name, at] = document.comparisons[0].metrics[0].p
    assert len(p_values) == 4
    # Holm by hand: the k-th smallest times (4 - k + 1), never falling.
    want, largest = {}, 0.0
    for k, (key, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1] or 0)):
        assert p is not None
        largest = max(largest, min(1.0, p * (4 - k)))
        want[key] = largest
    cells = {row.title: row.cells for row in table.rows}
    for (name, at), p in want.items():
        assert cells[name][at].p == pytest.approx(p, rel=1e-12)
        assert cells[name][at].tied is (p >= 0.05)
    assert cells["damaged"][0].tied is False
    assert {cells[name][0].tied for name in ("base", "sibling")} == {None, True}
    assert "Holm over 4 tests" in table.tested


def test_several_runs_a_side_are_compared_as_groups(place: Path) -> None:
    sides = {"good": ("base", "sibling"), "bad": ("damaged", "worse")}
    table = with_tests(
        *(
            run(place, name, side, seed)
            for side, names in sides.items()
            for seed, name in enumerate(names)
        )
    )
    (cell,) = (row.cells[0] for row in table.rows if row.title == "bad")
    good, bad = ([place / name for name in names] for names in sides.values())
    document = compare_groups(good, bad, metrics=[parse_path(METRICS[0])])
    p = document.comparisons[0].metrics[0].p
    assert p is not None
    assert cell.p in (pytest.approx(p), pytest.approx(min(1.0, 2 * p)))
    assert (cell.n, cell.tied) == (2, False)


def test_what_cannot_be_tested_says_why_and_is_not_marked(place: Path, tmp_path: Path) -> None:
    saved(sibling(), tmp_path / "bare")
    (tmp_path / "bare" / SAMPLES_FILE).unlink()
    table = with_tests(run(place, "base", "base"), run(tmp_path, "bare", "bare"))
    best = next(row for row in table.rows if row.cells[0].rank != 1).cells[0]
    assert best.tied is None
    assert best.tested == "not tested: a report came without its per-sample record"
    assert table.tested == ""
    assert table.notes[-1].endswith("tested: a report came without its per-sample record")
    alone = with_tests(run(place, "base", "base"))
    assert alone.notes[-1].endswith("tested: no column has a best and another figure")


def test_a_reduced_run_is_not_tested_against_a_whole_one(place: Path) -> None:
    whole = [run(place, name, name) for name in ("base", "damaged")]
    cut = replace(run(place, "sibling", "sibling"), reduced=("2 of 200 epochs",))
    cells = {row.title: row.cells for row in with_tests(*whole, cut).rows}
    assert [cell.tied for cell in cells["sibling"]] == [None, None]
    assert cells["damaged"][0].tied is False
