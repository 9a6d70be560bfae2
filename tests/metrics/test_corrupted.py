"""Metrics over corrupted images against plain loops, and calibration with the clean temperature."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from robustmix.corruptions import corrupt
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.suite import summarise
from robustmix.evaluation.suites.corruption import Corruption, PreparedCorruption
from robustmix.metrics import corrupted
from robustmix.metrics.conditions import bin_gaps
from robustmix.metrics.corrupted import Corrupted, difference
from robustmix.metrics.definition import Numbers, Undefined, summarise_metrics
from robustmix.metrics.intervals import Z95
from robustmix.metrics.metric import FIRST_RULES, Metric
from robustmix.metrics.temperature import fit_temperature, stratified_halves
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table
from tests.evaluation.tiny import tiny_images, tiny_model

NAMES, SEVERITIES = ("fog", "contrast", "snow"), (1, 2, 5)
CONDITIONS = [f"{name}/{severity}" for name in NAMES for severity in SEVERITIES]
N = 37


def made(paired: bool = True, scaled: bool = True) -> Corrupted:
    rng = np.random.default_rng(5)
    found: dict[str, list[Any]] = {}
    for _ in CONDITIONS:
        columns: dict[str, Any] = {
            "correct": rng.random(N) < 0.6,
            "confidence": rng.random(N),
            "nll": rng.random(N),
            "brier": rng.random(N),
            "pred": rng.integers(3, size=N),
        }
        if scaled:
            more = {f"{name}_scaled": rng.random(N) for name in ("confidence", "nll", "brier")}
            columns |= {name: column.astype(np.float32) for name, column in more.items()}
        for name, column in columns.items():
            found.setdefault(name, []).append([column])
    table = Table(tuple(CONDITIONS), {name: np.array(column) for name, column in found.items()})
    return over(table, rng.random(N) < 0.8, paired)


def over(table: Table, clean: Any, paired: bool = True) -> Corrupted:
    view = Samples(
        sample_ids=tuple(map(str, range(N))), labels=np.zeros(N, dtype=np.int64),
        class_names=("a", "b", "c"), superclass=None,
        tables={"corruption": table, "clean": Table(("clean",), {"correct": clean[None, None]})},
    )  # fmt: skip
    return Corrupted(
        Rows.of(view, "corruption", num_classes=3, input_size=(3, 8, 8), seed=0), paired
    )


def column(data: Corrupted, condition: str, name: str) -> Any:
    return data.rows.table.at(condition)[name]


def metrics_of(numbers: Numbers) -> dict[str, Metric]:
    return {name: metric for (_, name), metric in summarise_metrics(numbers, seed=0).items()}


def means(data: Corrupted, names: Any = NAMES, severities: Any = SEVERITIES) -> dict[str, Metric]:
    return metrics_of(data.means(names, severities))


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
    metrics = metrics_of(data.condition("contrast", 2))
    rows = data.rows.table.at("contrast/2")
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
    flips = np.mean(rows["pred"] != column(data, "contrast/1", "pred"))
    assert metrics["flip"].value == pytest.approx(flips)
    assert ("contrast/5", "flip") not in data.condition("contrast", 5)  # severity 4 is not there
    unscaled = metrics_of(made(scaled=False).condition("fog", 1))
    assert {"acc", "nll", "brier_sum", "gap", "ece_15", "retention"} == unscaled.keys()


def test_means_by_hand() -> None:
    data = made()
    names = ("fog", "snow")
    metrics = means(data, names)
    conditions = [
        data.rows.table.at(f"{name}/{severity}")
        for name, severity in itertools.product(names, SEVERITIES)
    ]

    def mean(column: str) -> float:
        return float(np.mean([rows[column] for rows in conditions]))

    def eces(column: str) -> list[float]:
        return [plain_ece(rows[column], rows["correct"]) for rows in conditions]

    assert metrics["acc_mean"].value == pytest.approx(mean("correct"))
    assert metrics["mean_ce"].value == pytest.approx(1 - mean("correct"))
    low, high = metrics["acc_mean"].ci or (0.0, 0.0)
    assert metrics["mean_ce"].ci == pytest.approx((1 - high, 1 - low))
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
    assert means(data, names, (2,))["ece_15_slope"].reason == "one severity has no slope"


def slow_noise(confidence: Any, correct: Any) -> tuple[float, Any]:
    """What chance adds to an ECE on average, and what each image moves it, by loops over bins."""
    gaps, total = correct - confidence, 0.0
    due = confidence * (1 - confidence)
    for j in range(15):
        inside = np.clip(np.ceil(15 * confidence) - 1, 0, 14) == j
        total += math.sqrt(max((gaps[inside] ** 2).sum(), due[inside].sum()))
    return math.sqrt(2 / math.pi) * total / N, np.abs(gaps)


def test_errors_over_conditions_take_what_chance_adds_to_each() -> None:
    data = made()
    noises = {key: slow_noise(rows["confidence"], rows["correct"]) for key, rows in at(data)}
    got = means(data)["ece_15_mean"]
    assert got.ci is not None
    assert got.value is not None
    assert got.ci_method == "chance95"
    raised = np.mean([raised for raised, _ in noises.values()])
    moved = np.mean([moved for _, moved in noises.values()], axis=0)
    error = math.sqrt(np.square(moved).mean() / N)
    folded = math.sqrt(1 - 2 / math.pi)
    chance = data.means(NAMES, SEVERITIES)["", "ece_15_mean"]().chance
    assert chance is not None
    assert (chance().raised, chance().above) == pytest.approx((raised, folded * error))
    assert got.ci[0] == max(0.0, got.value - chance().raised - Z95 * chance().above)
    rare = Z95 / N / 2
    below = math.sqrt((np.square(moved).mean() - got.value**2) / N)
    assert got.ci[1] == pytest.approx(got.value + Z95 * (rare + math.hypot(below, rare)))


def test_chance_may_have_turned_a_slope_either_way() -> None:
    data = made()
    noises = {key: slow_noise(rows["confidence"], rows["correct"]) for key, rows in at(data)}
    got = means(data)["ece_15_slope"]
    assert got.ci is not None
    assert got.value is not None
    steps = np.array(SEVERITIES) - np.mean(SEVERITIES)
    steps = steps / np.square(steps).sum()
    raised = [np.mean([noises[f"{name}/{s}"][0] for name in NAMES]) for s in SEVERITIES]
    moved = sum(
        abs(step) * noises[f"{name}/{s}"][1] / len(NAMES)
        for step, s in zip(steps, SEVERITIES, strict=True)
        for name in NAMES
    )
    up, error = np.maximum(steps, 0) @ raised, math.sqrt(np.square(moved).mean() / N)
    assert got.ci[0] == pytest.approx(max(got.value - up - Z95 * error, -1.0))
    assert got.ci[0] < 0 < got.ci[1]


def at(data: Corrupted) -> list[tuple[str, Any]]:
    return [(key, data.rows.table.at(key)) for key in CONDITIONS]


def test_errors_of_bins_are_summed_once_for_all_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each condition's once for the images themselves; the intervals take no resamples."""
    calls: list[tuple[int, ...]] = []

    def counted(confidence: Any, correct: Any, weights: Any) -> Any:
        calls.append(weights.shape)
        return bin_gaps(confidence, correct, weights)

    monkeypatch.setattr(corrupted, "bin_gaps", counted)
    data = made()
    numbers = data.means(NAMES, SEVERITIES) | data.means(("fog",), (1, 2), "_some")
    for name, severity in itertools.product(NAMES, SEVERITIES):
        numbers |= data.condition(name, severity)
    summarise_metrics(numbers, seed=0)
    assert calls == [(1, N)] * 2 * len(CONDITIONS)
    calls.clear()
    # By the first rules, which a report of 0.1.0 is validated by, they take 200.
    summarise_metrics(numbers, seed=0, rules=FIRST_RULES)
    assert calls.count((200, N)) == 2 * len(CONDITIONS)


def test_retention_moves_as_its_resamples_do() -> None:
    data = made()
    right = data.right(NAMES, SEVERITIES)
    metric = means(data)["retention"]
    rng = np.random.default_rng(0)
    ratios = [right[i].mean() / data.clean[i].mean() for i in rng.integers(N, size=(4000, N))]
    assert metric.ci is not None
    assert (metric.ci[1] - metric.ci[0]) / (2 * Z95) == pytest.approx(np.std(ratios), rel=0.06)


def test_unpaired_images_have_no_paired_statistics() -> None:
    data = made(paired=False)
    metrics = means(data)
    assert metrics["retention"].value is None
    drop, paired = metrics["drop"], means(made())["drop"]
    assert drop.value == pytest.approx(paired.value)
    right = data.right(NAMES, SEVERITIES)
    half = Z95 * ((right.var(ddof=1) + data.clean.var(ddof=1)) / N) ** 0.5
    assert drop.ci is not None
    assert drop.ci[1] - drop.ci[0] == pytest.approx(2 * half)
    assert drop.ci_method == "normal95/unpaired"
    assert metrics_of(data.condition("fog", 1))["retention"].value is None
    one = difference(np.ones(1), np.zeros(1), False, note="x").metric()
    assert (one.value, one.ci) == (1, None)


def test_a_model_that_is_never_right_retains_nothing_that_can_be_said() -> None:
    never = over(made().rows.table, np.zeros(N, dtype=bool))
    retention = metrics_of(never.condition("fog", 1))["retention"]
    assert "no clean image" in (retention.reason or "")


def test_boxes_by_hand() -> None:
    data = made()
    suite = PreparedCorruption(
        requested="fog,contrast,snow", corruptions=NAMES, severities=SEVERITIES,
        source="official", profile=None, generator_version=None, frost=None, paired=True,
        mce_reference=None,
    )  # fmt: skip
    data.rows.view.tables["calibration"] = Table(
        ("held-out",),
        {name: np.full((1, 1, N), 2.0) for name in ("T", "fit_nll_before", "fit_nll_after")}
        | {"fit_converged": np.ones((1, 1, N))},
    )
    found = summarise(suite, data.rows).details
    boxes = found["calibration"]["by_severity"]
    assert set(boxes) == {"1", "2", "5"}
    eces = sorted(
        plain_ece(column(data, f"{name}/5", "confidence"), column(data, f"{name}/5", "correct"))
        for name in NAMES
    )
    box = boxes["5"]["ece_15"]
    want = {"min": eces[0], "median": eces[1], "max": eces[2], "mean": float(np.mean(eces))}
    assert {name: box[name] for name in want} == pytest.approx(want)
    assert box["q1"] == pytest.approx((eces[0] + eces[1]) / 2)
    assert set(boxes["1"]) == {"ece_15", "ece_15_scaled", "gap", "gap_scaled"}
    accuracies = {c: float(column(data, c, "correct").mean()) for c in CONDITIONS}
    worst = min(accuracies, key=lambda c: accuracies[c])
    assert f"{found['worst']['corruption']}/{found['worst']['severity']}" == worst
    assert found["worst"]["acc"] == pytest.approx(accuracies[worst])
    assert found["calibration"]["temperature"]["T"] == 2


def test_the_temperature_is_fitted_on_clean_images_of_the_other_half() -> None:
    data, model = tiny_images(), tiny_model()
    suite = Corruption(corruptions="saturate", severity=(3, 5))
    report = evaluate(model, data, ["clean", suite], seed=2)
    part = report.content.suites["corruption"]
    images = data.pixels.take(torch.arange(len(data)))
    half = stratified_halves(data.labels, data.sample_ids, 2)
    clean = model(images.float() / 255).detach()
    fits = [fit_temperature(clean[half != side], data.labels[half != side]).T for side in (0, 1)]
    assert fits[0] != fits[1]
    temperature = torch.tensor(fits)[torch.from_numpy(half)][:, None]
    for severity in (3, 5):
        metrics = part.condition(f"saturate/{severity}")
        changed = corrupt(images, "saturate", severity, seed=2, sample_ids=data.sample_ids)
        logits = model(changed.float() / 255).detach().double() / temperature
        p = torch.softmax(logits, dim=1)
        nll = -torch.log(p[torch.arange(len(data)), data.labels]).mean()
        assert metrics["nll_scaled"].value == pytest.approx(float(nll), rel=1e-5)
        brier = (p - torch.nn.functional.one_hot(data.labels, 5)).square().sum(dim=1).mean()
        assert metrics["brier_sum_scaled"].value == pytest.approx(float(brier), rel=1e-5)
        right = (p.argmax(dim=1) == data.labels).numpy()
        want = plain_ece(p.amax(dim=1).numpy(), right)
        assert metrics["ece_15_scaled"].value == pytest.approx(want, abs=1e-6)
    assert part.details["calibration"]["temperature"]["T_fits"] == pytest.approx(fits)
    assert set(part.details["calibration"]["by_severity"]) == {"3", "5"}


def test_one_image_has_no_temperature() -> None:
    suite = Corruption(corruptions="fog", severity=(1,))
    report = evaluate(tiny_model(), tiny_images(1), ["clean", suite])
    part = report.content.suites["corruption"]
    assert part.status == "ok"
    assert part.details["calibration"]["temperature"] is None


@pytest.mark.parametrize("name", ["correct", "nll"])
def test_a_total_is_the_sum_over_conditions_in_any_order_of_the_images(name: str) -> None:
    rows = made().rows
    for order in (np.arange(N), np.arange(N)[::-1], np.array([4, 4, 0])):
        taken = rows.taken(order)
        expected = np.zeros(len(order))
        for condition in CONDITIONS[2:7]:
            expected += column(made(), condition, name)[order]
        assert np.array_equal(taken.total(CONDITIONS[2:7], name), expected)
    with pytest.raises(Undefined):
        rows.total(["fog/1", "rain/1"], name)
