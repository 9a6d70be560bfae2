"""What an evaluation will cost, before it is run: passes of the network, and about how long."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich import box
from rich.table import Table

from robustmix.attacks import input_gradient
from robustmix.batch_memory import halved
from robustmix.evaluation.engine import check_batch_size, guarded
from robustmix.evaluation.evaluation import Evaluation
from robustmix.evaluation.suite import to_unit
from robustmix.models.robust_model import padded
from robustmix.progress import show_duration
from robustmix.report.rows import own_places

PROBE_SECONDS = 1.0
"""For both directions; the least of some calls is told, which more of them hardly change."""


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

    usual: tuple[int, int] | None = None
    """Forward and backward passes for a network without defences, where that is known too."""

    seconds: float | None = None
    usual_s: float | None = None
    """Seconds of the usual passes."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What an evaluation costs, and what it was foretold from."""

    suites: tuple[Cost, ...]
    forward_s: float
    """Seconds of one image's forward pass at this batch size, measured."""

    backward_s: float | None
    """Seconds of one image's backward pass to the image, likewise; None where no suite needs it."""

    @property
    def seconds(self) -> float:
        """Sum over the suites whose cost can be foretold, of bounds where there are only these."""
        return sum(cost.seconds or 0.0 for cost in self.suites)

    @property
    def usual_s(self) -> float:
        """The same for a network without defences, as far as that is known."""
        known = (cost.seconds if cost.usual_s is None else cost.usual_s for cost in self.suites)
        return sum(seconds or 0.0 for seconds in known)


def forecast(
    evaluation: Evaluation, *, batch_size: int, seconds: float = PROBE_SECONDS
) -> Forecast:
    """Return the cost of every suite of an evaluation; nothing of it is run.

    Args:
        evaluation: the evaluation.
        batch_size: samples a forward pass; fewer where memory runs out.
        seconds: how long to measure the network for.

    Raises:
        UsageError: the batch size is invalid.
    """
    check_batch_size(batch_size)

    def measured(batch: int) -> tuple[float, float | None]:
        return probe(evaluation, batch_size=batch, seconds=seconds)

    forward_s, backward_s = halved(measured, batch_size, evaluation.device)

    def seconds_of(forwards: int | None, backwards: int | None) -> float | None:
        if forwards is None or backwards is None:
            return None
        return forwards * forward_s + backwards * (backward_s or 0.0)

    costs = []
    for ready in evaluation.suites:
        if ready.key not in evaluation.own:  # another shard's
            continue
        n = len(evaluation.data) if ready.covered is None else len(ready.covered)
        n = len(own_places(n, evaluation.own[ready.key]))
        passes, usual = ready.prepared.passes(n), ready.prepared.usual_passes(n)
        costs.append(
            Cost(
                key=ready.key,
                n=ready.prepared.covers(n),
                seconds=seconds_of(passes.forwards, passes.backwards),
                usual=usual,
                usual_s=None if usual is None else seconds_of(*usual),
                **passes._asdict(),
            )
        )
    return Forecast(suites=tuple(costs), forward_s=forward_s, backward_s=backward_s)


def probe(evaluation: Evaluation, *, batch_size: int, seconds: float) -> tuple[float, float | None]:
    """Return seconds of one image's forward and backward pass, measured on the first images.

    The backward pass is not measured, and None told of it, where no suite asks for gradients.
    """
    n = min(batch_size, len(evaluation.data))
    images = to_unit(evaluation.data.pixels.take(torch.arange(n)).to(evaluation.device))
    labels = evaluation.data.labels[:n].to(evaluation.device)
    model = padded(evaluation.robust)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    def gradient() -> None:
        input_gradient(model, images, labels)

    with guarded(evaluation.device):
        one = _seconds(forward, evaluation.device, seconds / 2) / n
        if not evaluation.gradients:
            return one, None
        both = _seconds(gradient, evaluation.device, seconds / 2) / n
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


def forecast_table(found: Forecast) -> Table:
    """Return suites with their conditions, samples, passes and times; at most 100 columns."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("suite", no_wrap=True)
    for column in ("conditions", "images", "forward", "backward", "about"):
        table.add_column(column, justify="right", no_wrap=True)
    for cost in found.suites:
        table.add_row(
            cost.key,
            str(cost.conditions),
            f"{cost.n:,}",
            _count(cost, cost.forwards, cost.usual and cost.usual[0]),
            _count(cost, cost.backwards, cost.usual and cost.usual[1]),
            _time(cost),
        )
    return table


def forecast_lines(evaluation: Evaluation, found: Forecast) -> list[str]:
    """Return the data that was found, the sum, and what the signs mean."""
    data = evaluation.dataset
    of = "" if data["n"] == data["n_total"] else f" of {data['n_total']:,}"
    files = ", ".join(file["name"] for file in data["files"]) or "made by the program"
    lines = [f"data: {data['name']} ({data['split']}), {data['n']:,}{of} images; {files}"]
    for ready in evaluation.suites:
        note = ready.prepared.forecast_note()
        if note:
            lines.append(f"{ready.key}: {note}")
    for key, error in evaluation.refused.items():
        lines.append(f"{key} cannot be run: {error.line()}")
    bounded = any(cost.most for cost in found.suites)
    usual = any(cost.usual is not None for cost in found.suites)
    most = f"{show_duration(found.seconds)} in all" + (", at most" if bounded else "")
    if usual:
        most = f"{show_duration(found.usual_s)} (<{show_duration(found.seconds)}) in all"
    speed = f"{1 / found.forward_s:,.0f} images/s forward"
    if found.backward_s is not None:
        speed += f", {1 / (found.forward_s + found.backward_s):,.0f} forward and backward"
    lines.append(f"about {most}; measured: {speed}, on {evaluation.device}")
    if bounded:
        lines.append(
            "<: attacks stop at an image once it is broken; a network without defences costs a "
            "small part of this"
            + ("; before the brackets stands what it costs, where that is known" if usual else "")
        )
    if any(cost.seconds is None for cost in found.suites):
        lines.append("?: what this attack costs is for its own program to know")
    return lines


def _most(cost: Cost) -> str:
    return "<" if cost.most else ""


def _count(cost: Cost, number: int | None, usual: int | None) -> str:
    bound = "?" if number is None else f"{_most(cost)}{number:,}"
    return bound if usual is None else f"{usual:,} ({bound})"


def _time(cost: Cost) -> str:
    if cost.seconds is None:
        return "?"
    bound = _most(cost) + show_duration(cost.seconds)
    return bound if cost.usual_s is None else f"{show_duration(cost.usual_s)} ({bound})"
