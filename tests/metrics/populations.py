"""Simulated models whose calibration is known: logits, and the true probabilities of the classes.

What an error would be of infinitely many images is computed here by other lines than the product's,
from the probabilities, so that no label's chance is in it.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from robustmix.metrics.scores import FloatArray, IntArray

SIZE = 20_000
"""Images of a block of a population."""


@dataclass(frozen=True)
class Population:
    """A model that states softmax(sharpness * z + shift) where the truth is softmax(z)."""

    num_classes: int
    sharpness: float = 1.0
    """1 is calibrated, more is over-confident."""

    shift: float = 0.0
    """Spread over classes of a constant that is added to their logits."""

    mislabelled: float = 0.0
    """Share of images whose label is any class."""

    def draw(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw images: logits (n, K) and true probabilities (n, K)."""
        k = self.num_classes
        z = rng.normal(size=(n, k))
        ease = 10 if self.mislabelled else 5
        z[np.arange(n), rng.integers(k, size=n)] += (
            ease * (1 if k < 50 else 1.4) * np.sqrt(rng.random(n))
        )
        truth = (1 - self.mislabelled) * softmax(z) + self.mislabelled / k
        offset = self.shift * np.random.default_rng(12).normal(size=k)
        return self.sharpness * z + offset, truth


def softmax(z: FloatArray) -> FloatArray:
    """Give the probabilities of logits (n, K)."""
    p = np.exp(z - z.max(axis=1, keepdims=True))
    result: FloatArray = p / p.sum(axis=1, keepdims=True)
    return result


def draw_labels(truth: FloatArray, rng: np.random.Generator) -> IntArray:
    """Draw a class for each image by its probabilities (n, K)."""
    below = rng.random((len(truth), 1)) > np.cumsum(truth, axis=1)
    labels: IntArray = np.minimum(below.sum(axis=1), truth.shape[1] - 1)
    return labels


@cache
def true_values(population: Population, n: int = 200_000) -> dict[str, float]:
    """Give the metrics of the population, from its true probabilities."""
    rng = np.random.default_rng(1)
    blocks = [population.draw(SIZE, rng) for _ in range(n // SIZE)]
    p = np.concatenate([softmax(z) for z, _ in blocks])
    truth = np.concatenate([t for _, t in blocks])
    every = np.arange(len(p))
    pred = p.argmax(axis=1)
    c, a = p[every, pred], truth[every, pred]
    found = {"gap": float((c - a).mean()), "mean_confidence": float(c.mean())}
    for bins in (10, 15):
        found |= _top_label(c, a, bins)
        found[f"classwise_ece_{bins}"] = float(
            np.mean([_distance(p[:, k], truth[:, k], _wide(p[:, k], bins)) for k in _classes(p)])
        )
    found["ace_15"] = float(
        np.mean([_distance(p[:, k], truth[:, k], _ranks(p[:, k], 15)) for k in _classes(p)])
    )
    large = [(p[p[:, k] > 0.01, k], truth[p[:, k] > 0.01, k]) for k in _classes(p)]
    found["tace_15"] = float(np.mean([_distance(q, t, _ranks(q, 15)) for q, t in large]))
    log_p = np.log(np.maximum(p, 1e-300))
    found["nll"] = float(-(truth * log_p).sum(axis=1).mean())
    found["brier_sum"] = float((np.square(p) - 2 * p * truth).sum(axis=1).mean() + 1)
    found["brier_mean"] = found["brier_sum"] / p.shape[1]
    sure = 1 - a[np.argsort(-c)]
    found["aurc"] = float((np.cumsum(sure) / np.arange(1, len(sure) + 1)).mean())
    for percent in (90, 80, 50):
        found[f"acc_at_{percent}"] = 1 - float(sure[: len(sure) * percent // 100].mean())
    of_class = [truth[pred == k, k].sum() / truth[:, k].sum() for k in _classes(p)]
    return found | {"macro_acc": float(np.mean(of_class)), "worst_class": float(np.min(of_class))}


def _classes(p: FloatArray) -> range:
    return range(p.shape[1])


def _wide(p: FloatArray, bins: int) -> IntArray:
    return np.digitize(p, np.arange(1, bins) / bins, right=True)


def _ranks(p: FloatArray, bins: int) -> IntArray:
    groups = np.empty(len(p), dtype=np.int64)
    groups[np.argsort(p)] = np.arange(len(p)) * bins // max(len(p), 1)
    return groups


def _distance(p: FloatArray, truth: FloatArray, groups: IntArray) -> float:
    return float(np.abs(np.bincount(groups, truth - p)).sum() / max(len(p), 1))


def _top_label(c: FloatArray, a: FloatArray, bins: int) -> dict[str, float]:
    groups = _wide(c, bins)
    share = np.bincount(groups, minlength=bins) / len(c)
    gap = np.bincount(groups, a - c, minlength=bins) / len(c)
    square = float((np.square(gap[share > 0]) / share[share > 0]).sum())
    found = {
        f"ece_{bins}": float(np.abs(gap).sum()),
        f"rmsce_{bins}": square**0.5,
        f"adaptive_ece_{bins}": _distance(c, a, _ranks(c, bins)),
    }
    if bins == 15:
        found |= {
            "over": float(np.maximum(-gap, 0).sum()),
            "under": float(np.maximum(gap, 0).sum()),
        }
        found["debiased_15"] = square
    return found
