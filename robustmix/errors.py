"""The errors a user can cause, each with a code, one line of text and an exit code."""

import difflib
from collections.abc import Iterable


class RobustmixError(Exception):
    """Something the user can mend; the command line prints it as one line.

    Attributes:
        code: stable identifier such as ``E-DATA``, printed in brackets.
        exit_code: what the process exits with.
        message: what is wrong.
        hint: what to do about it.
    """

    exit_code = 4
    default_code = "E-FAILED"

    def __init__(self, message: str, hint: str = "", *, code: str = "") -> None:
        self.code = code or self.default_code
        self.message = message
        self.hint = hint
        super().__init__(f"{message}; {hint}" if hint else message)

    def line(self) -> str:
        """Return the one line that the command line prints."""
        return f"error[{self.code}]: " + " ".join(str(self).split())


class UsageError(RobustmixError, ValueError):
    """A name, flag or value that is invalid (exit 2)."""

    exit_code = 2
    default_code = "E-USAGE"


class IntakeError(RobustmixError):
    """A model, data or report file that is missing, damaged or not what it claims (exit 3)."""

    exit_code = 3
    default_code = "E-INTAKE"


class IncompleteError(RobustmixError):
    """A suite or run that could not be completed, or a result that was not written (exit 4)."""

    exit_code = 4
    default_code = "E-INCOMPLETE"


class IncompatibleError(RobustmixError):
    """Two things that must not be mixed: reports, units of another run, a newer schema (exit 5)."""

    exit_code = 5
    default_code = "E-INCOMPATIBLE"


def unknown_name(what: str, name: str, known: Iterable[str], *, code: str = "") -> UsageError:
    """Return the error for a name that does not exist, suggesting the nearest one.

    Args:
        what: the kind of thing, e.g. ``"suite"``.
        name: what the user wrote.
        known: every valid name.
        code: the error code; ``E-UNKNOWN-<WHAT>`` if empty.

    Example:
        >>> unknown_name("suite", "occlusoin", ["clean", "occlusion"]).line()
        "error[E-UNKNOWN-SUITE]: unknown suite 'occlusoin'; did you mean 'occlusion'?"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else "choose from " + ", ".join(known)
    return UsageError(
        f"unknown {what} '{name}'", hint, code=code or f"E-UNKNOWN-{what.upper().replace(' ', '-')}"
    )
