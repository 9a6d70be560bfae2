"""Suites over a part of the samples, and suites that appear twice in a report."""

from pathlib import Path

import numpy as np
import pytest

from robustmix.errors import IncompatibleError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.plan import Planned, plan
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Suite
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.calibration import Calibration
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.report import Report
from robustmix.rng import seeded_subset
from tests.evaluation.tiny import tiny_images, tiny_model

SUITES: list[str | Suite | Planned] = [
    Attack(attack="fgsm", masking="off"),
    Planned(suite=Attack(attack="fgsm", masking="off"), preset="quick", limit=40),
    Planned(suite=Corruption(corruptions="fog,contrast", severity=(1, 3)), limit=30),
    Planned(suite=Calibration(), preset="quick", limit=50),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("planned") / "run"
    evaluate(tiny_model(), tiny_images(), SUITES, out=out)
    return Report.load(out)


def test_a_part_of_the_samples_is_what_the_whole_gives_for_them(report: Report) -> None:
    assert report.samples is not None
    whole, part = report.samples.tables["fgsm"], report.samples.tables["fgsm@quick"]
    assert whole.positions is None
    assert part.positions is not None
    assert len(part.positions) == 40
    assert (np.diff(part.positions) > 0).all()
    expected = whole.take(part.positions).at("8/255")
    for name, column in part.at("8/255").items():
        np.testing.assert_array_equal(column, expected[name])
    right = expected["correct"].mean()
    assert report.metric("fgsm@quick.robust_acc").value == pytest.approx(right, abs=1e-12)
    assert report.metric("fgsm@quick.robust_acc").n == 40
    assert report.metric("fgsm.robust_acc").n == 103


def test_the_clean_figures_beside_a_part_are_of_the_same_samples(report: Report) -> None:
    assert report.samples is not None
    positions = report.samples.tables["fgsm@quick"].positions
    assert positions is not None
    clean = report.samples.tables["clean"].at("clean")["correct"].astype(float)
    assert report.metric("fgsm@quick.clean_acc").value == clean[positions].mean()
    assert clean[positions].mean() != clean.mean()  # else this test could not fail
    gap = report.metric("calibration@quick.gap")
    confidence = report.samples.tables["clean"].at("clean")["confidence"].astype(float)
    covered = seeded_subset(0, report.samples.sample_ids, 50)
    assert covered is not None
    assert gap.n == 50
    assert gap.value == pytest.approx((confidence - clean)[covered.numpy()].mean(), abs=1e-9)


def test_trap_16_means_over_a_part_say_so_in_their_name(report: Report) -> None:
    metrics = report.content.suites["corruption"].metrics
    assert metrics["acc_mean_selected2_subset"].n == 30
    assert (metrics["acc_mean_selected2_subset"].note or "").endswith(
        "30 of 103 samples, chosen by the seed"
    )
    assert "of 103 samples" not in (report.metric("fgsm.error").note or "")
    assert report.content.protocol.limits == {
        "fgsm@quick": 40, "corruption": 30, "calibration@quick": 50,
    }  # fmt: skip


def test_smaller_parts_lie_in_larger_ones() -> None:
    ids = tiny_images().sample_ids
    small, large = seeded_subset(3, ids, 10), seeded_subset(3, ids, 60)
    assert small is not None
    assert large is not None
    assert set(small.tolist()) < set(large.tolist())
    assert seeded_subset(3, ids, len(ids)) is None
    other = seeded_subset(4, ids, 10)
    assert other is not None
    assert other.tolist() != small.tolist()


def test_the_numbers_of_parts_come_from_their_rows(report: Report) -> None:
    assert recompute(report) == []
    report.content.suites["calibration@quick"].metrics["gap"] = report.metric("clean.top1")
    assert any(line.startswith("calibration@quick.metrics.gap") for line in recompute(report))


def test_rows_of_a_part_are_counted_and_framed(report: Report) -> None:
    assert report.samples is not None
    frame = report.samples.to_frame()
    assert len(frame) == report.samples.rows
    part = frame[frame["suite"] == "fgsm@quick"]
    assert part["sample_id"].nunique() == 40
    whole = frame[frame["suite"] == "fgsm"]
    both = part.merge(whole, on=["sample_id", "condition"], suffixes=("", "_whole"))
    assert len(both) == len(part)
    assert (both["pred"] == both["pred_whole"]).all()
    assert (both["label"] == both["label_whole"]).all()


def test_another_part_is_another_measurement(tmp_path: Path, report: Report) -> None:
    other: list[str | Suite | Planned] = [
        Planned(suite=Attack(attack="fgsm", masking="off"), preset="quick", limit=41),
        *SUITES[2:],
        "fgsm",
    ]
    again = evaluate(tiny_model(), tiny_images(), other)
    assert again.content.protocol.hash != report.content.protocol.hash
    assert again.content.run.fingerprint != report.content.run.fingerprint
    evaluate(tiny_model(), tiny_images(), SUITES[:2], out=tmp_path, should_stop=lambda: True)
    with pytest.raises(IncompatibleError, match="fgsm@quick"):
        evaluate(tiny_model(), tiny_images(), other[:1], out=tmp_path, resume=True)


def test_plan_puts_suites_in_order_once() -> None:
    twice = Planned(suite=Attack(attack="fgsm", masking="off"), preset="quick")
    planned = plan([twice, "calibration", Attack(attack="fgsm", masking="off")])
    assert [item.key for item in planned] == ["clean", "calibration", "fgsm", "fgsm@quick"]
    assert [item.key for item in plan([twice])] == ["clean", "fgsm@quick"]
    with pytest.raises(UsageError, match="fgsm@quick"):
        plan([twice, twice])
    with pytest.raises(UsageError, match="no suite"):
        plan([])
