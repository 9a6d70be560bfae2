"""What an evaluation will cost, before it is run: passes of the network, and about how long."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from robustmix.attacks import input_gradient
from robustmix.evaluation.engine import guarded, padded, to_unit
from robustmix.evaluation.job import Job
from robustmix.evaluation.masking.behaviour import PASSES
from robustmix.evaluation.masking.strength import NOISES, QUERIES, RADII, STEPS, UNBOUNDED_STEPS
from robustmix.evaluation.planned import Planned
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.calibration import CalibrationSuite
from robustmix.evaluation.suites.clean import CleanSuite
from robustmix.evaluation.suites.corruption import CorruptionSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.masking import MaskingSuite
from robustmix.evaluation.suites.occlusion import RANKED, OcclusionSuite
from robustmix.evaluation.suites.paper_fgsm import PaperFgsmSuite
from robustmix.evaluation.suites.pgd import CONVERGENCE, TARGETS, PgdSuite
from robustmix.evaluation.suites.shuffle import ShuffleSuite
from robustmix.models.robust_model import RobustModel

PROBE_SECONDS = 2.0
SCORES = 4
"""Most passes around a search: its plan, its best and its last image, the harness's own."""

OTHER_PROBES = 14
"""Most passes of the masking checks that are no search: gradients, differences, repetitions."""

SALIENCY_PASSES = {"gradxinput": 1, "gradcam": 1, "rollout": 1, "smoothgrad": 16}


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one suite costs."""

    key: str
    conditions: int
    n: int
    """Samples it covers."""

    forwards: int | None
    """Forward passes of single images; None if that cannot be foretold."""

    backwards: int | None
    most: bool = False
    """Whether these are upper bounds, because only survivors of earlier attacks are attacked."""

    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What an evaluation costs, and what it was foretold from."""

    suites: tuple[Cost, ...]
    forward_s: float
    """Seconds of one image's forward pass at this batch size, measured."""

    backward_s: float
    """Seconds of one image's backward pass to the image, likewise."""

    @property
    def seconds(self) -> float:
        """Sum over the suites whose cost can be foretold."""
        return sum(cost.seconds or 0.0 for cost in self.suites)


def forecast(job: Job, *, batch_size: int, seconds: float = PROBE_SECONDS) -> Forecast:
    """Return the cost of every suite of an evaluation; nothing of it is run.

    Args:
        job: the evaluation.
        batch_size: samples a forward pass.
        seconds: how long to measure the network for.
    """
    forward_s, backward_s = probe(job, batch_size=batch_size, seconds=seconds)
    costs = []
    for planned in job.suites:
        covered = job.covered[planned.key]
        n = len(job.data) if covered is None else len(covered)
        passes = passes_of(planned, n, job.robust)
        seconds_of = None
        if passes.forwards is not None and passes.backwards is not None:
            seconds_of = passes.forwards * forward_s + passes.backwards * backward_s
        costs.append(Cost(key=planned.key, n=n, seconds=seconds_of, **passes._asdict()))
    return Forecast(suites=tuple(costs), forward_s=forward_s, backward_s=backward_s)


class Passes(NamedTuple):
    """Conditions of a suite and passes of single images, the harness's own scoring included."""

    conditions: int
    forwards: int | None
    backwards: int | None
    most: bool = False


def passes_of(planned: Planned, n: int, robust: RobustModel) -> Passes:
    """Return what a suite costs over ``n`` samples, as the suites themselves count it."""
    suite = planned.suite
    for kind, count in COUNTS:
        if isinstance(suite, kind):
            return count(suite, n, robust)
    return Passes(1, None, None)


def _clean(suite: CleanSuite, n: int, robust: RobustModel) -> Passes:
    return Passes(1, n, 0)


def _calibration(suite: CalibrationSuite, n: int, robust: RobustModel) -> Passes:
    return Passes(0, 0 if suite.held_out is None else suite.held_out.n, 0)


def _corruption(suite: CorruptionSuite, n: int, robust: RobustModel) -> Passes:
    conditions = len(suite.selected) * len(suite.severities)
    return Passes(conditions, conditions * n, 0)


def _paper_fgsm(suite: PaperFgsmSuite, n: int, robust: RobustModel) -> Passes:
    return Passes(2, 3 * n, n)


def _fgsm(suite: FgsmSuite, n: int, robust: RobustModel) -> Passes:
    radii = len(suite.radii)
    return Passes(radii + 1, (radii + 2) * n, n)


def _pgd(suite: PgdSuite, n: int, robust: RobustModel) -> Passes:
    searches, subset = len(suite.radii) - 1, min(n, CONVERGENCE)
    goals = suite.restarts * (TARGETS if suite.targeted else 1)
    grades, around = goals * suite.steps, goals * SCORES
    forwards = n * (3 + searches * (grades + around)) + subset * (2 * grades + around)
    backwards = n * (1 + searches * grades) + subset * 2 * grades
    return Passes(searches + 3, forwards, backwards, most=True)


def _masking(suite: MaskingSuite, n: int, robust: RobustModel) -> Passes:
    checked = min(n, suite.samples)
    steps = (len(RADII) + 1) * STEPS + UNBOUNDED_STEPS
    attacks = len(RADII) + 3 + (suite.surrogate is not None) * 2
    forwards = PASSES + NOISES + OTHER_PROBES + steps + QUERIES + attacks * SCORES
    backwards = steps + OTHER_PROBES
    conditions = attacks + 9
    return Passes(conditions, checked * forwards, checked * backwards, most=True)


def _autoattack(suite: AutoAttackSuite, n: int, robust: RobustModel) -> Passes:
    targets = min(TARGETS, robust.num_classes - 1)
    grades = (1 + targets) * (suite.steps + 1)
    fab = targets * suite.steps  # each with up to four further passes of its searches
    forwards = n * (3 + grades + 5 * fab + suite.queries + 4 * SCORES)
    return Passes(5, forwards, n * (1 + grades + fab + targets), most=True)


def _occlusion(suite: OcclusionSuite, n: int, robust: RobustModel) -> Passes:
    params = suite.params()
    rows, columns = map(int, params["grid"].split("x"))
    inner = len([count for count in params["masked"] if 0 < count < rows * columns])
    ranked = len([mode for mode in suite.modes if mode in RANKED])
    drawn = len(suite.modes) - ranked
    whole = rows * columns in params["masked"]
    ends = 1 + whole * (suite.trials if suite.fill == "noise" else 1)
    explained = SALIENCY_PASSES.get(suite.saliency or "", 0) if ranked else 0
    # Noisy copies cannot tell what the clean image is taken for.
    asked = ranked and suite.saliency == "smoothgrad" and suite.saliency_label == "prediction"
    forwards = inner * (ranked + drawn * suite.trials) + ends + explained + bool(asked)
    backwards = 0 if suite.saliency == "rollout" else explained
    return Passes(inner * len(suite.modes) + 1 + whole, n * forwards, n * backwards)


def _shuffle(suite: ShuffleSuite, n: int, robust: RobustModel) -> Passes:
    pieces = suite.resolved((robust.input_size[1], robust.input_size[2])).pieces or ()
    shuffled = len([count for count in pieces if count > 1])
    return Passes(shuffled + 1, n * (shuffled * suite.trials + 1), 0)


COUNTS: tuple[tuple[type[Any], Callable[[Any, int, RobustModel], Passes]], ...] = (
    (CleanSuite, _clean),
    (CalibrationSuite, _calibration),
    (CorruptionSuite, _corruption),
    (PaperFgsmSuite, _paper_fgsm),
    (FgsmSuite, _fgsm),
    (PgdSuite, _pgd),
    (MaskingSuite, _masking),
    (AutoAttackSuite, _autoattack),
    (OcclusionSuite, _occlusion),
    (ShuffleSuite, _shuffle),
)


def probe(job: Job, *, batch_size: int, seconds: float) -> tuple[float, float]:
    """Return seconds of one image's forward and backward pass, measured on the first images."""
    n = min(batch_size, len(job.data))
    images = to_unit(job.data.pixels.take(torch.arange(n)).to(job.device))
    labels = job.data.labels[:n].to(job.device)
    model = padded(job.robust)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    def gradient() -> None:
        input_gradient(model, images, labels)

    with guarded(job.device):
        one = _seconds(forward, job.device, seconds / 2) / n
        both = _seconds(gradient, job.device, seconds / 2) / n
    return one, max(both - one, 0.0)


def _seconds(work: Callable[[], None], device: torch.device, budget: float) -> float:
    """Return the least time of a few calls after a first one, within about ``budget`` seconds."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 2 or time.perf_counter() - began < budget:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
