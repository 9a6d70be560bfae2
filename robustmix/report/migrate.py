"""Older report files brought to the present schema."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from robustmix.errors import IncompatibleError
from robustmix.files import write_text
from robustmix.report.report import Report, read_json, validated
from robustmix.report.schema import SCHEMA_VERSION
from robustmix.report.text import plain

JsonObject = dict[str, Any]

STEPS: dict[str, Callable[[JsonObject], JsonObject]] = {}
"""Major version -> what makes a report of the next one of it. 1 is the first, so there are none."""


def migrate(path: Path, out: Path) -> Path:
    """Write a report as the present version of the schema has it and return its path.

    Fields that this version does not know are left out; the per-sample record is not touched, so
    the file must lie beside it to be tested.

    Raises:
        IntakeError: the file is no report, or breaks the schema of its version.
        IncompatibleError: it is of a newer major version.
        IncompleteError: ``out`` cannot be written.
    """
    value = read_json(path)
    present = SCHEMA_VERSION.partition(".")[0]
    while (major := str(value.get("schema_version", "")).partition(".")[0]) in STEPS:
        value = STEPS[major](value)
    if major != present:
        raise IncompatibleError(
            f"{path} has schema version {plain(value.get('schema_version', 'none'), 20)}, and "
            f"there is no way from there to {SCHEMA_VERSION}",
            "update robustmix",
            code="E-SCHEMA",
        )
    content = validated({**value, "schema_version": SCHEMA_VERSION}, path)
    write_text(out, Report(content).to_json())
    return out
