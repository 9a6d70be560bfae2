"""Reports of one model joined: shards of the samples, or suites that ran apart.

Every aggregate is made again from the joined rows, so a merged report says what one run would have.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from robustmix.comparison.shards import joined_shards
from robustmix.errors import IncompatibleError, IntakeError, RobustmixError, UsageError
from robustmix.evaluation.recompute import remake
from robustmix.files import hash_json
from robustmix.report.report import Report
from robustmix.report.rows import check_shapes
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import JsonDict, SuitePart
from robustmix.report.text import plain

_SHARED = "clean", "calibration"
"""Suites that every run has and that may hence stand in several reports."""


def merge_reports(reports: Sequence[Report]) -> Report:
    """Join reports of one model.

    Args:
        reports: two or more, each with its per-sample record. Either they are of the same samples
            and each suite but ``clean`` and ``calibration`` is in one of them; or they are the
            shards of one evaluation, all of them; or, as older versions had them, the same suites
            over samples that are in one report each and make up the whole split.

    Returns:
        The joined report: of shards the one that a single run would have made. Of the older kind
        it has no numbers of the calibrated model under corruption, for each report fitted a
        temperature of its own.

    Raises:
        UsageError: fewer than two reports.
        IntakeError: a report came without its per-sample record, or did not complete.
        IncompatibleError: models, data or parameters differ, suites overlap, or a shard is
            missing or doubled.
    """
    if len(reports) < 2 and not any(r.content.dataset.shard for r in reports):
        raise UsageError("expected two reports or more", "robustmix report merge A B --out DIR")
    for report in reports:
        _check(report, reports[0])
        check_shapes(_samples(report))
    try:
        return _joined(reports)
    except (LookupError, ValueError, TypeError) as error:
        if isinstance(error, RobustmixError):
            raise
        raise IntakeError(
            f"the records do not hold the rows that the reports state ({type(error).__name__})",
            "find out which with `robustmix report validate`",
            code="E-REPORT",
        ) from None


def _joined(reports: Sequence[Report]) -> Report:
    if any(report.content.dataset.shard is not None for report in reports):
        return joined_shards(reports)
    ids = [frozenset(_samples(report).sample_ids) for report in reports]
    if all(one == ids[0] for one in ids[1:]):
        return _joined_suites(reports)
    return _joined_parts(reports)


def _samples(report: Report) -> Samples:
    if report.samples is None:
        raise IntakeError(
            f"{plain(report.content.run.name)} came without its per-sample record",
            "restore samples.npz",
        )
    return report.samples


def _check(report: Report, first: Report) -> None:
    content, expected = report.content, first.content
    if content.run.status != "success":
        raise IntakeError(
            f"{plain(content.run.name)} is {content.run.status}", "finish it with eval --resume"
        )
    for name, left, right in (
        ("models", expected.model.state_sha256, content.model.state_sha256),
        ("data sets", expected.dataset.name, content.dataset.name),
        ("splits", expected.dataset.split, content.dataset.split),
        ("split sizes", expected.dataset.n_total, content.dataset.n_total),
        ("official sizes", expected.dataset.partial_of, content.dataset.partial_of),
        ("class orders", expected.dataset.class_names_sha256, content.dataset.class_names_sha256),
        ("data files", expected.dataset.files, content.dataset.files),
        ("precisions", expected.model.precision, content.model.precision),
        ("transforms", expected.dataset.transform, content.dataset.transform),
        ("seeds", expected.run.seed, content.run.seed),
    ):
        if left != right:
            raise IncompatibleError(
                f"the {name} of {plain(expected.run.name)} and {plain(content.run.name)} differ",
                "merge reports of one model and data set",
                code="E-MERGE",
            )


def _joined_suites(reports: Sequence[Report]) -> Report:
    first = reports[0]
    samples = replace(_samples(first), tables=dict(_samples(first).tables))
    content = first.content.model_copy(deep=True)
    for report in reports[1:]:
        other = _samples(report)
        if other.sample_ids != samples.sample_ids:
            raise _refused("the samples stand in another order")
        if not _same_pixels(first, report):
            raise _refused("the pixels of the samples differ")
        for key, part in report.content.suites.items():
            if key in content.suites:
                _check_shared(key, first, report)
                continue
            content.suites[key] = part
            content.protocol.params[key] = _params(report, key)
            if key in report.content.protocol.limits:
                content.protocol.limits[key] = report.content.protocol.limits[key]
            if key in other.tables:
                samples.tables[key] = other.tables[key]
    return _finished(Report(content, samples), reports, content.suites)


def _same_pixels(left: Report, right: Report) -> bool:
    """Tell whether two reports are of the same pixels; older ones do not say of which they are."""
    hashes = {r.content.dataset.pixels_sha256 for r in (left, right)} - {None}
    return len(hashes) < 2


def _params(report: Report, key: str) -> JsonDict:
    params = report.content.protocol.params.get(key)
    if params is None:
        raise IntakeError(
            f"{plain(report.content.run.name)} does not state the parameters of suite {plain(key)}",
            "evaluate again",
            code="E-REPORT",
        )
    return params


def _check_shared(key: str, first: Report, other: Report) -> None:
    left, right = (r.content.protocol.params.get(key) for r in (first, other))
    if key not in _SHARED or left != right:
        raise _refused(f"suite {plain(key)} is in more than one report")
    ours, theirs = (_samples(r).tables["clean"].at("clean")["pred"] for r in (first, other))
    if not np.array_equal(ours, theirs):
        raise _refused("the clean predictions differ, so the runs were not of one model and stack")


def _joined_parts(reports: Sequence[Report]) -> Report:
    first = reports[0]
    names = [name for report in reports for name in _samples(report).sample_ids]
    if len(set(names)) != len(names):
        raise _refused(f"{len(names) - len(set(names))} samples are in more than one shard")
    if len(names) != first.content.dataset.n_total:
        raise _refused(
            f"the shards hold {len(names)} of {first.content.dataset.n_total} samples: one is "
            "missing"
        )
    for report in reports[1:]:
        if report.content.protocol.params != first.content.protocol.params:
            raise _refused("the shards were not run with the same suites and parameters")
    order = sorted(range(len(names)), key=lambda i: _natural(names[i]))
    samples = replace(
        _samples(first),
        sample_ids=tuple(names[i] for i in order),
        labels=np.concatenate([_samples(report).labels for report in reports])[order],
        tables={
            key: _joined_table(key, [_samples(report).tables[key] for report in reports], order)
            for key in _samples(first).tables
        },
    )
    content = first.content.model_copy(deep=True)
    content.dataset = content.dataset.model_copy(
        update={
            "n": len(names),
            "subset": None,
            "pixels_sha256": None,  # each shard has one of its own images
            "order_sha256": hashlib.sha256("\n".join(samples.sample_ids).encode()).hexdigest(),
        }
    )
    return _finished(_summarised(Report(content, samples)), reports, content.suites)


def _joined_table(key: str, tables: Sequence[Table], order: Sequence[int]) -> Table:
    first = tables[0]
    if any(table.positions is not None for table in tables):
        raise _refused(f"suite {plain(key)} covers a part of each shard")
    if any(table.added is not None for table in tables):
        raise _refused(f"suite {plain(key)} has images of its own in each shard")
    if any(table.conditions != first.conditions for table in tables):
        raise _refused(f"suite {plain(key)} has other conditions in each shard")
    kept = [name for name in first.columns if not name.endswith("_scaled")]
    return Table(
        first.conditions,
        {
            name: np.concatenate([table.columns[name] for table in tables], axis=2)[:, :, order]
            for name in kept
        },
    )


def _summarised(report: Report) -> Report:
    """Make every suite of the report again from its rows."""
    content = report.content
    for key, part in content.suites.items():
        if part.status != "ok":
            raise _refused(f"suite {plain(key)} is {part.status}")
        if "batch:" in str(_params(report, key).get("mask_scope", "")):
            raise _refused(f"suite {plain(key)} shares masks among the samples of a batch")
    parts = remake(report)
    for key, part in parts.items():
        part.timing = content.suites[key].timing
    content.suites = parts
    return report


def _finished(report: Report, reports: Sequence[Report], suites: dict[str, SuitePart]) -> Report:
    """Give the merged report its own id, hash, warnings and timing."""
    content = report.content
    runs = [r.content.run for r in reports]
    identity = hashlib.sha256("\n".join(run.id for run in runs).encode()).hexdigest()
    content.run = content.run.model_copy(
        update={
            "id": identity[:32],
            "fingerprint": identity,
            "config": {"merged": [run.id for run in runs], "suites": list(suites)},
            "started": min(run.started for run in runs),
            "finished": max(run.finished for run in runs),
            "wall_s": sum(run.wall_s for run in runs),
        }
    )
    protocol = content.protocol
    content.protocol = protocol.model_copy(
        update={
            "hash": hash_json({"params": protocol.params, "limits": protocol.limits}),
            "presets": sorted({name for r in reports for name in r.content.protocol.presets}),
            "nonstandard": any(r.content.protocol.nonstandard for r in reports),
            "nonstandard_suites": sorted(
                {key for r in reports for key in r.content.protocol.nonstandard_suites}
            ),
        }
    )
    told = {(w.code, w.suite, w.message): w for r in reports for w in r.content.warnings}
    content.warnings = list(told.values())
    content.timing = {
        name: sum(r.content.timing.get(name, 0.0) for r in reports)
        for name in dict.fromkeys(key for r in reports for key in r.content.timing)
    }
    content.artifacts = []
    return report


def _natural(name: str) -> list[tuple[int, str]]:
    """Make a key that sorts ``2`` before ``10``: the order of a split's own indices."""
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in re.split(r"(\d+)", name)]


def _refused(why: str) -> IncompatibleError:
    return IncompatibleError(
        f"the reports cannot be merged: {why}",
        "merge what one evaluation would have been",
        code="E-MERGE",
    )
