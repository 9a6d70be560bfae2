"""Each definition against the report's own summary: of the rows as they are, and resampled."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustmix.comparison.paths import (
    MetricPath,
    accuracy_paths,
    all_metrics,
    find_metric,
    headline_paths,
    parse_path,
)
from robustmix.comparison.suite_numbers import SuiteNumbers, suite_numbers
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.evaluation.plan import Planned
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.metrics.definition import Undefined
from robustmix.report.report import Report
from robustmix.report.rows import covered_view
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import ReportModel, Shown
from tests.comparison.reports import base, changed, report_of

LIMITED: list[object] = [
    "clean",
    "calibration",
    Planned(
        suite=Corruption(corruptions="gaussian_noise,brightness", severity=(1, 4)),
        limit=60,
        preset="quick",
    ),
    Planned(suite=Attack(attack="fgsm", masking="off"), limit=50),
    Shuffle(trials=2),
]


def numbers_of(report: Report, suite: str, order: NDArray[np.int64] | None = None) -> SuiteNumbers:
    assert report.samples is not None
    view = covered_view(report.content, report.samples, suite)
    return suite_numbers(report.content, view, suite, order)


@pytest.mark.parametrize("limited", [False, True])
def test_rows_give_every_stated_number(limited: bool) -> None:
    report = report_of(suites=tuple(LIMITED)) if limited else base()
    suites = {suite: numbers_of(report, suite) for suite in report.content.suites}
    gaps = {}
    for path, metric in all_metrics(report.content):
        definition, value = suites[path.suite].define(path)
        assert (definition.unit, definition.direction) == (metric.unit, metric.direction), path
        assert definition.counted == metric.n, path
        if metric.value is None:
            assert np.isnan(value), path
        else:
            gaps[path] = abs(value - metric.value)
    assert max(gaps.values()) < 1e-12
    assert len(gaps) > 100


def duplicated(samples: Samples, counts: NDArray[np.int64]) -> Samples:
    """A record in which sample i occurs counts[i] times, under ids of its own."""
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
    """The definitions of a record in which images are really repeated."""
    report = base()
    assert report.samples is not None
    n = len(report.samples)
    counts = np.random.default_rng(5).multinomial(n, np.full(n, 1 / n))
    order = np.argsort(np.array(report.samples.sample_ids))
    twice = Report(report.content, duplicated(report.samples, counts))
    checked = 0
    for suite in report.content.suites:
        weighted, repeated = numbers_of(report, suite, order), numbers_of(twice, suite)
        for (condition, name), define in weighted.numbers.items():
            definition = define()
            if not definition.testable:
                continue
            _, expected = repeated.define(MetricPath(suite, name, condition))
            value = float(definition.resampled(counts[order][None].astype(float))[0])
            assert value == pytest.approx(expected, abs=1e-9), (suite, name, condition)
            checked += 1
    assert checked > 100


def with_params(suite: str, **update: object) -> Report:
    def change(value: dict[str, Any]) -> None:
        value["protocol"]["params"][suite].update(update)

    return changed(base(), change)


@pytest.mark.parametrize(
    ("suite", "metric", "update"),
    [
        ("corruption", "acc_mean_selected2_subset", {"severities": []}),
        ("corruption", "acc_mean_selected2_subset", {"corruptions": 3}),
        ("corruption", "ece_15_mean_selected2_subset", {"corruptions": []}),
        ("corruption", "acc_mean_selected2_subset", {"corruptions": ["fog"]}),
        ("fgsm", "robust_acc", {"sweep": 3}),
        ("occlusion", "auc_mean_random_8x8", {"ratios": [0.5, 0.125]}),
    ],
)
def test_parameters_that_do_not_fit_their_rows_define_nothing(
    suite: str, metric: str, update: dict[str, object]
) -> None:
    with pytest.raises((Undefined, RobustmixError)) as caught:
        numbers_of(with_params(suite, **update), suite).define(MetricPath(suite, metric))
    assert str(caught.value)


def test_what_the_rows_do_not_hold_says_so() -> None:
    fog = MetricPath("corruption", "acc", "fog/3")
    with pytest.raises(Undefined, match="this version does not define it"):
        numbers_of(base(), "corruption").define(fog)

    def without_brier(samples: Samples) -> Samples:
        table = samples.tables["clean"]
        columns = {name: column for name, column in table.columns.items() if name != "brier"}
        return replace(
            samples, tables={**samples.tables, "clean": Table(table.conditions, columns)}
        )

    numbers = numbers_of(with_rows(without_brier), "clean")
    with pytest.raises(Undefined, match="no brier under this condition"):
        numbers.define(MetricPath("clean", "brier_sum"))
    _, top1 = numbers.define(MetricPath("clean", "top1"))
    assert top1 == base().metric("clean.top1").value


def with_rows(change: Callable[[Samples], Samples]) -> Report:
    samples = base().samples
    assert samples is not None
    return Report(base().content, change(samples))


@pytest.mark.parametrize("value", [np.nan, 0.5])
def test_rows_that_are_neither_right_nor_wrong_are_refused(value: float) -> None:
    def change(samples: Samples) -> Samples:
        table = samples.tables["clean"]
        wrong = table.columns["correct"].astype(float)
        wrong[0, 0, 3] = value
        clean = Table(table.conditions, {**table.columns, "correct": wrong})
        return replace(samples, tables={"clean": clean})

    with pytest.raises(IntakeError, match="record is damaged"):
        numbers_of(with_rows(change), "clean").define(MetricPath("clean", "top1"))


def test_a_suite_of_a_newer_version_defines_nothing() -> None:
    def rename(value: dict[str, Any]) -> None:
        value["suites"]["glare"] = value["suites"].pop("fgsm")

    with pytest.raises(Undefined, match="a suite this version does not know: glare"):
        numbers_of(changed(base(), rename), "glare")


@pytest.mark.parametrize("asked", ["1/255", "0.00392157", "0.0039215686"])
def test_a_radius_is_found_by_its_name_and_by_its_value(asked: str) -> None:
    path = MetricPath("fgsm", "robust_acc", asked)
    part = base().content.suites["fgsm"]
    metric = find_metric(part, path)
    assert metric is not None
    at_one = next(c for c in part.conditions if abs(float(Fraction(c.name)) * 255 - 1) < 1e-3)
    assert metric == at_one.metrics["robust_acc"]
    _, value = numbers_of(base(), "fgsm").define(path)
    assert value == metric.value
    assert find_metric(part, replace(path, condition="0.0039")) is None


def shown_by(shown: Shown) -> ReportModel:
    content = base().content.model_copy(deep=True)
    content.suites["corruption"].shown = shown
    return content


def test_what_is_compared_and_gated_is_what_the_suite_shows() -> None:
    places = ["acc[brightness/4]", "acc_mean[groups:noise]", "gone", "acc[fog/9]", "]["]
    content = shown_by(Shown(compared=places, gated=["acc_mean[groups:noise]"]))
    found = [path for path in headline_paths(content) if path.suite == "corruption"]
    assert found == [
        MetricPath("corruption", "acc", "brightness/4"),
        MetricPath("corruption", "acc_mean", "groups:noise"),
    ]
    (gated,) = [path for path in accuracy_paths(content) if path.suite == "corruption"]
    assert str(gated) == "corruption.acc_mean[groups:noise]"
    assert not [p for p in accuracy_paths(shown_by(Shown())) if p.suite == "corruption"]


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
