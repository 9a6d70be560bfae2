"""Run the self-tests and describe the machine."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import robustmix
from robustmix.doctor.checks import CHECKS
from robustmix.doctor.expectations import CheckFailed
from robustmix.doctor.machine import describe_machine, find_data, probe_speed
from robustmix.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one self-test found."""

    name: str
    ok: bool
    detail: str
    """A few words: what was found, or how it differs from what should be."""

    about: str
    """What should hold."""

    tolerance: str
    """How nearly it should."""

    traps: tuple[int, ...]
    seconds: float

    @property
    def line(self) -> str:
        """The line that the command prints."""
        return f"{'ok' if self.ok else 'FAILED'} {self.name}: {self.detail} ({self.tolerance})"


def run_check(name: str, device: torch.device) -> Finding:
    """Run one self-test; whatever it raises is a finding.

    Raises:
        UsageError: there is no such self-test.
    """
    if name not in CHECKS:
        raise unknown_name("check", name, CHECKS)
    check, begun = CHECKS[name], time.perf_counter()
    try:
        detail, ok = check.run(device), True
    except CheckFailed as error:
        detail, ok = str(error), False
    except Exception as error:  # a broken stack may raise anything, and that is what we look for
        detail, ok = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", False
    about = (check.run.__doc__ or "").partition("\n")[0]
    seconds = time.perf_counter() - begun
    return Finding(
        name=name,
        ok=ok,
        detail=detail,
        about=about,
        tolerance=check.tolerance,
        traps=check.traps,
        seconds=seconds,
    )


def run_checks(device: torch.device, names: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield the findings of some self-tests, or of all, as they are made."""
    for name in names or CHECKS:
        yield run_check(name, device)


def examine(
    device: torch.device, findings: Sequence[Finding], *, data_dir: Path | None, probe: bool = True
) -> dict[str, Any]:
    """Return the whole result, JSON-like.

    Args:
        device: what was tested.
        findings: of the self-tests.
        data_dir: where data sets lie.
        probe: whether to measure the speed, which takes two seconds.
    """
    return {
        "kind": "robustmix.doctor",
        "version": robustmix.__version__,
        "ok": all(finding.ok for finding in findings),
        "environment": describe_machine(device),
        "data": find_data(data_dir),
        "speed": probe_speed(device) if probe else None,
        "checks": [asdict(finding) | {"traps": list(finding.traps)} for finding in findings],
    }
