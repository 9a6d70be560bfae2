"""The command line: parse, plan, one library call, print, exit code."""

import contextlib
import os
import sys

from robustmix.launch import leave


def main() -> None:
    """Run ``robustmix`` and exit with its documented code."""
    # Idle threads must sleep, not spin: with fewer free cores than threads, spinning makes small
    # models five to fifty times slower. Read when torch is loaded, hence set before.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from robustmix.cli.app import run

        code = run()
    except BaseException as error:  # under --debug, or an installation that cannot be imported
        code = _ended(error)
    leave(code)


def _ended(error: BaseException) -> int:
    """Show what stopped the program, and return its exit code: Python's own would be 1."""
    import traceback

    from robustmix.errors import explained
    from robustmix.text import plain_lines

    if isinstance(error, KeyboardInterrupt):
        return 130
    told = explained(error)
    with contextlib.suppress(OSError, AttributeError):  # stderr may be full, or not there
        if "--debug" in sys.argv:
            sys.stderr.write(plain_lines("".join(traceback.format_exception(error))))
        sys.stderr.write(told.line() + "\n")
    return told.exit_code
