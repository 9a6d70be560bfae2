from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.comparison.compare import compare, compare_groups
from robustmix.comparison.document import ComparisonDocument, MetricRow
from robustmix.comparison.measure import Options, _drawn_runs
from robustmix.comparison.open_report import open_baseline, open_report, update_baseline
from robustmix.comparison.paths import parse_path
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.plan import Planned
from robustmix.evaluation.suites.attack import Attack
from robustmix.metrics.definition import function
from robustmix.metrics.intervals import weight_chunks
from robustmix.report.report import Report
from robustmix.report.samples import Table
from tests.comparison.reports import (
    base,
    changed,
    damaged,
    report_of,
    rewrite,
    saved,
    set_in,
    sibling,
)

FGSM = Attack(attack="fgsm", masking="off")
QUICK = Options(replicates=400, function_replicates=200)


DIFFERENCES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("data set: digits against svhn", set_in("dataset", "name", to="svhn")),
    ("split: test against train", set_in("dataset", "split", to="train")),
    ("number of samples: 200 against 199", set_in("dataset", "n", to=199)),
    ("class order", set_in("dataset", "class_names_sha256", to="0" * 64)),
    ("size of the whole split: 500 against 501", set_in("dataset", "n_total", to=501)),
    ("choice of the subset", set_in("dataset", "subset", to=None)),
    ("data files", set_in("dataset", "files", to=[])),
    (
        "presets, one of them nonstandard",
        lambda v: v["protocol"].update(nonstandard=True, presets=["x"]),
    ),
    (
        "protocol of fgsm: eps 1/255 against 8/255",
        set_in("protocol", "params", "fgsm", "eps", to="8/255"),
    ),
    ("samples of fgsm: all against 50", set_in("protocol", "limits", to={"fgsm": 50})),
]


@pytest.mark.parametrize(("named", "change"), DIFFERENCES, ids=[d[0] for d in DIFFERENCES])
def test_incompatible_reports_are_refused_and_the_difference_named(
    named: str, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(IncompatibleError, match="cannot be compared") as caught:
        compare(base(), changed(sibling(), change), options=QUICK)
    assert named in caught.value.message
    assert caught.value.exit_code == 5


def test_two_nonstandard_reports_of_one_preset_compare() -> None:
    same = [
        changed(r, lambda v: v["protocol"].update(nonstandard=True, presets=["paper"]))
        for r in (base(), sibling())
    ]
    assert compare(*same, options=QUICK).comparisons[0].metrics


def with_samples(report: Report, **fields: Any) -> Report:
    assert report.samples is not None
    return Report(report.content, replace(report.samples, **fields))


def test_other_labels_or_ids_are_refused() -> None:
    samples = sibling().samples
    assert samples is not None
    labels = samples.labels.copy()
    labels[7] = (labels[7] + 1) % 10
    with pytest.raises(IncompatibleError, match="1 samples have another label"):
        compare(base(), with_samples(sibling(), labels=labels), options=QUICK)
    ids = ("digits/train/0", *samples.sample_ids[1:])
    with pytest.raises(IncompatibleError, match="2 samples are in one report only"):
        compare(base(), with_samples(sibling(), sample_ids=ids), options=QUICK)
    twice = (samples.sample_ids[1], *samples.sample_ids[1:])
    with pytest.raises(IntakeError, match="do not name each sample once"):
        compare(base(), with_samples(sibling(), sample_ids=twice), options=QUICK)


def shuffled(report: Report) -> Report:
    """The same report with its rows in another order."""
    assert report.samples is not None
    order = np.random.default_rng(0).permutation(len(report.samples))
    return with_samples(
        report,
        sample_ids=tuple(report.samples.sample_ids[i] for i in order),
        labels=report.samples.labels[order],
        tables={key: table.take(order) for key, table in report.samples.tables.items()},
    )


def numbers(document: ComparisonDocument) -> list[object]:
    return [row.model_dump() for one in document.comparisons for row in one.metrics]


def test_trap_30_the_order_of_rows_does_not_matter() -> None:
    ordered = compare(base(), sibling(), options=QUICK)
    mixed = compare(shuffled(base()), sibling(), options=QUICK)
    assert len(numbers(ordered)) == len(numbers(mixed)) > 10
    for left, right in zip(
        ordered.comparisons[0].metrics, mixed.comparisons[0].metrics, strict=True
    ):
        assert left.delta == pytest.approx(right.delta)
        assert left.ci == pytest.approx(right.ci)
        assert left.p == pytest.approx(right.p)


def test_a_metric_does_not_depend_on_which_others_are_asked_for() -> None:
    path = parse_path("calibration.nll")
    alone = compare(base(), sibling(), metrics=[path], options=QUICK).comparisons[0].metrics[0]
    everything = compare(base(), sibling(), everything=True, options=QUICK).comparisons[0].metrics
    among = next(row for row in everything if row.path == "calibration.nll")
    assert alone.ci == pytest.approx(among.ci)
    assert (alone.p, alone.p_sign_flip) == (among.p, among.p_sign_flip)
    assert alone.p_adjusted == alone.p
    assert among.p_adjusted is not None
    assert among.p is not None
    assert among.p_adjusted >= among.p


def first_row(a: Report, b: Report, metric: str) -> MetricRow:
    document = compare(a, b, metrics=[parse_path(metric)], options=QUICK)
    return document.comparisons[0].metrics[0]


def test_a_count_is_what_one_counts_by_hand() -> None:
    a, b = base(), sibling()
    assert a.samples is not None
    assert b.samples is not None
    right = [r.samples.tables["clean"].at("clean")["correct"] for r in (a, b)]  # type: ignore[union-attr]
    assert a.samples.sample_ids == b.samples.sample_ids
    only_a = sum(bool(x and not y) for x, y in zip(*right, strict=True))
    only_b = sum(bool(y and not x) for x, y in zip(*right, strict=True))
    row, error = (
        compare(a, b, metrics=[parse_path(f"clean.{name}")], options=QUICK)
        .comparisons[0]
        .metrics[0]
        for name in ("top1", "error")
    )
    assert (row.only_a_right, row.only_b_right) == (only_a, only_b)
    assert (error.only_a_right, error.only_b_right) == (only_a, only_b)
    assert row.delta == pytest.approx((only_b - only_a) / 200)
    assert error.delta == pytest.approx(-(row.delta or 0))
    assert row.p_method == "mcnemar mid-p"


def test_worse_is_worse_in_either_direction() -> None:
    for name in ("clean.top1", "clean.error", "clean.nll"):
        forth, back = first_row(base(), damaged(), name), first_row(damaged(), base(), name)
        assert (forth.verdict, back.verdict) == ("worse", "better")
        assert forth.delta == pytest.approx(-(back.delta or 0))
        assert forth.p == back.p


@pytest.mark.parametrize(
    "name",
    [
        "clean.macro_acc",
        "calibration.aurc",
        "calibration.acc_at_80",
        "corruption.retention[brightness/4]",
        "occlusion.nauc_mean_random_8x8",
    ],
)
def test_metrics_that_are_no_means_have_intervals_around_their_difference(name: str) -> None:
    row = first_row(base(), damaged(), name)
    assert row.ci_method == "bootstrap/200"
    assert row.ci is not None
    assert row.delta is not None
    assert row.ci[0] < row.delta < row.ci[1]


def test_a_report_against_itself_shows_nothing() -> None:
    rows = compare(base(), base(), everything=True, options=QUICK).comparisons[0].metrics
    assert {row.delta for row in rows if row.delta is not None} == {0.0}
    assert {row.ci for row in rows if row.ci is not None} == {(0.0, 0.0)}
    assert {row.verdict for row in rows} == {"no evidence", "not tested"}


def test_metrics_without_rows_are_shown_without_a_test() -> None:
    row = (
        compare(base(), sibling(), metrics=[parse_path("clean.nll_max")]).comparisons[0].metrics[0]
    )
    assert row.delta is not None
    assert row.verdict == "not tested"
    assert row.reason == "resampling cannot show how much larger a maximum could be"
    bare = Report(sibling().content)
    rows = compare(base(), bare, options=QUICK).comparisons[0].metrics
    assert all(row.verdict == "not tested" and row.delta is not None for row in rows)


def test_a_value_that_the_rows_do_not_give_is_not_tested() -> None:
    forged = changed(sibling(), set_in("suites", "clean", "metrics", "top1", "value", to=0.999))
    row = first_row(base(), forged, "clean.top1")
    assert row.verdict == "not tested"
    assert "the report states 0.999" in (row.reason or "")


def test_subsets_compare_only_when_asked() -> None:
    few = report_of(seed=1, limit=120, name="few")
    with pytest.raises(IncompatibleError, match="number of samples: 200 against 120"):
        compare(base(), few, options=QUICK)
    path = parse_path("clean.nll")
    document = compare(base(), few, metrics=[path], allow_subset=True, options=QUICK)
    (row,) = document.comparisons[0].metrics
    assert row.n == 120
    assert row.b == few.metric("clean.nll").value
    assert row.a != base().metric("clean.nll").value  # of the common images
    assert any("W-SUBSET: 120 of 200" in line for line in document.comparisons[0].warnings)


def test_one_sided_suites_are_told() -> None:
    some = report_of(suites=("clean",), name="some")
    document = compare(base(), some, options=QUICK)
    assert {row.suite for row in document.comparisons[0].metrics} == {"clean"}
    warnings = document.comparisons[0].warnings
    assert "W-SUITE: suite fgsm is in A only" in warnings
    failed = changed(sibling(), set_in("suites", "fgsm", "status", to="failed"))
    warnings = compare(base(), failed, options=QUICK).comparisons[0].warnings
    assert "W-SUITE: suite fgsm is failed in B" in warnings


def test_one_suite_may_be_chosen_where_another_differs() -> None:
    other = report_of(seed=1, suites=("clean", FGSM), name="other")
    with pytest.raises(IncompatibleError, match="protocol of fgsm"):
        compare(base(), other, options=QUICK)
    assert compare(base(), other, suites=["clean"], options=QUICK)


def test_suites_over_a_part_of_the_samples_are_paired_over_that_part() -> None:
    suites = ("clean", Planned(suite=FGSM, limit=50))
    few, other = (report_of(seed=seed, suites=suites) for seed in (0, 1))
    path = parse_path("fgsm.auc_eps_16")
    row = compare(few, other, metrics=[path], options=QUICK).comparisons[0].metrics[0]
    assert row.n == 50
    assert row.ci is not None
    whole = report_of(suites=("clean", FGSM))
    with pytest.raises(IncompatibleError, match="samples of fgsm: 50 against all"):
        compare(few, whole, metrics=[path], options=QUICK)


def test_several_reports_share_one_family() -> None:
    document = compare(base(), sibling(), damaged(), options=QUICK)
    assert len(document.comparisons) == 2
    rows = [row for one in document.comparisons for row in one.metrics if row.p is not None]
    tested = [row for row in rows if row.p_adjusted is not None]
    smallest = min(tested, key=lambda row: row.p or 0)
    assert smallest.p is not None
    assert smallest.p_adjusted == pytest.approx(min(1, len(tested) * smallest.p))


def test_groups_are_means_over_runs() -> None:
    sides = [base(), sibling()], [damaged()]
    row = compare_groups(*sides, metrics=[parse_path("clean.top1")]).comparisons[0].metrics[0]
    values = [r.metric("clean.top1").value for r in (base(), sibling(), damaged())]
    assert None not in values
    assert row.a == pytest.approx((values[0] + values[1]) / 2)  # type: ignore[operator]
    assert row.b == values[2]
    assert row.verdict == "worse"
    assert row.ci_method == "two-level bootstrap/2000"
    single = compare_groups([base()], [sibling()], metrics=[parse_path("clean.top1")])
    assert any(line.startswith("W-SEEDS") for line in single.comparisons[0].warnings)
    with pytest.raises(UsageError, match="twice on one side"):
        compare_groups([base(), base()], [sibling()])


def test_values_of_groups_without_a_test_are_means_too() -> None:
    sides, path = ([base(), sibling()], [damaged()]), parse_path("clean.nll_max")
    row = compare_groups(*sides, metrics=[path], options=QUICK).comparisons[0].metrics[0]
    values = [r.metric("clean.nll_max").value for r in (base(), sibling(), damaged())]
    assert row.a == pytest.approx((values[0] + values[1]) / 2)  # type: ignore[operator]
    assert (row.b, row.verdict) == (values[2], "not tested")


def test_the_spread_between_runs_is_not_understated() -> None:
    """Runs whose metric is constant over images: the variance of their mean is s^2 / k."""
    levels = np.array([0.50, 0.53, 0.55, 0.61])
    side = [
        function(30, lambda w, level=level: np.full(len(w), level))  # type: ignore[misc]
        for level in levels
    ]
    drawn = _drawn_runs(side, Options(function_replicates=40_000), 2)
    assert drawn.mean() == pytest.approx(levels.mean(), abs=1e-3)
    assert drawn.var() == pytest.approx(levels.var(ddof=1) / 4, rel=0.03)


def test_an_image_keeps_all_its_rows() -> None:
    """The same weights are drawn for every metric of n images, whichever order they come in."""
    first = np.concatenate(list(weight_chunks(50, 30, seed=3)))
    again = np.concatenate(list(weight_chunks(50, 30, seed=3)))
    assert np.array_equal(first, again)
    assert (first.sum(axis=1) == 50).all()


def test_files_folders_and_memory_are_one(tmp_path: Path) -> None:
    path = saved(base(), tmp_path / "a")
    assert open_report(path).sha256 == open_report(path.parent).sha256
    assert open_report(Report.load(path)).sha256 == open_report(path).sha256
    with pytest.raises(IntakeError, match="there is no report at"):
        open_report(tmp_path / "nowhere")


def test_impossible_values_are_refused(tmp_path: Path) -> None:
    path = saved(base(), tmp_path)
    rewrite(path, set_in("suites", "clean", "metrics", "top1", "value", to=82.3))
    with pytest.raises(IntakeError, match=r"clean\.top1 is 82\.3, which no fraction can be"):
        open_report(path)


def git(*arguments: str, at: Path) -> None:
    import subprocess

    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *identity, *arguments], cwd=at, check=True, capture_output=True)


def test_a_baseline_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q", "-b", "main", at=tmp_path)
    saved(base(), tmp_path / "ci" / "baseline")
    git("add", ".", at=tmp_path)
    git("commit", "-q", "-m", "baseline", at=tmp_path)
    saved(sibling(), tmp_path / "ci" / "baseline")
    monkeypatch.chdir(tmp_path)
    for address in ("git:HEAD:ci/baseline", "git:main:ci/baseline/report.json"):
        source = open_baseline(address)
        assert source.content.run.name == "base"
        assert source.report.samples is not None
    assert open_baseline("ci/baseline").content.run.name == "sibling"
    with pytest.raises(IntakeError, match="there is no baseline at git:HEAD:nowhere"):
        open_baseline("git:HEAD:nowhere")
    for address in ("git:", "git:HEAD", "git::x", "git:--output=x:y"):
        with pytest.raises(UsageError, match="write git:REF:PATH"):
            open_baseline(address)


def test_trap_32_a_baseline_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, candidate = tmp_path / "baseline", open_report(saved(sibling(), tmp_path / "new"))
    saved(base(), place)
    before = {p.name: p.read_bytes() for p in place.iterdir()}

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(Exception, match="cannot write"):
            update_baseline(candidate, str(place))
    assert {p.name: p.read_bytes() for p in place.iterdir()} == before
    assert update_baseline(candidate, str(place)) == place / "report.json"
    assert Report.load(place).content.run.name == "sibling"
    assert Report.load(place).samples is not None
    with pytest.raises(UsageError, match="only a baseline that is a file"):
        update_baseline(candidate, "git:HEAD:x")


def test_rows_of_other_shapes_are_refused() -> None:
    samples = sibling().samples
    assert samples is not None
    table = samples.tables["fgsm"]
    short = {name: column[:, :, :-1] for name, column in table.columns.items()}
    tables = {**samples.tables, "fgsm": Table(table.conditions, short)}
    with pytest.raises(IntakeError, match="do not fit its samples"):
        compare(base(), with_samples(sibling(), tables=tables), options=QUICK)
