"""Runs with images of a suite's own: foretold, continued, joined, compared."""

from pathlib import Path

import numpy as np
import pytest

from robustmix import evaluate
from robustmix.comparison.compare import compare
from robustmix.comparison.merge import merge_reports
from robustmix.comparison.paths import parse_path
from robustmix.data.shift.conditions import CIFAR_C_BAR
from robustmix.errors import IncompatibleError
from robustmix.evaluation.forecast import forecast, forecast_lines
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.recompute import recompute
from robustmix.report.report import Report
from tests.shift.made import cifar10_1, cifar10_2, cifar_c_bar, cifar_like, cifar_model


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    cifar10_1(folder)
    cifar10_2(folder)
    cifar_c_bar(folder / "CIFAR-10-C-Bar", cifar_like(), CIFAR_C_BAR)
    return folder


def test_a_forecast_counts_the_images_of_the_sets(root: Path) -> None:
    evaluation = prepare(cifar_model(), cifar_like(), ["shift"], data_dir=root)
    found = forecast(evaluation, batch_size=64, seconds=0.01)
    (cost,) = (one for one in found.suites if one.key == "shift")
    assert cost.forwards == 50 + 40 + 50 * 60
    assert cost.n == 50 + 40 + 60
    assert any("cifar10.1-v6, 50 images" in line for line in forecast_lines(evaluation, found))


class Stopped:
    """Answers that it is time to stop from the n-th question on."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("after", [3, 5, 12])
def test_an_interrupted_run_goes_on_to_the_same_rows(
    after: int, root: Path, tmp_path: Path
) -> None:
    model, data = cifar_model(), cifar_like()
    whole = evaluate(model, data, ["shift"], data_dir=root)
    cut = evaluate(
        model, data, ["shift"], data_dir=root, out=tmp_path / "a", should_stop=Stopped(after)
    )
    assert cut.content.run.status == "interrupted"
    done = evaluate(model, data, ["shift"], data_dir=root, out=tmp_path / "a", resume=True)
    assert done.content.run.status == "success"
    assert done.samples is not None
    assert whole.samples is not None
    again, once = done.samples.tables["shift"], whole.samples.tables["shift"]
    assert again.columns.keys() == once.columns.keys()
    assert all(np.array_equal(again.columns[name], once.columns[name]) for name in once.columns)
    assert recompute(Report.load(tmp_path / "a")) == []


def test_suites_that_ran_apart_are_joined_and_shards_are_refused(root: Path) -> None:
    model, data = cifar_model(), cifar_like()
    one = evaluate(model, data, ["shift"], data_dir=root, shift="cifar10.1-v6")
    both = merge_reports([one, evaluate(model, data, ["shuffle"], data_dir=root)])
    assert {"shift", "shuffle"} <= both.content.suites.keys()
    assert recompute(both) == []
    halves = [
        evaluate(model, data.subset(range(*ends)), ["shift"], data_dir=root, shift="cifar10.2")
        for ends in ((0, 30), (30, 60))
    ]
    for half in halves:
        half.content.dataset.n_total = 60
    with pytest.raises(IncompatibleError, match="images of its own"):
        merge_reports(halves)


def test_other_images_of_a_set_are_not_compared(root: Path, tmp_path: Path) -> None:
    cifar10_1(tmp_path, seed=8)
    data = cifar_like()
    reports = [
        evaluate(cifar_model(), data, ["shift"], data_dir=place, shift="cifar10.1-v6")
        for place in (root, tmp_path)
    ]
    with pytest.raises(IncompatibleError, match="shift"):
        compare(*reports, metrics=[parse_path("shift.acc_all[cifar10.1-v6]")])
