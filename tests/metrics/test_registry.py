"""The table of metrics: a row is a number of its suite, with an interval, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from robustmix.errors import IntakeError
from robustmix.metrics.clean import clean_metrics
from robustmix.metrics.definition import Definition, Undefined, absent, mean
from robustmix.metrics.from_logits import check_scores, rows_of_logits
from robustmix.metrics.registry import METRICS, metrics_for
from robustmix.report.rows import Rows
from robustmix.report.samples import Table
from tests.metrics.calibration_fixture import fixture


def median_margin(rows: Rows) -> Definition:
    """Median of the margins."""
    return mean(np.full(rows.n, np.median(rows.clean("margin"))), unit="score")


def nothing(rows: Rows) -> Definition | None:
    """A number that these rows do not have."""
    return None


def broken(rows: Rows) -> Definition:
    """A number that cannot be made."""
    raise Undefined("there is no such column")


def test_a_metric_is_one_function_and_one_row() -> None:
    logits, labels = fixture()
    names = [str(k) for k in range(10)]
    before = clean_metrics(logits, labels, class_names=names, seed=0).metrics
    with METRICS.temporary():
        METRICS.register("clean.median_margin", median_margin)
        METRICS.register("clean.nothing", nothing)
        METRICS.register("calibration.elsewhere", broken)
        after = clean_metrics(logits, labels, class_names=names, seed=0).metrics
    top, second = np.sort(logits, axis=1)[:, :-3:-1].T
    assert after.pop("median_margin").value == pytest.approx(np.median(top - second))
    assert after == before  # not a digit of an interval moves


def test_a_metric_that_fails_takes_no_other_with_it() -> None:
    rows = rows_of_logits(*fixture(), seed=0)
    with METRICS.temporary():
        METRICS.register("clean.broken", broken)
        found = metrics_for("clean", rows)
    assert found["top1"]().estimate() == pytest.approx(0.653)
    with pytest.raises(Undefined, match="no such column"):
        found["broken"]()


def test_what_every_row_of_the_table_gives() -> None:
    rows = rows_of_logits(*fixture(), seed=0, superclass=[k // 5 for k in range(10)])
    for kind in ("clean", "calibration"):
        found = metrics_for(kind, rows)
        assert {f"{kind}.{name}" for name in found} == {p for p in METRICS if p.startswith(kind)}
        for name, define in found.items():
            definition = define()
            # A mean over images and the same thing of weights are one number.
            weighted = float(definition.resampled(np.ones((1, rows.n)))[0])
            assert weighted == pytest.approx(definition.estimate(), abs=1e-12), name
            assert METRICS.row(f"{kind}.{name}").help
    assert absent(3, "why", direction="lower").metric().reason == "why"


def test_scores_that_are_not_those_of_the_logits_are_refused() -> None:
    view = rows_of_logits(*fixture(), seed=0).view
    check_scores(view)
    columns = dict(view.tables["clean"].columns)
    columns["nll"][0, 0, 5] += 1e-6
    with pytest.raises(IntakeError, match="nll of the clean samples"):
        check_scores(view)
    del columns["logits"]
    with pytest.raises(Undefined, match="no logits"):
        check_scores(replace(view, tables={"clean": Table(("clean",), columns)}))
