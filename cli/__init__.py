"""The command line: parse, plan, one library call, print, exit code."""

import os


def main() -> None:
    """Run ``robustmix`` and exit with its documented code."""
    # Idle threads must sleep, not spin: with fewer free cores than threads, spinning makes small
    # models five to fifty times slower. Read when torch is loaded, hence set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from robustmix.cli.app import run

    raise SystemExit(run())
