"""Metrics over corrupted images against plain loops, and calibration with the clean temperature."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from robustmix.corruptions import corrupt
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.metrics.corrupted import Corrupted, difference
from robustmix.metrics.intervals import Z95
from robustmix.metrics.temperature import fit_temperature, stratified_halves
from robustmix.report.schema import CorruptionPart
from tests.evaluation.tiny import tiny_images, tiny_model

NAMES, SEVERITIES = ("fog", "contrast", "snow"), (1, 2, 5)
N = 37


def made(paired: bool = True, scaled: bool = True) -> Corrupted:
    rng = np.random.default_rng(5)
    rows: dict[tuple[str, int], dict[str, np.ndarray[Any, Any]]] = {}
    for condition in itertools.product(NAMES, SEVERITIES):
        columns = {
            "correct": rng.random(N) < 0.6,
            "confidence": rng.random(N),
            "nll": rng.random(N),
            "brier": rng.random(N),
            "pred": rng.integers(3, size=N),
        }
        if scaled:
            more = {f"{name}_scaled": rng.random(N) for name in ("confidence", "nll", "brier")}
            columns |= {name: column.astype(np.float32) for name, column in more.items()}
        rows[condition] = columns
    return Corrupted(rows=rows, clean=(rng.random(N) < 0.8).astype(float), seed=0, paired=paired)


def plain_ece(confidence: Any, correct: Any) -> float:
    total = 0.0
    for j in range(15):
        inside = [i for i, c in enumerate(confidence) if j < 15 * float(c) <= j + 1]
        if inside:
            gap = np.mean([correct[i] for i in inside]) - np.mean([confidence[i] for i in inside])
            total += len(inside) / len(confidence) * abs(float(gap))
    return total


def test_a_condition_by_hand() -> None:
    data = made()
    metrics = data.condition("contrast", 2)
    rows = data.rows["contrast", 2]
    right = rows["correct"].astype(float)
    assert metrics["acc"].value == pytest.approx(right.mean())
    assert metrics["nll"].value == pytest.approx(rows["nll"].mean())
    assert metrics["brier_sum"].value == pytest.approx(rows["brier"].mean())
    assert metrics["gap"].value == pytest.approx(rows["confidence"].mean() - right.mean())
    assert metrics["ece_15"].value == pytest.approx(plain_ece(rows["confidence"], right))
    scaled = rows["confidence_scaled"]
    assert metrics["ece_15_scaled"].value == pytest.approx(plain_ece(scaled, right), abs=1e-7)
    assert metrics["gap_scaled"].value == pytest.approx(scaled.mean() - right.mean(), abs=1e-7)
    assert metrics["nll_scaled"].value == pytest.approx(rows["nll_scaled"].mean(), abs=1e-7)
    assert metrics["brier_sum_scaled"].value == pytest.approx(rows["brier_scaled"].mean(), abs=1e-7)
    assert metrics["retention"].value == pytest.approx(right.mean() / data.clean.mean())
    flips = np.mean(rows["pred"] != data.rows["contrast", 1]["pred"])
    assert metrics["flip"].value == pytest.approx(flips)
    assert "flip" not in data.condition("contrast", 5)  # severity 4 is not there
    unscaled = made(scaled=False).condition("fog", 1)
    assert not [name for name in unscaled if "scaled" in name]
    assert {"acc", "nll", "brier_sum", "gap", "ece_15", "retention"} == unscaled.keys()


def test_means_by_hand() -> None:
    data = made()
    names = ("fog", "snow")
    metrics = data.means(names, SEVERITIES)
    conditions = [data.rows[c] for c in itertools.product(names, SEVERITIES)]

    def mean(column: str) -> float:
        return float(np.mean([rows[column] for rows in conditions]))

    def eces(column: str) -> list[float]:
        return [plain_ece(rows[column], rows["correct"]) for rows in conditions]

    assert metrics["acc_mean"].value == pytest.approx(mean("correct"))
    assert metrics["mean_ce"].value == pytest.approx(1 - mean("correct"))
    assert metrics["drop"].value == pytest.approx(data.clean.mean() - mean("correct"))
    assert metrics["retention"].value == pytest.approx(mean("correct") / data.clean.mean())
    for ending in ("", "_scaled"):
        want = {
            "nll_mean": mean(f"nll{ending}"),
            "brier_sum_mean": mean(f"brier{ending}"),
            "gap_mean": mean(f"confidence{ending}") - mean("correct"),
            "ece_15_mean": np.mean(eces(f"confidence{ending}")),
        }
        for name, value in want.items():
            assert metrics[f"{name}{ending}"].value == pytest.approx(value, abs=1e-7), name
        by_severity = np.reshape(eces(f"confidence{ending}"), (2, 3)).mean(axis=0)
        (slope, _) = np.polyfit(SEVERITIES, by_severity, 1)
        assert metrics[f"ece_15_slope{ending}"].value == pytest.approx(slope, abs=1e-7)
        together = np.concatenate([rows[f"confidence{ending}"] for rows in conditions])
        right = np.concatenate([rows["correct"] for rows in conditions])
        pooled = plain_ece(together, right)
        assert metrics[f"ece_15_pooled{ending}"].value == pytest.approx(pooled, abs=1e-7)
    assert data.means(names, (2,))["ece_15_slope"].reason == "one severity has no slope"


def test_intervals_of_means_contain_what_images_would_vary() -> None:
    """The mean ECE of each resample, by a loop over the first of them."""
    from robustmix.metrics.conditions import REPLICATES, shared_resamples

    data = made()
    weights = shared_resamples(N, 0)
    assert weights.shape == (REPLICATES, N)
    values = []
    for row in weights:
        chosen = np.repeat(np.arange(N), row)
        values.append(
            np.mean(
                [
                    plain_ece(rows["confidence"][chosen], rows["correct"][chosen])
                    for rows in data.rows.values()
                ]
            )
        )
    got = data.means(NAMES, SEVERITIES)["ece_15_mean"].ci
    assert got == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_retention_moves_as_its_resamples_do() -> None:
    data = made()
    right = data.right(NAMES, SEVERITIES)
    metric = data.means(NAMES, SEVERITIES)["retention"]
    rng = np.random.default_rng(0)
    ratios = [right[i].mean() / data.clean[i].mean() for i in rng.integers(N, size=(4000, N))]
    assert metric.ci is not None
    assert (metric.ci[1] - metric.ci[0]) / (2 * Z95) == pytest.approx(np.std(ratios), rel=0.06)


def test_unpaired_images_have_no_paired_statistics() -> None:
    data = made(paired=False)
    metrics = data.means(NAMES, SEVERITIES)
    assert metrics["retention"].value is None
    drop, paired = metrics["drop"], made().means(NAMES, SEVERITIES)["drop"]
    assert drop.value == pytest.approx(paired.value)
    right = data.right(NAMES, SEVERITIES)
    half = Z95 * ((right.var(ddof=1) + data.clean.var(ddof=1)) / N) ** 0.5
    assert drop.ci is not None
    assert drop.ci[1] - drop.ci[0] == pytest.approx(2 * half)
    assert drop.ci_method == "normal95/unpaired"
    assert data.condition("fog", 1)["retention"].value is None
    one = difference(np.ones(1), np.zeros(1), False, unit="fraction", note="x")
    assert (one.value, one.ci) == (1, None)


def test_a_model_that_is_never_right_retains_nothing_that_can_be_said() -> None:
    data = made()
    never = Corrupted(rows=data.rows, clean=np.zeros(N), seed=0, paired=True)
    assert "no clean image" in (never.condition("fog", 1)["retention"].reason or "")


def test_boxes_by_hand() -> None:
    data = made()
    boxes = data.boxes(NAMES, SEVERITIES)
    assert set(boxes) == {"1", "2", "5"}
    eces = sorted(
        plain_ece(data.rows[name, 5]["confidence"], data.rows[name, 5]["correct"]) for name in NAMES
    )
    box = boxes["5"]["ece_15"]
    want = {"min": eces[0], "median": eces[1], "max": eces[2], "mean": float(np.mean(eces))}
    assert {name: box[name] for name in want} == pytest.approx(want)
    assert box["q1"] == pytest.approx((eces[0] + eces[1]) / 2)
    assert set(boxes["1"]) == {"ece_15", "ece_15_scaled", "gap", "gap_scaled"}


def test_the_temperature_is_fitted_on_clean_images_of_the_other_half() -> None:
    data, model = tiny_images(), tiny_model()
    suite = CorruptionSuite(corruptions="saturate", severities=(3, 5))
    report = evaluate(model, data, ["clean", suite], seed=2)
    part = report.content.suites["corruption"]
    assert isinstance(part, CorruptionPart)
    images = data.pixels.take(torch.arange(len(data)))
    half = stratified_halves(data.labels, data.sample_ids, 2)
    clean = model(images.float() / 255).detach()
    fits = [fit_temperature(clean[half != side], data.labels[half != side]).T for side in (0, 1)]
    assert fits[0] != fits[1]
    temperature = torch.tensor(fits)[torch.from_numpy(half)][:, None]
    for condition in part.conditions:
        changed = corrupt(
            images, "saturate", condition.severity, seed=2, sample_ids=data.sample_ids
        )
        logits = model(changed.float() / 255).detach().double() / temperature
        p = torch.softmax(logits, dim=1)
        nll = -torch.log(p[torch.arange(len(data)), data.labels]).mean()
        assert condition.metrics["nll_scaled"].value == pytest.approx(float(nll), rel=1e-5)
        brier = (p - torch.nn.functional.one_hot(data.labels, 5)).square().sum(dim=1).mean()
        assert condition.metrics["brier_sum_scaled"].value == pytest.approx(float(brier), rel=1e-5)
        right = (p.argmax(dim=1) == data.labels).numpy()
        want = plain_ece(p.amax(dim=1).numpy(), right)
        assert condition.metrics["ece_15_scaled"].value == pytest.approx(want, abs=1e-6)
    assert part.calibration is not None
    assert part.calibration["temperature"]["T_fits"] == pytest.approx(fits)
    assert set(part.calibration["by_severity"]) == {"3", "5"}


def test_one_image_has_no_temperature() -> None:
    suite = CorruptionSuite(corruptions="fog", severities=(1,))
    report = evaluate(tiny_model(), tiny_images(1), ["clean", suite])
    part = report.content.suites["corruption"]
    assert isinstance(part, CorruptionPart)
    assert part.status == "ok"
    assert part.calibration is not None
    assert part.calibration["temperature"] is None
