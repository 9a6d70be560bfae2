"""Settings of the whole test suite."""

import os

# Before torch is imported: idle threads sleep, so that a busy machine does not stall the tests, and
# workers that share the cores have one thread each.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests measured against their limits, the worst figure of each kind."""
    worst: dict[tuple[object, ...], tuple[float, str]] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "measured":
                    key, figure, text = value
                    worst[tuple(key)] = max(worst.get(tuple(key), (figure, text)), (figure, text))
    if worst:
        terminalreporter.section("measured")
        for key in sorted(worst, key=repr):
            terminalreporter.line(worst[key][1])
