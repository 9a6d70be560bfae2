"""Reports as the two sides of a comparison: from a file, a folder, a git revision or memory."""

import hashlib
import re
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robustmix.comparison.paths import all_metrics
from robustmix.errors import IncompatibleError, IncompleteError, IntakeError, UsageError
from robustmix.files import atomic_path, expanded, file_digest
from robustmix.report.reading import unreadable
from robustmix.report.report import (
    REPORT_FILE,
    SAMPLES_FILE,
    Report,
    find_record,
    read_report,
    report_path,
    without_folders,
)
from robustmix.report.schema import ReportModel
from robustmix.report.text import plain

_GIT_SECONDS = 60


@dataclass(frozen=True, eq=False)
class Source:
    """A report and where it came from."""

    report: Report
    label: str
    """How it is called in tables: the name of its run, or its file."""

    sha256: str
    """Of the report file."""

    path: Path | None = None
    given: str = ""
    """Path or address as it was typed; empty for a report in memory."""

    @property
    def content(self) -> ReportModel:
        """The report's content."""
        return self.report.content

    @property
    def record_sha256(self) -> str | None:
        """Of the per-sample record that was read with the report; None if none was."""
        if self.path is None or self.report.samples is None:
            return None
        return next(a.sha256 for a in self.content.artifacts if a.kind == "samples")


def open_report(where: Path | str | Report | Source) -> Source:
    """Read a report, with its hash.

    Args:
        where: a report file, the folder it lies in, a report in memory, or one that was opened.

    Raises:
        IntakeError: see ``Report.load``; also a fraction outside [-1, 1].
        IncompatibleError: see ``Report.load``; also a shard of an evaluation.
    """
    if isinstance(where, Source):
        return where
    if isinstance(where, Report):
        text = where.to_json().encode("utf-8")
        return _checked(
            Source(where, plain(where.content.run.name), hashlib.sha256(text).hexdigest())
        )
    where = expanded(where)
    path = report_path(where)
    report = Report.load(path)
    try:
        digest = file_digest(path)
    except OSError as error:
        raise unreadable(path, error) from None
    return _checked(Source(report, plain(report.content.run.name), digest, path, str(where)))


def check_record_sha256(source: Source, expected: str) -> None:
    """Refuse a report whose per-sample record is another than was expected.

    Raises:
        UsageError: what is expected is no SHA-256.
        IntakeError: the record is another, or there is none.
    """
    if re.fullmatch(r"[0-9a-fA-F]{64}", expected) is None:
        raise UsageError(
            "--expect-sha256 wants 64 hexadecimal digits",
            "write what sha256sum says of samples.npz",
            code="E-CHECKSUM",
        )
    if source.record_sha256 != expected.lower():
        told = source.record_sha256
        raise IntakeError(
            f"the per-sample record of {plain(source.label)} is not the expected one"
            + (f" but {told[:12]}" if told else ", for there is none"),
            "give the report whose samples.npz has that digest",
            code="E-CHECKSUM",
        )


def told_apart(sources: Sequence[Source]) -> list[Source]:
    """Call reports whose runs have one name as whoever gave them did: by their paths.

    Paths are cut to what tells them apart: documents of a comparison are published.
    """
    names = [source.label for source in sources]
    twice = {name for name in names if names.count(name) > 1}
    paths = [source.given for source in sources if source.label in twice and source.given]
    return [
        replace(source, label=plain(_tail(source.given, paths)))
        if source.label in twice and source.given
        else source
        for source in sources
    ]


def _tail(given: str, others: Sequence[str]) -> str:
    """Give an absolute path's last names, as few as no other path has; other text as it is."""
    if without_folders(given) == given:
        return given
    parts = Path(given).parts
    for count in range(1, len(parts)):
        tail = parts[-count:]
        if tail != (REPORT_FILE,) and all(
            other == given or Path(other).parts[-count:] != tail for other in others
        ):
            return "/".join(tail)
    return given


def _checked(source: Source) -> Source:
    shard = source.content.dataset.shard
    if shard is not None:
        raise IncompatibleError(
            f"{plain(source.label)} is shard {shard.index} of {shard.count} of an evaluation",
            "join them with `robustmix report merge SHARD... --out DIR` and give that report",
            code="E-SHARD",
        )
    for path, metric in all_metrics(source.content):
        values = [v for v in (metric.value, *(metric.ci or ())) if v is not None]
        limit = 1.0 + 1e-9 if metric.unit == "fraction" else 1e100
        if any(abs(v) > limit for v in values) or metric.n < 0:
            raise IntakeError(
                f"{plain(source.label)} is damaged: {plain(path)} is {values[0]:g}, "
                f"which no {metric.unit} can be",
                "evaluate again",
                code="E-REPORT",
            )
    return source


def open_baseline(where: str | Path | Report) -> Source:
    """Read a baseline: a file, a folder, ``git:REF:PATH`` or a report in memory.

    Raises:
        UsageError: a git address without revision or path.
        IntakeError: there is no such report; see ``Report.load``.
        IncompatibleError: see ``Report.load``.
    """
    if isinstance(where, str) and where.startswith("git:"):
        return _open_git(where)
    return open_report(where)


def _open_git(address: str) -> Source:
    """Read a report and its per-sample record as they were committed; nothing is checked out."""
    _, _, rest = address.partition(":")
    revision, _, path = rest.partition(":")
    if not revision or not path or revision.startswith("-"):
        raise UsageError(
            f"cannot read the baseline '{plain(address)}'", "write git:REF:PATH", code="E-BASELINE"
        )
    if _git("cat-file", "-t", f"{revision}:{path}", address=address).strip() == b"tree":
        path = f"{path.rstrip('/')}/{REPORT_FILE}"
    with tempfile.TemporaryDirectory(prefix="robustmix-") as folder:
        file = Path(folder) / REPORT_FILE
        # With filters: a record kept in Git LFS is its content, not the pointer to it.
        file.write_bytes(_git("cat-file", "--filters", f"{revision}:{path}", address=address))
        content = read_report(file)
        named = [Path(a.path).name for a in content.artifacts if a.kind == "samples"]
        # Also where it is not named: that a record is there and was struck out is to be found.
        for name in sorted({*named, SAMPLES_FILE} - {""}):
            try:
                beside = (Path(path).parent / name).as_posix()
                rows = _git("cat-file", "--filters", f"{revision}:{beside}", address=address)
                (Path(folder) / name).write_bytes(rows)
            except (IntakeError, OSError, ValueError):
                pass  # not committed: a baseline without rows, which ends as incomplete
        source = open_report(file)
        return Source(source.report, source.label, source.sha256, given=address)


def _git(*arguments: str, address: str) -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        stderr = getattr(error, "stderr", None)
        told = stderr.decode("utf-8", "replace").strip() if stderr else str(error)
        raise IntakeError(
            f"there is no baseline at {plain(address)}: {plain(told)}",
            "check the revision and the path from the root of the repository",
            code="E-BASELINE",
        ) from None
    return done.stdout


def update_baseline(candidate: Source, where: str) -> Path:
    """Put the candidate in the place of the baseline and return its path.

    Both files are written whole under other names before either is renamed. A kill between the two
    renames leaves a record that its report refuses by checksum, never a baseline that passes.

    Raises:
        UsageError: the baseline is a git revision, or the candidate is not in a file.
        IncompatibleError: the candidate has no per-sample record.
        IncompleteError: the candidate did not complete, or the files cannot be written; the old
            ones are still there.
    """
    if where.startswith("git:") or candidate.path is None:
        raise UsageError(
            "only a baseline that is a file can be replaced", "give its path", code="E-BASELINE"
        )
    target = expanded(where)
    if target.is_dir() or target.suffix != ".json":
        target = target / REPORT_FILE
    if target.resolve() == candidate.path.resolve():
        return target
    if candidate.content.run.status != "success":
        raise IncompleteError(
            f"the evaluation of {plain(candidate.label)} is {candidate.content.run.status}, and "
            "no baseline is made of that",
            "finish it with eval --resume",
        )
    record = find_record(candidate.content, candidate.path)
    if record is None or candidate.report.samples is None:
        raise IncompatibleError(
            "the candidate has no per-sample record, and such a baseline can be tested against "
            "nothing",
            "evaluate it again",
            code="E-BASELINE",
        )
    with atomic_path(target) as report_copy:
        report_copy.write_bytes(candidate.path.read_bytes())
        with atomic_path(target.parent / record.path) as rows_copy:
            rows_copy.write_bytes((candidate.path.parent / record.path).read_bytes())
    return target
