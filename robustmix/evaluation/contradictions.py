"""What a report and its per-sample record say of each other, beside the numbers: do they agree?

A record that is made up whole agrees with itself, and nobody can tell. What is changed in one place
does not: every column, name and count here is said, or follows from what is said, in another.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import robustmix
from robustmix.attacks.registry import ATTACKS
from robustmix.errors import IntakeError, RobustmixError
from robustmix.evaluation.suites.registry import SUITES, read_suite, suite_names
from robustmix.files import hash_json
from robustmix.metrics.agreement import SCORES, score_faults
from robustmix.metrics.scores import score_logits
from robustmix.report.report import Report, metrics_of
from robustmix.report.rows import check_shapes, own_places
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import ReportModel
from robustmix.rng import subset_positions

REPEATED = {"clean_pred": "pred", "loss_before": "nll"}
"""Columns of other suites that repeat one of suite ``clean``."""


FROM_LOGITS = frozenset({"rank", "confidence", "brier", "margin"})
"""Scores that no suite has without having all of them."""


def row_contradictions(report: Report) -> Iterator[str]:
    """Say where the rows of a report contradict each other, its labels or its classes.

    Args:
        report: with its per-sample record.

    Raises:
        IntakeError: the columns do not fit the samples.
    """
    content, samples = report.content, report.samples
    assert samples is not None, "what has no rows cannot be held against them"
    check_shapes(samples)
    classes = content.model.num_classes
    if len(samples.class_names) != classes:
        yield f"the record names {len(samples.class_names)} classes, the report {classes}"
        return
    if wrong := list(_label_faults(samples.labels, classes)):
        yield from wrong
        return
    for key, table in samples.tables.items():
        for fault in _table_faults(content, samples, key, table):
            yield f"rows of suite {key}: {fault}"


def _table_faults(content: ReportModel, samples: Samples, key: str, table: Table) -> Iterator[str]:
    covered = slice(None) if table.positions is None else table.positions
    labels = samples.labels[covered]
    evaluated = len(labels)
    labels = np.append(labels, () if table.added is None else table.added.labels).astype(np.int64)
    yield from _label_faults(labels, content.model.num_classes)
    yield from _logit_faults(table.columns, labels, content.model.num_classes)
    if table.positions is not None:
        yield from _position_faults(content, samples, key, table.positions)
    missing = set(SCORES) - table.columns.keys()
    if missing and not _is_ours(key):
        return  # others' suite, whose columns may mean something else
    if missing and not missing >= FROM_LOGITS:
        yield f"{min(missing)} is missing"
    own = _own_correct(content, key)
    clean = samples.tables.get("clean")
    for place, condition in enumerate(table.conditions):
        rows = {name: column[place] for name, column in table.columns.items()}
        shape = rows[next(iter(rows))].shape[:2]
        tested = np.broadcast_to(rows.get("tested", np.True_), shape) == 1
        whole = bool(tested.all())
        if not whole and any(column[~tested].any() for column in rows.values()):
            yield f"samples that {condition} did not test have values"
        for trial, some in enumerate(tested):
            chosen: NDArray[np.bool_] | slice = slice(None) if whole else some  # a slice is no copy
            scored = {name: column[trial, chosen] for name, column in rows.items()}
            if condition not in own:
                for fault in score_faults(scored, labels[chosen], content.model.num_classes):
                    yield f"{fault} ({condition})"
            if clean is not None and key != "clean":
                places = np.arange(len(samples))[covered][some[:evaluated]]
                yield from _repeat_faults(scored, clean, places)


def _label_faults(labels: NDArray[np.int64], classes: int) -> Iterator[str]:
    if labels.min() < 0 or labels.max() >= classes:
        yield "a label is no class"


def _is_ours(key: str) -> bool:
    name = key.partition("@")[0]
    return name in suite_names() and SUITES.origin(name) is None and ATTACKS.origin(name) is None


def _own_correct(content: ReportModel, key: str) -> tuple[str, ...]:
    """Name the conditions whose ``correct`` has a meaning of its own; none of unknown suites."""
    try:
        return read_suite(key, content.protocol.params.get(key, {})).own_correct
    except IntakeError:
        return ()


def _logit_faults(
    columns: Mapping[str, NDArray[Any]], labels: NDArray[np.int64], classes: int
) -> Iterator[str]:
    """Hold scores against the logits that they were made of, where these were kept."""
    logits = columns.get("logits")
    if logits is None or not set(SCORES) <= columns.keys():
        return
    if logits.ndim != 4 or logits.shape[3] != classes or logits.dtype.itemsize < 4:
        yield f"logits are not float32 of {classes} classes"
        return
    for condition, trial in np.ndindex(logits.shape[:2]):
        try:
            scores = score_logits(logits[condition, trial], labels)
        except RobustmixError as error:
            yield error.message
            return
        for name in SCORES:
            # Logarithms may round differently on another machine.
            made, kept = getattr(scores, name), columns[name][condition, trial]
            if not np.allclose(kept, made, rtol=1e-9, atol=1e-12):
                yield f"{name} is not that of the logits"


def _position_faults(
    content: ReportModel, samples: Samples, key: str, positions: NDArray[np.int64]
) -> Iterator[str]:
    """Hold the samples that a suite covers against those that the seed chooses."""
    limit, shard = content.protocol.limits.get(key), content.dataset.shard
    if limit is None and shard is None:
        yield "they are of a part of the samples, the report states all"
        return
    chosen = (
        None if limit is None else subset_positions(content.run.seed, samples.sample_ids, limit)
    )
    covered = np.arange(len(samples)) if chosen is None else chosen
    shares = [covered] if shard is None else [covered, covered[own_places(len(covered), shard)]]
    if not any(np.array_equal(share, positions) for share in shares):
        whose = "the seed chooses" if shard is None else "the shard has"
        yield f"they are of other samples than {whose}"


def _repeat_faults(
    rows: Mapping[str, NDArray[Any]], clean: Table, places: NDArray[np.int64]
) -> Iterator[str]:
    known = clean.at("clean") if "clean" in clean.conditions else {}
    for name, of in REPEATED.items():
        if name not in rows or of not in known:
            continue
        if not np.allclose(rows[name][: len(places)], known[of][places]):
            yield f"{name} is not {of} of suite clean"


def report_contradictions(report: Report) -> Iterator[str]:
    """Say where a report contradicts itself, or says of its record what that is not.

    Args:
        report: with its per-sample record.
    """
    content, samples = report.content, report.samples
    assert samples is not None, "what has no rows cannot be held against them"
    yield from _dataset_faults(content, samples)
    yield from _suite_faults(content, samples)
    protocol = content.protocol
    if protocol.hash != hash_json({"params": protocol.params, "limits": protocol.limits}):
        yield "protocol.hash is not that of its parameters"
    # Reports of other versions may not name the suites.
    own = content.tool.version == robustmix.__version__
    if protocol.nonstandard != bool(protocol.nonstandard_suites) and own:
        yield "protocol.nonstandard is not whether suites are named that are"
    said = content.model.checks.get("state_sha256", content.model.state_sha256)
    if said != content.model.state_sha256:
        yield "model.state_sha256 is not that of the model that was checked"
    for key, part in content.suites.items():
        for condition, name, metric in metrics_of(part):
            found = re.search(r"/seed(\d+)$", metric.ci_method or "")
            if found and found[1] != str(content.run.seed):
                where = f"{key}.{name}[{condition}]" if condition else f"{key}.{name}"
                yield f"{where}: resampled with seed {found[1]}, the run's is {content.run.seed}"


def _dataset_faults(content: ReportModel, samples: Samples) -> Iterator[str]:
    dataset, n = content.dataset, len(samples)
    if dataset.n != n:
        yield f"it states {dataset.n} samples and has rows of {n}"
    for what, stated, names in (
        ("order_sha256", dataset.order_sha256, samples.sample_ids),
        ("class_names_sha256", dataset.class_names_sha256, samples.class_names),
    ):
        if stated != lines_sha256(names):
            yield f"dataset.{what} is not that of the record"
    if dataset.n > dataset.n_total:
        yield f"{dataset.n} samples are more than the {dataset.n_total} of the split"
    said = dataset.subset
    known = {"n": dataset.n, "of": dataset.n_total, "seed": content.run.seed}
    if said is not None and any(said.get(name) != value for name, value in known.items()):
        yield "dataset.subset is not that of the samples and the seed"


def lines_sha256(names: Sequence[str]) -> str:
    """Hash names in their order, joined by newlines, as a report states those of its samples."""
    return hashlib.sha256("\n".join(names).encode("utf-8")).hexdigest()


def _suite_faults(content: ReportModel, samples: Samples) -> Iterator[str]:
    ended = {key for key, part in content.suites.items() if part.status == "ok"}
    for key in sorted(samples.tables.keys() - ended):
        yield f"the record has rows of suite {key}, which the report does not have"
    for error in content.errors:
        if error.suite in ended:
            yield f"it lists an error of suite {error.suite}, which completed"
    ran = content.run.config.get("suites")
    for key in ran if isinstance(ran, list) else ():
        if key not in content.suites:
            yield f"suite {key} was run and is not there"
    shard = content.dataset.shard
    elsewhere = set() if shard is None else set(shard.suites)
    for key in sorted(content.protocol.limits.keys() - content.suites.keys() - elsewhere):
        yield f"it limits suite {key}, which is not there"
