"""Do the metrics give the numbers of the analytic fixtures?"""

import numpy as np
import numpy.typing as npt

from robustmix.doctor.expectations import Device, expect, expect_close, expect_refusal, refuses
from robustmix.errors import IncompleteError, UsageError
from robustmix.evaluation.warnings import suspected_order
from robustmix.metrics import (
    CalibrationSplit,
    calibration_metrics,
    clean_metrics,
    ece_paper_tool,
    expected_calibration_error,
    fit_temperature,
    held_out_temperature,
    score_logits,
    wilson,
)

PRECISION = 1e-7

KNOWN = {
    "ece_10": 0.18465322,
    "ece_15": 0.18224404,
    "mce_15": 0.30092048,
    "rmsce_15": 0.20351967,
    "adaptive_ece_15": 0.18705345,
    "classwise_ece_15": 0.07024506,
    "debiased_15": 0.03934937,
    "gap": -0.17633270,
    "over": 0.00295567,
    "under": 0.17928837,
    "aurc": 0.34150203,
    "acc_at_90": 0.66,
    "acc_at_80": 0.66125,
    "acc_at_50": 0.676,
    "nll": 2.07958915,
    "brier_sum": 0.67998930,
}
PAPER_TOOL = 0.15243070


def fixture() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return analytic logits (1000, 10) and labels, of which 653 are predicted."""
    i, k = np.arange(1000)[:, None], np.arange(10)[None, :]
    logits = 3 * np.sin(0.7 * i + 1.3 * k) + np.cos(0.11 * i * (k + 1))
    order = i[:, 0]
    labels = np.where(order % 5 < 3, logits.argmax(axis=1), (7 * order + 3) % 10)
    return logits, labels.astype(np.int64)


def calibration(device: Device) -> str:
    """Every calibration metric of the fixture is the known one."""
    logits, labels = fixture()
    metrics = calibration_metrics(logits, labels, seed=0, replicates=0).metrics
    for name, known in KNOWN.items():
        value = metrics[name].value
        expect(value is not None, f"{name} has no value")
        expect_close(value or 0.0, known, name, within=PRECISION)
    return f"{len(KNOWN)} metrics of 1000 analytic samples, ECE_15 {metrics['ece_15'].value:.8f}"


def accuracy(device: Device) -> str:
    """Top-1, top-5, macro and worst-class accuracy of the fixture."""
    logits, labels = fixture()
    result = clean_metrics(
        logits, labels, class_names=[str(k) for k in range(10)], seed=0, replicates=0
    )
    known = {"top1": 0.653, "top5": 0.787, "macro_acc": 0.779886, "worst_class": 0.345070}
    for name, value in known.items():
        expect_close(result.metrics[name].value or 0.0, value, name, within=1e-6)
    tie = score_logits(np.zeros((1, 3), dtype=np.float32), [1])
    expect((int(tie.pred[0]), int(tie.rank[0])) == (0, 1), "a tie is not won by the lowest index")
    return "top-1 65.3 %, top-5 78.7 %; ties go to the lowest index"


def paper_ece(device: Device) -> str:
    """The published script's figure is told from the ECE."""
    logits, labels = fixture()
    scores = score_logits(logits, labels)
    paper = ece_paper_tool(scores.confidence, scores.correct)
    expect_close(paper, PAPER_TOOL, "ece_paper_tool", within=PRECISION)
    ece = expected_calibration_error(scores.confidence, scores.correct, 10)
    expect_close(ece, KNOWN["ece_10"], "ece_10", within=PRECISION)
    return f"ece_10 {ece:.4f}, with independently sorted bins {paper:.4f}"


def confidence_one(device: Device) -> str:
    """A confidence of exactly 1 is in the last bin, not lost."""
    for hit in (0, 1):
        scores = score_logits(np.array([[0.0, 2000.0]], dtype=np.float32), [hit])
        error = expected_calibration_error(scores.confidence, scores.correct, 15)
        expect_close(error, abs(1 - hit), "the ECE of one certain sample", within=0)
    return "one certain sample has ECE 0 if right, 1 if wrong"


def full_precision(device: Device) -> str:
    """Half-precision logits are refused: their confidences fall into other bins."""
    logits, labels = fixture()
    refused = refuses(UsageError, score_logits, logits.astype(np.float16), labels)
    expect_refusal(refused, "a record of float16 logits")
    return "float16 logits are refused"


def nonfinite(device: Device) -> str:
    """A NaN logit is an error, never a wrong answer."""
    logits, labels = fixture()
    logits[3, 0] = np.nan
    expect_refusal(refuses(IncompleteError, score_logits, logits, labels), "a NaN logit")
    return "a NaN logit ends the suite"


def temperature(device: Device) -> str:
    """The fitted temperature of the fixture, and accuracy that it leaves alone."""
    logits, labels = fixture()
    fit = fit_temperature(logits, labels)
    expect_close(fit.T, 1.993229, "T", within=1e-6)
    expect_close([fit.nll_before, fit.nll_after], [2.079589, 1.861750], "the NLL", within=1e-6)
    after = score_logits(logits, labels, temperature=fit.T)
    ece = expected_calibration_error(after.confidence, after.correct, 15)
    expect_close(ece, 0.348861, "the ECE after scaling", within=1e-6)
    return f"T = {fit.T:.6f}; the NLL falls, the ECE of this fixture rises"


def calibration_split(device: Device) -> str:
    """A temperature may not be judged on the samples it was fitted to."""
    logits, labels = fixture()
    ids = [str(i) for i in range(1000)]
    split = CalibrationSplit(logits=logits[:5], labels=labels[:5], sample_ids=ids[:5])
    refused = refuses(
        UsageError, held_out_temperature, logits, labels, ids, held_out=split, seed=0, replicates=0
    )
    expect_refusal(refused, "a calibration split that is scored")
    return "shared sample ids are refused"


def intervals(device: Device) -> str:
    """Wilson's intervals at the known points."""
    known = {
        (80, 100): (0.711171, 0.866633),
        (8232, 10000): (0.815599, 0.830553),
        (0, 50): (0, 0.071348),
        (50, 50): (0.928652, 1),
    }
    for (right, n), bounds in known.items():
        expect_close(wilson(right, n), bounds, f"the interval of {right}/{n}", within=1e-6)
    return "80/100 is [0.7112, 0.8666]"


def class_order(device: Device) -> str:
    """Permuted labels are noticed; right ones are not suspected."""
    labels = np.arange(200) % 20
    order = np.roll(np.arange(20), 7)
    expect(
        suspected_order(order[labels], labels, 20) == np.argsort(order).tolist(),
        "permuted classes go unnoticed",
    )
    expect(suspected_order(labels, labels, 20) is None, "the right class order is suspected")
    return "a permutation of 20 classes is found"
