"""Two reports put side by side: are they of the same images, measured the same way?"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from robustmix.comparison.open_report import Source
from robustmix.comparison.paths import MetricPath, find_number
from robustmix.comparison.suite_numbers import SuiteNumbers, suite_numbers
from robustmix.errors import IncompatibleError
from robustmix.metrics.definition import Undefined
from robustmix.metrics.scores import IntArray
from robustmix.report.report import Report
from robustmix.report.rows import check_shapes, covered_view
from robustmix.report.samples import Samples
from robustmix.report.schema import ReportModel
from robustmix.report.text import plain
from robustmix.text import told

NO_ROWS = "a report came without its per-sample record"


@dataclass(frozen=True, eq=False)
class Pair:
    """Two reports whose rows are aligned, image by image."""

    a: Source
    b: Source
    n: int
    """Images that both reports hold."""

    of: int
    """Images of the larger report."""

    allow_subset: bool = False
    """Whether other samples in one of the reports are left out rather than refused."""

    @cached_property
    def _numbers(self) -> dict[str, tuple[SuiteNumbers, SuiteNumbers]]:
        return {}

    def numbers(self, suite: str) -> tuple[SuiteNumbers, SuiteNumbers]:
        """Give the numbers of a suite in either report, over the same images in the same order.

        Raises:
            Undefined: a report came without its per-sample record, or the suite is unknown here.
            IncompatibleError: the suite covers other samples in each.
            IntakeError: a record or the recorded parameters are damaged.
        """
        # Built once a suite: its definitions share what they need of the same resamples.
        if suite not in self._numbers:
            self._numbers[suite] = self._aligned(suite)
        return self._numbers[suite]

    def forget(self) -> None:
        """Drop the numbers of suites and what was computed for them; they can be asked for anew."""
        for sides in self._numbers.values():
            for side in sides:
                side.rows.forget()
        self._numbers.clear()

    def _aligned(self, suite: str) -> tuple[SuiteNumbers, SuiteNumbers]:
        views = []
        for source in (self.a, self.b):
            if source.report.samples is None:
                raise Undefined(NO_ROWS)
            views.append(covered_view(source.content, source.report.samples, suite))
        orders = common_order(*views)
        sizes = {len(view) for view in views} | {len(orders[0])}
        if len(orders[0]) == 0 or (len(sizes) > 1 and not self.allow_subset):
            raise IncompatibleError(f"{plain(suite)} covers other samples in each report")
        return (
            suite_numbers(self.a.content, views[0], suite, orders[0]),
            suite_numbers(self.b.content, views[1], suite, orders[1]),
        )

    @property
    def has_rows(self) -> bool:
        """Whether both reports came with their per-sample records."""
        return self.a.report.samples is not None and self.b.report.samples is not None

    @cached_property
    def same_model(self) -> bool:
        """Whether both reports are of one model, weight for weight."""
        return self.a.content.model.state_sha256 == self.b.content.model.state_sha256

    @cached_property
    def same_report(self) -> bool:
        """Whether both are the same file."""
        return self.a.sha256 == self.b.sha256

    def protocol_difference(self, suite: str) -> str | None:
        """Say how a suite was run differently, None if it was not."""
        return protocol_difference(self.a.content, self.b.content, suite)


def align(a: Source, b: Source, *, allow_subset: bool = False) -> Pair:
    """Put two reports side by side.

    Args:
        a: the baseline.
        b: the candidate.
        allow_subset: take the images that both hold if they are not the same ones; such a pair
            has per-image statistics only.

    Raises:
        IncompatibleError: they are not of the same images, labels or classes, or were made under
            nonstandard presets that differ; the difference is named.
        IntakeError: a per-sample record is damaged.
    """
    differences = list(data_differences(a.report, b.report, subset=allow_subset))
    if differences:
        raise IncompatibleError(
            f"{plain(a.label)} and {plain(b.label)} cannot be compared: {differences[0]}"
            + (f" (and {len(differences) - 1} more differences)" if differences[1:] else ""),
            "evaluate both models on the same images with the same protocol",
        )
    left, right = a.report.samples, b.report.samples
    count = max(a.content.dataset.n, b.content.dataset.n)
    if left is None or right is None:
        return Pair(a, b, b.content.dataset.n, count)
    order, _ = common_order(left, right)
    return Pair(a, b, len(order), count, allow_subset)


def common_order(left: Samples, right: Samples) -> tuple[IntArray, IntArray]:
    """Give the positions of the common samples in each record, in the order of their ids."""
    at_left = {name: i for i, name in enumerate(left.sample_ids)}
    at_right = {name: i for i, name in enumerate(right.sample_ids)}
    common = sorted(at_left.keys() & at_right.keys())
    return (
        np.array([at_left[name] for name in common], dtype=np.int64),
        np.array([at_right[name] for name in common], dtype=np.int64),
    )


def data_differences(a: Report, b: Report, *, subset: bool = False) -> Iterator[str]:
    """Yield what makes two reports incomparable as a whole.

    Args:
        a: one report.
        b: the other.
        subset: whether other samples are no difference as long as some are common.

    Raises:
        IntakeError: a per-sample record is damaged.
    """
    left, right = a.content, b.content
    yield from _fields(
        ("data set", left.dataset.name, right.dataset.name),
        ("split", left.dataset.split, right.dataset.split),
        ("number of classes", left.model.num_classes, right.model.num_classes),
        ("class order", left.dataset.class_names_sha256, right.dataset.class_names_sha256),
        ("size of the whole split", left.dataset.n_total, right.dataset.n_total),
        ("images of the official split", _official(left), _official(right)),
        ("data files", _files(left), _files(right)),
    )
    # Where the suites are named that repeat a published tool, each is compared with its like.
    if any(p.nonstandard and not p.nonstandard_suites for p in (left.protocol, right.protocol)):
        yield from _fields(
            (
                "presets, one of them nonstandard",
                sorted(left.protocol.presets),
                sorted(right.protocol.presets),
            )
        )
    if not subset:
        yield from _fields(
            ("number of samples", left.dataset.n, right.dataset.n),
            ("choice of the subset", left.dataset.subset, right.dataset.subset),
        )
        pixels = left.dataset.pixels_sha256, right.dataset.pixels_sha256
        # Reports of older versions do not have it, and in another order it is another.
        if None not in pixels and left.dataset.order_sha256 == right.dataset.order_sha256:
            yield from _fields(("pixels of the images", *pixels))
    yield from _sample_differences(a, b, subset)


def _sample_differences(a: Report, b: Report, subset: bool) -> Iterator[str]:
    for report in (a, b):
        if report.samples is not None:
            check_shapes(report.samples)
    if a.samples is None or b.samples is None:
        yield from _fields(
            ("sample ids", a.content.dataset.order_sha256, b.content.dataset.order_sha256)
        )
        return
    for report in (a, b):
        assert report.samples is not None
        if len(report.samples) != report.content.dataset.n:
            yield f"one report states {report.content.dataset.n} samples and has rows of another"
    left, right = set(a.samples.sample_ids), set(b.samples.sample_ids)
    if not left & right:
        yield "they have no sample in common"
        return
    if left != right and not subset:
        yield f"{len(left ^ right)} samples are in one report only"
    order_a, order_b = common_order(a.samples, b.samples)
    wrong = int((a.samples.labels[order_a] != b.samples.labels[order_b]).sum())
    if wrong:
        yield f"{wrong} samples have another label"


def _official(content: ReportModel) -> str:
    of = content.dataset.partial_of
    return "all are here" if of is None else f"only {content.dataset.n_total} of {of} are here"


def _files(content: ReportModel) -> list[str]:
    return sorted(f"{file.name} {file.sha256[:12]}" for file in content.dataset.files)


def _fields(*rows: tuple[str, Any, Any]) -> Iterator[str]:
    for name, left, right in rows:
        if left != right:
            yield f"{name}: {told(_short(left), 60)} against {told(_short(right), 60)}"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) and len(value) == 64 else told(value, 80)


def protocol_difference(a: ReportModel, b: ReportModel, suite: str) -> str | None:
    """Say which parameter of a suite differs between two reports, None if none does."""
    limits = [content.protocol.limits.get(suite) for content in (a, b)]
    if limits[0] != limits[1]:
        counts = [str(limit or "all") for limit in limits]
        return f"samples of {plain(suite)}: {counts[0]} against {counts[1]}"
    faulty = [suite in content.protocol.nonstandard_suites for content in (a, b)]
    if faulty[0] != faulty[1]:
        return f"one report's {plain(suite)} repeats a published tool, the other's does not"
    left, right = (content.protocol.params.get(suite) for content in (a, b))
    if left == right:
        return None
    if left is None or right is None:
        return f"one report does not state the protocol of {plain(suite)}"
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            return (
                f"protocol of {plain(suite)}: {plain(key)} {told(left.get(key), 60)} against "
                f"{told(right.get(key), 60)}"
            )
    return None


def pair_warnings(pair: Pair) -> list[str]:
    """Say what a reader of a comparison must know of the two reports."""
    a, b = pair.a.content, pair.b.content
    lines = []
    if a.run.seed != b.run.seed:
        lines.append(
            f"W-SEED: the seeds differ ({a.run.seed} and {b.run.seed}), so random masks and "
            "corruptions did too"
        )
    if a.dataset.transform != b.dataset.transform:
        lines.append(
            f"W-TRANSFORM: the images were prepared differently ({plain(a.dataset.transform, 60)} "
            f"and {plain(b.dataset.transform, 60)})"
        )
    if a.model.precision != b.model.precision:
        lines.append(
            f"W-PRECISION: the networks computed in {a.model.precision} and {b.model.precision}, "
            "so a difference may be one of rounding"
        )
    lines += _plugin_warnings(a, b)
    lines += _other_plugins(a, b)
    if pair.n < pair.of:
        lines.append(
            f"W-SUBSET: {pair.n} of {pair.of} samples are in both reports; the statistics are of "
            "those, the values too"
        )
    return lines


def _plugin_warnings(a: ReportModel, b: ReportModel) -> list[str]:
    """Say which suites are others' work and came from another version of it in each report."""
    lines = []
    for suite in sorted(a.suites.keys() & b.suites.keys()):
        of_b = {(origin.kind, origin.name): origin for origin in b.suites[suite].origins}
        for origin in a.suites[suite].origins:
            other = of_b.get((origin.kind, origin.name), origin)
            if other != origin:
                lines.append(
                    f"W-PLUGIN: {origin.kind} {plain(origin.name)} came from "
                    f"{plain(origin.module)} {plain(origin.version, 40)} in A, from "
                    f"{plain(other.module)} {plain(other.version, 40)} in B"
                )
    return sorted(set(lines))


def _other_plugins(a: ReportModel, b: ReportModel) -> Iterator[str]:
    """Name what others made, and not alike for both: equal parameters may then mean different."""
    for suite in sorted(a.suites.keys() & b.suites.keys()):
        left, right = (
            {
                (one.kind, one.name): f"{one.module} {one.version}"
                for one in of.suites[suite].origins
            }
            for of in (a, b)
        )
        for kind, name in sorted(left.keys() & right.keys()):
            before, now = left[kind, name], right[kind, name]
            if before != now:
                yield (
                    f"W-PLUGIN: {plain(kind)} {plain(name, 60)} of suite {plain(suite)} is by "
                    f"{plain(before, 80)} in one report and by {plain(now, 80)} in the other"
                )


def own_choice(source: Source, path: MetricPath) -> bool:
    """Tell whether a number hangs on an order of patches that each model chooses itself."""
    part = source.content.suites.get(path.suite)
    if part is None or not part.shown.own_choice:
        return False
    found = find_number(part, path)
    return found is not None and found[0] in part.shown.own_choice


def one_sided(a: Sequence[Source], b: Sequence[Source]) -> list[str]:
    """Say which suites are not compared, because a report lacks them or they did not complete.

    A comparison that is silent about them would look complete.
    """
    lines = []
    for name, side, other in (("A", a, b), ("B", b, a)):
        for source in side:
            for suite, part in source.content.ordered_suites().items():
                if part.status != "ok":
                    lines.append(f"W-SUITE: suite {plain(suite)} is {part.status} in {name}")
                elif not any(suite in one.content.suites for one in other):
                    lines.append(f"W-SUITE: suite {plain(suite)} is in {name} only")
                elif not all(suite in one.content.suites for one in (*side, *other)):
                    lines.append(f"W-SUITE: suite {plain(suite)} is not in every run")
    return list(dict.fromkeys(lines))


def check_protocols(pair: Pair, suites: Sequence[str]) -> None:
    """Refuse suites that were run differently.

    Raises:
        IncompatibleError: names the first parameter that differs.
    """
    for suite in suites:
        difference = pair.protocol_difference(suite)
        if difference is not None:
            raise IncompatibleError(
                f"{plain(pair.a.label)} and {plain(pair.b.label)} cannot be compared: {difference}",
                f"evaluate both with the same parameters, or leave {plain(suite)} out",
            )
