"""Older report files brought to the present schema."""

from pathlib import Path

from robustmix.files import write_text
from robustmix.report.report import Report, read_json, validated
from robustmix.report.schema import SCHEMA_VERSION


def migrate(path: Path, out: Path) -> Path:
    """Write a report as the present version of the schema has it and return its path.

    Fields that this version does not know are left out; the per-sample record is not touched, so
    the file must lie beside it to be tested.

    Raises:
        IntakeError: the file is no report, or breaks the schema of its version.
        IncompatibleError: it is of a newer major version.
        IncompleteError: ``out`` cannot be written.
    """
    content = validated(read_json(path), path)
    content.schema_version = SCHEMA_VERSION
    write_text(out, Report(content).to_json())
    return out
