"""Each definition against the report's own summary: of the rows as they are, and resampled."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from robustmix.comparison.aligned_rows import Rows, Undefined, suite_view
from robustmix.comparison.definitions import UNKNOWN, define
from robustmix.comparison.paths import MetricPath, all_metrics, parse_path
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.recompute import suite_from_params
from robustmix.report.report import Report
from robustmix.report.samples import Samples, Table
from tests.comparison.reports import base, report_of

UNTESTED = {
    "clean.nll_max", "calibration.ace_15", "calibration.tace_15", "calibration.mce_min_n",
    "calibration.classwise_ece_10", "calibration.classwise_ece_15", "fgsm.max_linf",
    "fgsm.max_l2", "fgsm.loss_raised",
}  # fmt: skip
"""Maxima, fits, and sums over classes that take minutes to resample."""


def rows_of(report: Report, suite: str) -> Rows:
    assert report.samples is not None
    view = suite_view(report.content, report.samples, suite)
    return Rows(report.content, view, np.arange(len(view)))


def defined(report: Report) -> dict[MetricPath, float]:
    found = {}
    for path, metric in all_metrics(report.content):
        try:
            definition = define(
                rows_of(report, path.suite), report.content.suites[path.suite], path
            )
        except Undefined:
            continue
        assert metric.value is not None
        found[path] = definition.estimate() - metric.value
    return found


@pytest.mark.parametrize("limited", [False, True])
def test_rows_give_every_stated_number(limited: bool) -> None:
    report = report_of(suites=tuple(_limited())) if limited else base()
    gaps = defined(report)
    assert max(map(abs, gaps.values())) < 1e-9
    left_out = {str(path) for path, _ in all_metrics(report.content)} - set(map(str, gaps))
    unexpected = {
        name
        for name in left_out - UNTESTED
        if not any(word in name for word in ("slope", "pooled", "trial_sd", "mce"))
    }
    assert not unexpected
    assert len(gaps) > 80


def _limited() -> list[object]:
    from robustmix.evaluation.planned import Planned
    from robustmix.evaluation.suites.corruption import CorruptionSuite
    from robustmix.evaluation.suites.fgsm import FgsmSuite
    from robustmix.evaluation.suites.shuffle import ShuffleSuite

    noise = CorruptionSuite(corruptions="gaussian_noise,brightness", severities=(1, 4))
    return [
        "clean",
        "calibration",
        Planned(suite=noise, limit=60, preset="quick"),
        Planned(suite=FgsmSuite(masking=False), limit=50),
        ShuffleSuite(trials=2),
    ]


def duplicated(samples: Samples, counts: NDArray[np.int64]) -> Samples:
    """Return a record in which sample i occurs counts[i] times, under ids of its own."""
    index = np.repeat(np.arange(len(samples)), counts)
    copies = np.concatenate([np.arange(c) for c in counts])
    return replace(
        samples,
        sample_ids=tuple(
            f"{samples.sample_ids[i]}/{k:03d}" for i, k in zip(index, copies, strict=True)
        ),
        labels=samples.labels[index],
        tables={
            key: Table(t.conditions, {n: c[:, :, index] for n, c in t.columns.items()})
            for key, t in samples.tables.items()
        },
    )


def test_weights_mean_what_repeated_images_mean() -> None:
    """The suites' own summary of a record in which images are really repeated."""
    report = base()
    assert report.samples is not None
    n = len(report.samples)
    counts = np.random.default_rng(5).multinomial(n, np.full(n, 1 / n))
    order = np.argsort(np.array(report.samples.sample_ids))
    repeated = duplicated(report.samples, counts)
    content = report.content
    facts = {
        "seed": 0, "num_classes": 10, "input_size": list(content.model.input_size), "subset": True,
    }  # fmt: skip
    checked = 0
    for suite, part in content.ordered_suites().items():
        rows = Rows(content, suite_view(content, report.samples, suite), order)
        again = suite_from_params(suite, content.protocol.params[suite]).summarise(
            repeated.view(suite), facts
        )
        whole = content.model_copy(update={"suites": {suite: again}})
        for path, metric in all_metrics(whole):
            try:
                definition = define(rows, part, path)
            except Undefined:
                continue
            value = float(definition.resampled(counts[order][None].astype(float))[0])
            assert value == pytest.approx(metric.value, abs=1e-9), path
            checked += 1
    assert checked > 80


def test_what_cannot_be_resampled_says_so() -> None:
    report = base()
    part = report.content.suites["clean"]
    with pytest.raises(Undefined, match=UNKNOWN):
        define(rows_of(report, "clean"), part, MetricPath("clean", "nll_max"))
    fog = MetricPath("corruption", "acc", "fog/3")
    with pytest.raises(Undefined, match="no correct under this condition"):
        define(rows_of(report, "corruption"), report.content.suites["corruption"], fog)


@pytest.mark.parametrize(
    ("suite", "metric", "update"),
    [
        ("corruption", "acc_mean_selected2_subset", {"severities": []}),
        ("corruption", "ece_15_mean_selected2_subset", {"corruptions": []}),
        ("corruption", "mce", {"params": {"mce_reference": {"errors": [0]}}}),
        ("fgsm", "robust_acc", {"params": {}}),
        ("occlusion", "auc_mean_random_8x8", {"curves": {}}),
    ],
)
def test_parts_that_do_not_fit_their_rows_define_nothing(
    suite: str, metric: str, update: dict[str, object]
) -> None:
    report = base()
    part = report.content.suites[suite].model_copy(update=update)
    with pytest.raises(Undefined):
        define(rows_of(report, suite), part, MetricPath(suite, metric))


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_rows_that_are_neither_right_nor_wrong_are_refused(value: float) -> None:
    report = base()
    assert report.samples is not None
    table = report.samples.tables["clean"]
    wrong = table.columns["correct"].astype(float)
    wrong[0, 0, 3] = value
    tables = {"clean": Table(table.conditions, {**table.columns, "correct": wrong})}
    changed = Report(report.content, replace(report.samples, tables=tables))
    with pytest.raises(IntakeError, match="record is damaged"):
        define(
            rows_of(changed, "clean"), report.content.suites["clean"], MetricPath("clean", "top1")
        )


@pytest.mark.parametrize(
    ("text", "suite", "metric", "condition"),
    [
        ("clean.top1", "clean", "top1", ""),
        ("fgsm@paper-adautomix.error", "fgsm@paper-adautomix", "error", ""),
        (" corruption.acc[fog/3] ", "corruption", "acc", "fog/3"),
        ("corruption.acc_mean[groups:noise]", "corruption", "acc_mean", "groups:noise"),
    ],
)
def test_paths(text: str, suite: str, metric: str, condition: str) -> None:
    path = parse_path(text)
    assert path == MetricPath(suite, metric, condition)
    assert parse_path(str(path)) == path


@pytest.mark.parametrize("text", ["", "top1", "clean.", ".top1", "clean.a[", "a.b[c]d", "a b.c"])
def test_what_is_no_path(text: str) -> None:
    with pytest.raises(UsageError, match="cannot read the metric"):
        parse_path(text)
