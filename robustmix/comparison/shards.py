"""The shards of one evaluation joined: the report that a single run would have made."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from robustmix.errors import IncompatibleError
from robustmix.evaluation.recompute import remake
from robustmix.evaluation.suites.registry import read_suite
from robustmix.report.report import Report
from robustmix.report.rows import own_places
from robustmix.report.samples import Added, Samples, Table
from robustmix.report.schema import JsonDict, ReportModel, ShardPart, SuitePart, Warn
from robustmix.report.text import plain
from robustmix.rng import subset_positions


def joined_shards(reports: Sequence[Report]) -> Report:
    """Join all shards of one evaluation.

    Args:
        reports: complete ones with their per-sample records, in any order.

    Raises:
        IncompatibleError: a shard is missing or there twice, or they are not of one evaluation.
        KeyError, ValueError: a record does not hold the rows that its report states.
    """
    shards = _checked(reports)
    first = shards[0]
    assert first.samples is not None
    tables: dict[str, Table] = {}
    for key in _shard(first).suites:
        found = [r.samples.tables[key] for r in shards if r.samples and key in r.samples.tables]
        if found:
            tables[key] = _whole(first, key, found, shards)
    content = first.content.model_copy(deep=True)
    content.suites = {key: _a_part(key, shards) for key in _shard(first).suites}
    content.dataset = content.dataset.model_copy(update={"shard": None})
    merged = Report(content, replace(first.samples, tables=tables))
    content.suites = remake(merged)
    for key, part in content.suites.items():
        part.timing = _summed([r.content.suites[key].timing for r in shards if _has(r, key)])
    content.warnings = _warnings(shards, content)
    _describe(content, shards)
    return merged


def _shard(report: Report) -> ShardPart:
    shard = report.content.dataset.shard
    if shard is None:
        raise _refused(f"{plain(report.content.run.name)} is of all samples, others are shards")
    return shard


def _has(report: Report, key: str) -> bool:
    return key in report.content.suites


def _checked(reports: Sequence[Report]) -> list[Report]:
    """Return the shards in their order."""
    counts = sorted({_shard(report).count for report in reports})
    if len(counts) > 1:
        raise _refused(f"there are shards of {' and of '.join(map(str, counts))}")
    (count,) = counts
    placed = {_shard(report).index: report for report in reports}
    if len(placed) < len(reports):
        indices = [_shard(report).index for report in reports]
        twice = sorted({i for i in indices if indices.count(i) > 1})
        raise _refused(f"{_named(twice, count)} {'is' if len(twice) == 1 else 'are'} there twice")
    missing = sorted(set(range(1, count + 1)) - placed.keys())
    if missing:
        raise _refused(f"{_named(missing, count)} {'is' if len(missing) == 1 else 'are'} missing")
    shards = [placed[i] for i in sorted(placed)]
    first = shards[0]
    for report in shards[1:]:
        if report.content.run.fingerprint != first.content.run.fingerprint:
            raise _refused(
                f"shards {_shard(first).index} and {_shard(report).index} are of another model, "
                "data set, seed, version or parameters"
            )
        ours, theirs = (r.samples for r in (first, report))
        assert ours is not None
        assert theirs is not None
        if (ours.sample_ids, ours.labels.tolist()) != (theirs.sample_ids, theirs.labels.tolist()):
            raise _refused("the samples differ or stand in another order")
        if not _alike(ours, theirs):
            raise _refused(
                "the clean predictions differ, so the runs were not of one model and stack"
            )
    return shards


def _alike(left: Samples, right: Samples) -> bool:
    ours, theirs = (s.tables["clean"].at("clean")["pred"] for s in (left, right))
    return np.array_equal(ours, theirs)


def _named(indices: Sequence[int], count: int) -> str:
    names = ", ".join(f"{i}/{count}" for i in indices[:10])
    return f"shard{'s' if len(indices) > 1 else ''} {names}" + (", ..." if indices[10:] else "")


def _whole(first: Report, key: str, found: Sequence[Table], shards: Sequence[Report]) -> Table:
    """Put the rows of one suite together in the order of the samples."""
    covered, limited = covered_by(first, key), key in first.content.protocol.limits
    if len(found) < len(shards) or any(_covers(table, covered) for table in found):
        return _only(key, found, covered)
    positions, added = [], []
    for table, report in zip(found, shards, strict=True):
        shard = _shard(report)
        positions.append(np.zeros(0, np.int64) if table.positions is None else table.positions)
        n = len(table.added or ())
        added.append(np.arange(n) * shard.count + shard.index - 1)
        if not np.array_equal(positions[-1], covered[own_places(len(covered), shard)]):
            raise _refused(
                f"suite {plain(key)} of {_named([shard.index], shard.count)} is of other samples"
            )
        if (
            table.conditions != found[0].conditions
            or table.columns.keys() != found[0].columns.keys()
        ):
            raise _refused(f"suite {plain(key)} has other conditions in each shard")
    if sorted(np.concatenate(added).tolist()) != list(range(sum(map(len, added)))):
        raise _refused(f"suite {plain(key)} has other samples of its own in each shard")
    # A table's rows are of its samples first and then of its own, so the keys keep these apart.
    last = int(covered[-1]) + 1
    places = np.concatenate([np.append(p, last + a) for p, a in zip(positions, added, strict=True)])
    order = np.argsort(places, kind="stable")
    columns = {
        name: np.ascontiguousarray(
            np.concatenate([table.columns[name] for table in found], axis=2)[:, :, order]
        )
        for name in found[0].columns
    }
    return Table(
        found[0].conditions,
        columns,
        covered if limited else None,
        _joined_added(found, np.argsort(np.concatenate(added))),
    )


def covered_by(report: Report, key: str) -> NDArray[np.int64]:
    """Give the positions of the samples that all shards of a suite cover together, rising."""
    content, samples = report.content, report.samples
    assert samples is not None
    count = content.protocol.limits.get(key, len(samples))
    chosen = subset_positions(content.run.seed, samples.sample_ids, count)
    return np.arange(len(samples)) if chosen is None else chosen


def _form(table: Table) -> tuple[tuple[str, ...], set[str]]:
    return table.conditions, set(table.columns)


def _covers(table: Table, covered: NDArray[np.int64]) -> bool:
    return table.positions is None or np.array_equal(table.positions, covered)


def _only(key: str, found: Sequence[Table], covered: NDArray[np.int64]) -> Table:
    """Return the rows that one shard, or each of them, has of all samples."""
    if not _covers(found[0], covered):
        raise _refused(f"suite {plain(key)} is not in every shard")
    return found[0]


def _joined_added(found: Sequence[Table], order: NDArray[np.int64]) -> Added | None:
    added = [table.added for table in found if table.added is not None]
    if not added:
        return None
    ids = [name for one in added for name in one.sample_ids]
    labels = np.concatenate([one.labels for one in added])
    return Added(tuple(ids[i] for i in order), labels[order])


def _a_part(key: str, shards: Sequence[Report]) -> SuitePart:
    """Give some shard's part of a suite, from which the whole one is made again."""
    part = next((r.content.suites[key] for r in shards if _has(r, key)), None)
    if part is None or part.status != "ok":
        raise _refused(
            f"suite {plain(key)} is in no shard"
            if part is None
            else f"suite {plain(key)} is {part.status}"
        )
    return part


def _warnings(shards: Sequence[Report], content: ReportModel) -> list[Warn]:
    """Join what warns of the evaluation, and ask the suites anew what warns of them."""
    kept: dict[str, Warn] = {}
    for report in shards:
        own = _of_suites(report.content, _whole_suites(report))
        for warning in report.content.warnings:
            if warning not in own:
                kept.setdefault(warning.model_dump_json(), warning)
    return [*kept.values(), *_of_suites(content, list(content.suites))]


def _whole_suites(report: Report) -> list[str]:
    assert report.samples is not None
    tables = report.samples.tables
    return [
        key
        for key in report.content.suites
        if key not in tables or _covers(tables[key], covered_by(report, key))
    ]


def _of_suites(content: ReportModel, keys: Sequence[str]) -> list[Warn]:
    found: list[Warn] = []
    for key in keys:
        part = content.suites[key]
        prepared = read_suite(key, content.protocol.params[key], part.origins)
        found += prepared.warnings(key, content.suites)
    return found


def _summed(timings: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for timing in timings for name in timing)
    return {name: sum(timing.get(name, 0.0) for timing in timings) for name in names}


def _describe(content: ReportModel, shards: Sequence[Report]) -> None:
    """Give the merged report its own id and times."""
    runs = [report.content.run for report in shards]
    content.run = content.run.model_copy(
        update={
            "id": hashlib.sha256("\n".join(run.id for run in runs).encode()).hexdigest()[:32],
            "config": {
                "suites": list(content.suites),
                **_batches([run.config for run in runs]),
                "shards": len(shards),
            },
            "started": min(run.started for run in runs),
            "finished": max(run.finished for run in runs),
            "wall_s": sum(run.wall_s for run in runs),
            "resumed_units": sum(run.resumed_units for run in runs),
        }
    )
    content.timing = _summed([report.content.timing for report in shards])
    content.artifacts = []


def _refused(why: str) -> IncompatibleError:
    return IncompatibleError(
        f"the shards cannot be merged: {why}",
        "merge all shards of one evaluation: robustmix report merge DIR... --out DIR",
        code="E-MERGE",
    )


def _batches(configs: Sequence[JsonDict]) -> JsonDict:
    """Say which batches the shards took, as one run does: in the end those of the least memory."""
    known = {key: configs[0].get(key) for key in ("batch_size", "batch_size_asked")}
    left = [config.get("batch_size_at_last") for config in configs]
    sizes = [size for size in left if isinstance(size, int)]
    return known | {"batch_size_at_last": min(sizes) if sizes else None}
