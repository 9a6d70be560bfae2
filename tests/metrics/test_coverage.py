"""How often intervals hold what they are of: measured on models whose calibration is known."""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from robustmix.metrics.calibration import calibration_metrics
from robustmix.metrics.chance import Noise, absolute_noise, combined_noise
from robustmix.metrics.clean import clean_metrics
from robustmix.metrics.corrupted import Corrupted
from robustmix.metrics.definition import summarise_metrics
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import FloatArray
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table
from tests.metrics.populations import Population, draw_labels, true_values

POPULATIONS: dict[str, Callable[[int], Population]] = {
    "calibrated": lambda k: Population(k),
    "over-confident": lambda k: Population(k, sharpness=2.0),
    "slightly over-confident": lambda k: Population(k, sharpness=1.15),
    "under-confident": lambda k: Population(k, sharpness=0.6),
    "classes shifted": lambda k: Population(k, shift=0.7),
    "2 % mislabelled": lambda k: Population(k, mislabelled=0.02),
}
WITHOUT = {"mce_10", "mce_15", "mce_min_n"}
"""What has no interval, with the reason."""

Make = Callable[[int, np.random.Generator], Mapping[str, Metric]]


def measured(
    make: Make, truth: Mapping[str, float], n: int, repeats: int, seed: int
) -> dict[str, float]:
    """Give the share of repeats in which an interval holds the truth; all hold their estimate."""
    rng, held = np.random.default_rng(seed), Counter[str]()
    for _ in range(repeats):
        for name, metric in make(n, rng).items():
            if name in truth:
                assert metric.ci is not None, name
                assert metric.value is not None
                assert metric.ci[0] <= metric.value <= metric.ci[1], name
                held[name] += metric.ci[0] <= truth[name] <= metric.ci[1]
    return {name: held[name] / repeats for name in truth}


def of_population(population: Population, replicates: int) -> Make:
    def make(n: int, rng: np.random.Generator) -> Mapping[str, Metric]:
        logits, truth = population.draw(n, rng)
        labels, names = draw_labels(truth, rng), [str(k) for k in range(population.num_classes)]
        clean = clean_metrics(logits, labels, class_names=names, seed=0, replicates=replicates)
        of_confidence = calibration_metrics(logits, labels, seed=0, replicates=replicates).metrics
        for name in WITHOUT:
            assert of_confidence[name].ci is None
            assert of_confidence[name].reason == "a bin of few images, or of none, may hide any gap"
        return {**clean.metrics, **of_confidence}

    return make


RESAMPLED = {"acc_at_90", "acc_at_80", "acc_at_50", "macro_acc"}


@pytest.mark.parametrize("name", ["calibrated", "over-confident"])
def test_intervals_hold_their_estimate_and_mostly_the_truth(name: str) -> None:
    population = POPULATIONS[name](10)
    truth = {k: v for k, v in true_values(population, 100_000).items() if k not in RESAMPLED}
    assert len(truth) == 20
    shares = measured(of_population(population, 0), truth, 500, 40, seed=0)
    # 40 of 0.95: two in a hundred fall below 35, and the seed is fixed.
    assert min(shares.values()) >= 35 / 40, shares
    biased = [k for k in truth if "ece" in k or k in ("ace_15", "tace_15", "rmsce_15")]
    assert min(shares[k] for k in biased) >= 37 / 40, shares


REPEATS = {(10, 500): 200, (10, 2000): 100, (10, 10_000): 40}
REPEATS |= {(100, 500): 100, (100, 2000): 40, (100, 10_000): 15}
"""Of (classes, images)."""


@pytest.mark.slow
@pytest.mark.parametrize(("num_classes", "n"), REPEATS)
def test_coverage(num_classes: int, n: int, record_property: Callable[[str, object], None]) -> None:
    repeats, shares = REPEATS[num_classes, n], {}
    for seed, (name, make) in enumerate(POPULATIONS.items(), 1):
        population = make(num_classes)
        truth = true_values(population)
        shares[name] = measured(of_population(population, 400), truth, n, repeats, seed)
    # Of a true 95 %, less than this is left in one of a thousand cases.
    least = 0.95 - 3.1 * (0.95 * 0.05 / repeats) ** 0.5
    for metric in truth:
        of_metric = {name: found[metric] for name, found in shares.items()}
        low, mean = min(of_metric.values()), sum(of_metric.values()) / len(of_metric)
        told = f"{metric:18} K={num_classes:<4} n={n:<6} {100 * mean:.1f} %, least {100 * low:.0f}"
        record_property("measured", ((metric, num_classes, n), 0.0, told))
        assert low >= least, (metric, of_metric)
        assert mean >= 0.93 - 2 * (0.93 * 0.07 / repeats / len(of_metric)) ** 0.5, metric


# Several conditions of the same images

SEVERITIES = (1, 2, 3)


def conditions(n: int, rng: np.random.Generator, slope: float) -> tuple[FloatArray, FloatArray]:
    """Draw confidences and accuracies of the images at each severity, (3, n) each.

    An image that is hard is so at every severity; the model grows the surer than right by
    ``slope`` a step.
    """
    ease = rng.random(n)
    noise = 0.2 * rng.random((3, n))
    confidence = np.clip(1 - 0.8 * (1 - ease) ** 2 - noise, 0.05, 0.999)
    steps = np.array(SEVERITIES)[:, None] - 1
    return confidence, np.clip(confidence - slope * steps, 0.0, 1.0)


def corrupted(n: int, rng: np.random.Generator, slope: float) -> Mapping[str, Metric]:
    confidence, accuracy = conditions(n, rng, slope)
    # One number decides for all severities: their rows are far from independent.
    correct = rng.random(n) < accuracy
    names = tuple(f"fog/{s}" for s in SEVERITIES)
    one: dict[str, FloatArray] = dict.fromkeys(("nll", "brier", "pred"), np.zeros((3, 1, n)))
    columns = {"confidence": confidence[:, None], "correct": correct[:, None].astype(float)}
    view = Samples(
        sample_ids=tuple(map(str, range(n))),
        labels=np.zeros(n, dtype=np.int64),
        class_names=("a", "b"),
        superclass=None,
        tables={
            "corruption": Table(names, one | columns),
            "clean": Table(("clean",), {"correct": np.ones((1, 1, n))}),
        },
    )
    rows = Rows.of(view, "corruption", num_classes=2, input_size=(3, 8, 8), seed=0)
    data = Corrupted(rows, paired=True)
    numbers = data.means(["fog"], SEVERITIES) | data.condition("fog", 3)
    wanted = {key: make for key, make in numbers.items() if key[1].startswith("ece_15")}
    return {
        name: metric
        for (_, name), metric in summarise_metrics(wanted, seed=0).items()
        if name != "ece_15_pooled"
    }


@pytest.mark.parametrize("slope", [0.0, 0.04])
@pytest.mark.parametrize(("n", "repeats"), [(500, 100), (4000, 100)])
def test_errors_over_conditions(slope: float, n: int, repeats: int) -> None:
    confidence, accuracy = conditions(200_000, np.random.default_rng(5), slope)
    errors = [
        float(np.abs(np.bincount(np.ceil(15 * c).astype(int), a - c)).sum() / len(c))
        for c, a in zip(confidence, accuracy, strict=True)
    ]
    truth = {
        "ece_15": errors[2],
        "ece_15_mean": float(np.mean(errors)),
        "ece_15_slope": float(np.polyfit(SEVERITIES, errors, 1)[0]),
    }
    assert truth["ece_15_slope"] == pytest.approx(slope, abs=0.003)
    shares = measured(lambda n, rng: corrupted(n, rng, slope), truth, n, repeats, seed=2)
    assert min(shares.values()) >= 0.93, shares


# By hand


def test_the_noise_of_one_bin_by_hand() -> None:
    # Four images of confidence 3/4, three right: gaps 1/4 three times and -3/4 once.
    gaps, variance = np.array([0.25, 0.25, 0.25, -0.75]), np.full(4, 3 / 16)
    noise = absolute_noise(gaps, variance, np.zeros(4, dtype=np.int64), 1)
    # The squares of the gaps sum up to 3/4, and so do the variances.
    assert noise.raised == pytest.approx((2 / np.pi) ** 0.5 * 0.75**0.5 / 4)
    assert noise.moved.tolist() == pytest.approx([0.25, 0.25, 0.25, 0.75])
    chance = noise.chance(0.0)
    assert chance.below == pytest.approx((0.75 / 4 / 4) ** 0.5)
    assert chance.above == pytest.approx(chance.below * (1 - 2 / np.pi) ** 0.5)
    low, high = chance.interval(0.0)
    assert low == 0.0
    rare = 1.959964**2 / 8
    wilson_like = rare + 1.959964 * (chance.below**2 + (1.959964 / 8) ** 2) ** 0.5
    assert wilson_like > 1
    assert high == 1.0


def test_a_model_without_an_error_may_yet_be_wrong() -> None:
    # 300 images, all right, of confidence 1: the error is 0, and up to 3.84 / 300 is not excluded.
    noise = absolute_noise(np.zeros(300), np.zeros(300), np.zeros(300, dtype=np.int64), 1)
    assert noise.chance(0.0).interval(0.0) == pytest.approx((0.0, 1.959964**2 / 300))


def test_what_raises_one_error_lowers_a_difference() -> None:
    one = Noise(0.25, 0.0, np.array([1.0, 0.0]), 1.0)
    both = combined_noise([(1.0, one), (-0.5, one)])
    assert (both.raised, both.lowered, both.reach) == (0.25, 0.125, 1.5)
    assert both.moved.tolist() == [1.5, 0.0]
    assert both.chance(-0.9).least == -1.0
