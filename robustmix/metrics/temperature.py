"""Temperature scaling: one scalar T > 0 that divides the logits, fitted on samples not scored.

Reference:
    Guo et al. 2017, arXiv:1706.04599, section 4.2. The fit here is one-dimensional root finding,
    which needs no step size.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from robustmix.errors import IncompleteError, UsageError
from robustmix.metrics.binned import Row, bin_index, reliability_table
from robustmix.metrics.chance import Chance, absolute_noise
from robustmix.metrics.definition import Definition, Numbers, function, mean, summarise_metrics
from robustmix.metrics.intervals import REPLICATES, Z95, group_sums
from robustmix.metrics.metric import FIRST_RULES, RULES, Metric
from robustmix.metrics.root import find_root
from robustmix.metrics.scores import (
    BLOCK,
    FloatArray,
    IntArray,
    Labels,
    Logits,
    Scores,
    as_labels,
    as_logits,
    check_finite,
    check_sample_ids,
    label_losses,
    row_blocks,
    score_logits,
)

LOG_T_BOUND = 3.0
"""T is sought in [exp(-3), exp(3)]."""

_BINS = 15

LEAST_WRONG = 5
"""A likelihood that rests on fewer wrong predictions says next to nothing of the temperature."""

WITHIN = 1.5
"""Factor within which a temperature must be known, by 95 %, to be one."""


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

    n: int
    """Samples it was fitted to."""

    wrong: int
    """How many of them are classified wrongly."""

    log_sd: float
    """Standard error of log T by the curvature of the likelihood; infinite where it is flat."""

    @property
    def reason(self) -> str | None:
        """Say why the samples do not determine a temperature; None where they do."""
        if self.bound_hit:
            return f"the likelihood has no optimum in exp(-{LOG_T_BOUND:g}) to exp({LOG_T_BOUND:g})"
        if not self.converged:
            return "the fit did not converge"
        if self.wrong < LEAST_WRONG:
            return few_wrong(self.wrong, self.n)
        if not Z95 * self.log_sd <= math.log(WITHIN):
            return f"{self.n} samples tell it no better than within a factor of {WITHIN:g}"
        return None


def few_wrong(wrong: int, n: int) -> str:
    """Say that a fit rests on hardly an error."""
    verb = "is" if wrong < 2 else "are"
    return f"{wrong or 'none'} of the {n} samples fitted to {verb} classified wrongly"


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
    """``nll_before nll_after ece_before ece_after``; the ECE has 15 bins. None after scaling where
    there is a reason."""

    fitted: tuple[int, ...]
    """Samples each fit was made from."""

    scored: tuple[int, ...]
    """Samples each fit was scored on."""

    ids_sha256: str
    """SHA-256 of the ids fitted to, one list a fit."""

    bins_15: list[Row]
    """Reliability table after scaling, each sample by its own temperature; none with a reason."""

    reason: str | None
    """Why the samples fitted to do not determine a temperature; then nothing is scaled by it."""

    def as_dict(self) -> dict[str, Any]:
        """Make the block ``temperature`` of a report; T is the geometric mean of the fits."""
        fits: dict[str, Any] = {
            "split": self.split,
            "n_fitted": list(self.fitted),
            "n_scored": list(self.scored),
            "ids_sha256": self.ids_sha256,
            "converged": all(fit.converged for fit in self.fits),
            "bound_hit": any(fit.bound_hit for fit in self.fits),
            **{name: metric.model_dump(mode="json") for name, metric in self.metrics.items()},
        }
        if self.reason is not None:
            return {"T": None, "reason": self.reason, **fits}
        return fits | {
            "T": math.exp(sum(math.log(fit.T) for fit in self.fits) / len(self.fits)),
            "T_fits": [fit.T for fit in self.fits],
            "bins_15": self.bins_15,
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

    shifted = list(_shifted_blocks(z)) if z.size <= BLOCK else None

    def slope(log_t: float) -> float:
        return _nll_slope(shifted or _shifted_blocks(z), y, math.exp(-log_t)) / len(z)

    low, high = slope(-LOG_T_BOUND), slope(LOG_T_BOUND)
    converged, bound_hit = True, False
    if low == 0 == high:
        log_t = 0.0
    elif low <= 0:  # still falling at the largest 1/T
        log_t, bound_hit = -LOG_T_BOUND, True
    elif high >= 0:
        log_t, bound_hit = LOG_T_BOUND, True
    else:
        ends = (-LOG_T_BOUND, LOG_T_BOUND)
        log_t, converged = find_root(slope, ends, (low, high), xtol=1e-12)
    t, (losses, right) = math.exp(log_t), label_losses(z, y)
    information = _information(shifted or _shifted_blocks(z), 1 / t)
    return Temperature(
        T=t,
        nll_before=float(losses.mean()),
        nll_after=float(label_losses(z, y, temperature=t)[0].mean()),
        converged=converged,
        bound_hit=bound_hit,
        n=len(z),
        wrong=int((~right).sum()),
        log_sd=1 / math.sqrt(information) if information > 0 else math.inf,
    )


def _nll_slope(
    shifted: Iterable[tuple[slice, FloatArray]], labels: IntArray, inverse: float
) -> float:
    """Differentiate the NLL of softmax(inverse * logits), summed up, by ``inverse``."""
    total = 0.0
    for rows, z in shifted:
        p = inverse * z
        np.exp(p, out=p)
        expected = np.einsum("nk,nk->n", p, z) / p.sum(axis=1)
        total += float((expected - z[np.arange(len(z)), labels[rows]]).sum())
    return total


def _information(shifted: Iterable[tuple[slice, FloatArray]], inverse: float) -> float:
    """Give what the samples tell of log T: the variance of their scaled logits, summed up."""
    total = 0.0
    for _, z in shifted:
        p = inverse * z
        np.exp(p, out=p)
        p /= p.sum(axis=1, keepdims=True)
        moved = z - np.einsum("nk,nk->n", p, z)[:, None]
        total += float(np.einsum("nk,nk->", p, np.square(moved, out=moved)))
    return inverse**2 * total


def _shifted_blocks(
    logits: npt.NDArray[np.floating[Any]],
) -> Iterator[tuple[slice, FloatArray]]:
    """Yield rows and their logits less the largest, (n, K)."""
    for rows in row_blocks(*logits.shape):
        z = logits[rows].astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        yield rows, z


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


_FOLDS: dict[bytes, tuple[Temperature, ...]] = {}
"""The last folds that were fitted, by their logits, labels and halves; in a few threads at once."""


def _fold_fits(
    z: npt.NDArray[np.floating[Any]], y: IntArray, half: IntArray
) -> tuple[Temperature, ...]:
    """Fit T to each of two halves.

    Two suites scale by the same clean logits, one after the other: the second finds them fitted.
    """
    digest = hashlib.sha256(repr((z.shape, z.dtype)).encode())
    for array in (z, y, half):
        digest.update(np.ascontiguousarray(array).data)
    key = digest.digest()
    fits = _FOLDS.get(key)
    if fits is None:
        fits = tuple(fit_temperature(z[half != side], y[half != side]) for side in (0, 1))
        for older in list(_FOLDS)[:-1]:
            _FOLDS.pop(older, None)
        _FOLDS[key] = fits
    return fits


def two_fold_temperature(
    logits: Logits,
    labels: Labels,
    sample_ids: Sequence[str],
    *,
    seed: int,
    replicates: int = REPLICATES,
    rules: str = RULES,
) -> ScaledResult:
    """Fit T on one half of the samples, score the other, swap, and average over all samples.

    The ECE before and after is the mean of the two halves' ECE; it is a little larger than the
    ECE of all samples together, because the halves are smaller.

    Args:
        logits: (N, K), N >= 2.
        labels: (N,).
        sample_ids: names of the samples, each once.
        seed: seed of the halves and of the bootstrap.
        replicates: bootstrap replicates, 0 for none. The temperatures are held fixed.
        rules: ``RULES``, or those that a report was made by.

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
    sizes = tuple(int(s) for s in np.bincount(half, minlength=2))
    return _scaled(
        z,
        y,
        half,
        "two-fold",
        fits=_fold_fits(z, y, half),
        fitted=sizes[::-1],
        ids_sha256=hash_ids(
            *([i for i, h in zip(sample_ids, half, strict=True) if h != side] for side in (0, 1))
        ),
        seed=seed,
        replicates=replicates,
        rules=rules,
    )


def held_out_temperature(
    logits: Logits,
    labels: Labels,
    sample_ids: Sequence[str],
    *,
    held_out: CalibrationSplit,
    seed: int,
    replicates: int = REPLICATES,
    rules: str = RULES,
) -> ScaledResult:
    """Fit T on a split of its own and score all the given samples with it.

    Args:
        logits: what is scored, (N, K).
        labels: (N,).
        sample_ids: names of the scored samples, each once.
        held_out: what T is fitted to, with the same K classes.
        seed: seed of the bootstrap.
        replicates: bootstrap replicates, 0 for none. The temperature is held fixed.
        rules: ``RULES``, or those that a report was made by.

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
    return scaled_by(
        logits,
        labels,
        sample_ids,
        fitted=fitted,
        seed=seed,
        replicates=replicates,
        rules=rules,
    )


def scaled_by(
    logits: Logits,
    labels: Labels,
    sample_ids: Sequence[str],
    *,
    fitted: FittedElsewhere,
    seed: int,
    replicates: int = REPLICATES,
    rules: str = RULES,
) -> ScaledResult:
    """Score all the given samples with a temperature that was fitted to others.

    Args:
        logits: what is scored, (N, K).
        labels: (N,).
        sample_ids: names of the scored samples, each once.
        fitted: the temperature.
        seed: seed of the bootstrap.
        replicates: bootstrap replicates, 0 for none. The temperature is held fixed.
        rules: ``RULES``, or those that a report was made by.

    Raises:
        UsageError: inputs that do not fit.
        IncompleteError: a NaN or infinite logit.
    """
    z = as_logits(logits)
    y = as_labels(labels, *z.shape)
    check_sample_ids(sample_ids, len(z))
    return _scaled(
        z,
        y,
        np.zeros(len(z), dtype=np.int64),
        "held-out",
        fits=(fitted.fit,),
        fitted=(fitted.n,),
        ids_sha256=fitted.ids_sha256,
        seed=seed,
        replicates=replicates,
        rules=rules,
    )


def _scaled(
    logits: npt.NDArray[np.floating[Any]],
    labels: IntArray,
    fold: IntArray,
    split: Literal["two-fold", "held-out"],
    *,
    fits: tuple[Temperature, ...],
    fitted: tuple[int, ...],
    ids_sha256: str,
    seed: int,
    replicates: int,
    rules: str,
) -> ScaledResult:
    """Score the samples of each fold with the fit of its number."""
    temperature = np.array([fit.T for fit in fits])[fold]
    # By the first rules a temperature was shown whatever it was made of.
    reasons = [] if rules == FIRST_RULES else [fit.reason for fit in fits if fit.reason]
    reason = reasons[0] if reasons else None
    after = score_logits(logits, labels, temperature=temperature)
    scores = {"before": score_logits(logits, labels), "after": after}
    metrics = _before_and_after(scores, fold, len(fits), seed, replicates, rules)
    if reason is not None:
        metrics = {name: one for name, one in metrics.items() if not name.endswith("_after")}
    return ScaledResult(
        split=split,
        fits=fits,
        temperature=temperature,
        metrics=metrics,
        fitted=fitted,
        scored=tuple(int(size) for size in np.bincount(fold, minlength=len(fits))),
        ids_sha256=ids_sha256,
        bins_15=[]
        if reason is not None
        else reliability_table(after.confidence, after.correct, _BINS),
        reason=reason,
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


def _before_and_after(
    scores: Mapping[str, Scores],
    fold: IntArray,
    folds: int,
    seed: int,
    replicates: int,
    rules: str,
) -> dict[str, Metric]:
    if not np.array_equal(scores["before"].correct, scores["after"].correct):
        raise IncompleteError(
            "scaling changed a prediction: two logits differ by less than their rounding",
            "store the logits in float32",
        )
    note = "mean of two halves" if folds == 2 else None
    numbers: Numbers = {("", f"nll_{k}"): partial(_nll, s, note) for k, s in scores.items()}
    for when, scored in scores.items():
        numbers["", f"ece_{when}"] = partial(_mean_ece, scored, fold, folds, note)
    metrics = summarise_metrics(numbers, seed=seed, replicates=replicates, rules=rules)
    return {name: metric for (_, name), metric in metrics.items()}


def _nll(scores: Scores, note: str | None) -> Definition:
    return mean(scores.nll, unit="nats", direction="lower", note=note, interval="skewed")


def _mean_ece(scores: Scores, fold: IntArray, folds: int, note: str | None) -> Definition:
    # A bin of each fold is a group of its own: the sum is the mean over folds by their size.
    groups = fold * _BINS + bin_index(scores.confidence, _BINS)
    gaps = scores.correct - scores.confidence

    def statistic(weights: FloatArray) -> FloatArray:
        (sums,) = group_sums(weights, groups, folds * _BINS, gaps)
        return np.asarray(np.abs(sums).sum(axis=1) / len(gaps))

    def chance(estimate: float) -> Chance:
        variance = scores.confidence * (1 - scores.confidence)
        noise = absolute_noise(gaps, variance, groups, folds * _BINS)
        return noise.chance(estimate)

    return function(len(gaps), statistic, note=note, chance=chance)
