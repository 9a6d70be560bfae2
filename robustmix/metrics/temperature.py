"""Temperature scaling: one scalar T > 0 that divides the logits, fitted on samples not scored.

Reference:
    Guo et al. 2017, arXiv:1706.04599, section 4.2. The fit here is one-dimensional root finding,
    which needs no step size.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import root_scalar

from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics.binned import Row, bin_index, reliability_table
from robustmix.metrics.definition import Definition, Numbers, function, mean, summarise_metrics
from robustmix.metrics.intervals import REPLICATES, group_sums
from robustmix.metrics.metric import Metric
from robustmix.metrics.scores import (
    FloatArray,
    IntArray,
    Labels,
    Logits,
    Scores,
    as_labels,
    as_logits,
    check_finite,
    check_sample_ids,
    row_blocks,
    score_logits,
)

LOG_T_BOUND = 3.0
"""T is sought in [exp(-3), exp(3)]."""

_BINS = 15


@dataclass(frozen=True, kw_only=True, slots=True)
class Temperature:
    """A fitted temperature, with the loss on the samples it was fitted to."""

    T: float
    """What the logits are to be divided by."""

    nll_before: float
    nll_after: float
    converged: bool
    bound_hit: bool
    """Whether T lies at the end of the interval that was searched."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CalibrationSplit:
    """Samples to fit a temperature to, none of which is scored."""

    logits: Logits
    """(M, K)."""

    labels: Labels
    """(M,)."""

    sample_ids: Sequence[str]


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedElsewhere:
    """A temperature that was fitted to samples of which none is scored."""

    fit: Temperature
    n: int
    """Samples it was fitted to."""

    ids_sha256: str
    """SHA-256 of their ids, see ``hash_ids``."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScaledResult:
    """Scores of one set before and after scaling by temperatures fitted elsewhere."""

    split: Literal["two-fold", "held-out"]
    fits: tuple[Temperature, ...]
    """One fit, or for two folds the one used on fold 0 (fitted to fold 1) and its converse."""

    temperature: FloatArray
    """T of each scored sample, (N,), fitted without that sample."""

    metrics: dict[str, Metric]
    """``nll_before nll_after ece_before ece_after``; the ECE has 15 bins."""

    fitted: tuple[int, ...]
    """Samples each fit was made from."""

    scored: tuple[int, ...]
    """Samples each fit was scored on."""

    ids_sha256: str
    """SHA-256 of the ids fitted to, one list a fit."""

    bins_15: list[Row]
    """Reliability table after scaling, each sample by its own temperature."""

    def as_dict(self) -> dict[str, Any]:
        """Make the block ``temperature`` of a report; T is the geometric mean of the fits."""
        return {
            "T": math.exp(sum(math.log(fit.T) for fit in self.fits) / len(self.fits)),
            "T_fits": [fit.T for fit in self.fits],
            "split": self.split,
            "n_fitted": list(self.fitted),
            "n_scored": list(self.scored),
            "ids_sha256": self.ids_sha256,
            "converged": all(fit.converged for fit in self.fits),
            "bound_hit": any(fit.bound_hit for fit in self.fits),
            "bins_15": self.bins_15,
            **{name: metric.model_dump(mode="json") for name, metric in self.metrics.items()},
        }


def fit_temperature(logits: Logits, labels: Labels) -> Temperature:
    """Find the T that minimises the NLL of softmax(logits / T), with log T in [-3, 3].

    The NLL is convex in 1/T, so its slope there, mean_i(E_p[z_i] - z_i,y), changes sign at most
    once; Brent's method finds that root in log T. Logits that do not depend on the class leave T
    undetermined: it is 1.

    Args:
        logits: (N, K), float32 or float64.
        labels: (N,).

    Raises:
        UsageError: shapes or labels that do not fit.
        IncompleteError: a NaN or infinite logit.

    Example:
        >>> fit = fit_temperature(np.array([[2.0, 0.0]] * 10), [0] * 7 + [1] * 3)
        >>> round(fit.T, 6), round(2 / math.log(7 / 3), 6)
        (2.360445, 2.360445)
    """
    z = as_logits(logits)
    y = as_labels(labels, *z.shape)
    check_finite(z)

    def slope(log_t: float) -> float:
        return _nll_slope(z, y, math.exp(-log_t))

    low, high = slope(-LOG_T_BOUND), slope(LOG_T_BOUND)
    converged, bound_hit = True, False
    if low == 0 == high:
        log_t = 0.0
    elif low <= 0:  # still falling at the largest 1/T
        log_t, bound_hit = -LOG_T_BOUND, True
    elif high >= 0:
        log_t, bound_hit = LOG_T_BOUND, True
    else:
        root = root_scalar(slope, bracket=(-LOG_T_BOUND, LOG_T_BOUND), method="brentq", xtol=1e-12)
        log_t, converged = float(root.root), bool(root.converged)
    t = math.exp(log_t)
    return Temperature(
        T=t,
        nll_before=float(score_logits(z, y).nll.mean()),
        nll_after=float(score_logits(z, y, temperature=t).nll.mean()),
        converged=converged,
        bound_hit=bound_hit,
    )


def _nll_slope(logits: npt.NDArray[np.floating[Any]], labels: IntArray, inverse: float) -> float:
    """Differentiate the mean NLL of softmax(inverse * logits) by ``inverse``."""
    total = 0.0
    for rows in row_blocks(*logits.shape):
        z = logits[rows].astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        p = np.exp(inverse * z)
        expected = np.einsum("nk,nk->n", p, z) / p.sum(axis=1)
        total += float((expected - z[np.arange(len(z)), labels[rows]]).sum())
    return total / len(logits)


def stratified_halves(labels: npt.ArrayLike, sample_ids: Sequence[str], seed: int) -> IntArray:
    """Split the samples, 0 or 1 each, (N,): halves that share every class and depend on ids only.

    Within a class the samples are ordered by a hash of seed and id, and assigned in turn; the turn
    runs on from class to class. So class counts, and the halves, differ by at most one.

    Args:
        labels: (N,).
        sample_ids: the N names; their order does not matter.
        seed: another seed gives other halves.
    """
    keys = [hashlib.sha256(f"{seed}\x1f{i}".encode()).digest() for i in sample_ids]
    y = np.asarray(labels).tolist()
    order = sorted(range(len(y)), key=lambda i: (y[i], keys[i]))
    half = np.empty(len(y), dtype=np.int64)
    half[order] = np.arange(len(y)) % 2
    return half


def two_fold_temperature(
    logits: Logits,
    labels: Labels,
    sample_ids: Sequence[str],
    *,
    seed: int,
    replicates: int = REPLICATES,
) -> ScaledResult:
    """Fit T on one half of the samples, score the other, swap, and average over all samples.

    The ECE before and after is the mean of the two halves' ECE; it is a little larger than the
    ECE of all samples together, because the halves are smaller.

    Args:
        logits: (N, K), N >= 2.
        labels: (N,).
        sample_ids: names of the samples, each once.
        seed: seed of the halves and of the bootstrap.
        replicates: bootstrap replicates; 0 for no intervals. The temperatures are held fixed.

    Raises:
        UsageError: fewer than two samples, or inputs that do not fit.
        IncompleteError: a NaN or infinite logit.
    """
    z = as_logits(logits)
    y = as_labels(labels, *z.shape)
    check_sample_ids(sample_ids, len(z))
    if len(z) < 2:
        raise UsageError("two folds need at least 2 samples", "give a calibration split")
    half = stratified_halves(y, sample_ids, seed)
    fits = tuple(fit_temperature(z[half != side], y[half != side]) for side in (0, 1))
    sizes = tuple(int(s) for s in np.bincount(half, minlength=2))
    return ScaledResult(
        split="two-fold",
        fits=fits,
        temperature=np.array([fit.T for fit in fits])[half],
        metrics=_before_and_after(z, y, half, fits, seed, replicates),
        fitted=sizes[::-1],
        scored=sizes,
        ids_sha256=hash_ids(
            *([i for i, h in zip(sample_ids, half, strict=True) if h != side] for side in (0, 1))
        ),
        bins_15=_table_after(z, y, np.array([fit.T for fit in fits])[half]),
    )


def held_out_temperature(
    logits: Logits,
    labels: Labels,
    sample_ids: Sequence[str],
    *,
    held_out: CalibrationSplit,
    seed: int,
    replicates: int = REPLICATES,
) -> ScaledResult:
    """Fit T on a split of its own and score all the given samples with it.

    Args:
        logits: what is scored, (N, K).
        labels: (N,).
        sample_ids: names of the scored samples, each once.
        held_out: what T is fitted to, with the same K classes.
        seed: seed of the bootstrap.
        replicates: bootstrap replicates; 0 for no intervals. The temperature is held fixed.

    Raises:
        UsageError: a sample is both fitted to and scored (``E-CALIB-OVERLAP``), or inputs that do
            not fit.
        IncompleteError: a NaN or infinite logit.
    """
    classes, calibration = as_logits(logits).shape[1], as_logits(held_out.logits)
    check_sample_ids(held_out.sample_ids, len(calibration))
    if calibration.shape[1] != classes:
        raise UsageError(
            f"the calibration split has {calibration.shape[1]} classes, the scored set {classes}"
        )
    refuse_overlap(sample_ids, held_out.sample_ids)
    fitted = FittedElsewhere(
        fit=fit_temperature(calibration, held_out.labels),
        n=len(calibration),
        ids_sha256=hash_ids(held_out.sample_ids),
    )
    return scaled_by(logits, labels, sample_ids, fitted=fitted, seed=seed, replicates=replicates)


def scaled_by(
    logits: Logits,
    labels: Labels,
    sample_ids: Sequence[str],
    *,
    fitted: FittedElsewhere,
    seed: int,
    replicates: int = REPLICATES,
) -> ScaledResult:
    """Score all the given samples with a temperature that was fitted to others.

    Args:
        logits: what is scored, (N, K).
        labels: (N,).
        sample_ids: names of the scored samples, each once.
        fitted: the temperature.
        seed: seed of the bootstrap.
        replicates: bootstrap replicates; 0 for no intervals. The temperature is held fixed.

    Raises:
        UsageError: inputs that do not fit.
        IncompleteError: a NaN or infinite logit.
    """
    z = as_logits(logits)
    y = as_labels(labels, *z.shape)
    check_sample_ids(sample_ids, len(z))
    whole, temperature = np.zeros(len(z), dtype=np.int64), np.full(len(z), fitted.fit.T)
    return ScaledResult(
        split="held-out",
        fits=(fitted.fit,),
        temperature=temperature,
        metrics=_before_and_after(z, y, whole, (fitted.fit,), seed, replicates),
        fitted=(fitted.n,),
        scored=(len(z),),
        ids_sha256=fitted.ids_sha256,
        bins_15=_table_after(z, y, temperature),
    )


def refuse_overlap(scored: Iterable[str], fitted_to: Iterable[str]) -> None:
    """Refuse to score samples that a temperature was fitted to.

    Args:
        scored: ids of what is scored.
        fitted_to: ids of the calibration split.

    Raises:
        UsageError: they share a sample (``E-CALIB-OVERLAP``).
    """
    shared = sorted(set(scored) & set(fitted_to))
    if shared:
        raise UsageError(
            f"{len(shared)} samples are in the calibration split and scored, e.g. '{shared[0]}'",
            "fit the temperature on samples that are not reported",
            code="E-CALIB-OVERLAP",
        )


def hash_ids(*lists: Iterable[str]) -> str:
    """Hash lists of ids by SHA-256, whatever the order within each."""
    text = "\x1e".join("\x1f".join(sorted(ids)) for ids in lists)
    return hashlib.sha256(text.encode()).hexdigest()


def _table_after(
    logits: npt.NDArray[np.floating[Any]], labels: IntArray, temperature: FloatArray
) -> list[Row]:
    after = score_logits(logits, labels, temperature=temperature)
    return reliability_table(after.confidence, after.correct, _BINS)


def _before_and_after(
    logits: npt.NDArray[np.floating[Any]],
    labels: IntArray,
    fold: IntArray,
    fits: tuple[Temperature, ...],
    seed: int,
    replicates: int,
) -> dict[str, Metric]:
    before = score_logits(logits, labels)
    after = score_logits(logits, labels, temperature=np.array([fit.T for fit in fits])[fold])
    if not np.array_equal(before.correct, after.correct):
        raise IncompleteError(
            "scaling changed a prediction: two logits differ by less than their rounding",
            "store the logits in float32",
        )
    note = "mean of two halves" if len(fits) == 2 else None
    scores = {"before": before, "after": after}
    numbers: Numbers = {("", f"nll_{k}"): partial(_nll, s, note) for k, s in scores.items()}
    for when, scored in scores.items():
        numbers["", f"ece_{when}"] = partial(_mean_ece, scored, fold, len(fits), note)
    metrics = summarise_metrics(numbers, seed=seed, replicates=replicates)
    return {name: metric for (_, name), metric in metrics.items()}


def _nll(scores: Scores, note: str | None) -> Definition:
    return mean(scores.nll, unit="nats", direction="lower", note=note, interval="bootstrap")


def _mean_ece(scores: Scores, fold: IntArray, folds: int, note: str | None) -> Definition:
    # A bin of each fold is a group of its own: the sum is the mean over folds by their size.
    groups = fold * _BINS + bin_index(scores.confidence, _BINS)
    gaps = scores.correct - scores.confidence

    def statistic(weights: FloatArray) -> FloatArray:
        (sums,) = group_sums(weights, groups, folds * _BINS, gaps)
        return np.asarray(np.abs(sums).sum(axis=1) / len(gaps))

    return function(len(gaps), statistic, note=note)
