"""The errors a user can cause, each with a code, one line of text and an exit code."""

import difflib
import errno
import re
from collections.abc import Iterable

from robustmix.text import plain, shortened

EXIT_CODES = {
    0: "ok",
    1: "a rule of `check` is violated; means nothing else",
    2: "usage: an option, name or value is invalid",
    3: "model or data: a file is missing, damaged or not what it claims to be",
    4: "incomplete: a run or suite could not be completed, or a result not be written",
    5: "incompatible: reports, runs or formats that do not belong together",
    70: "internal: a fault of robustmix, or of what was added to it; `--debug` shows the traceback",
    130: "interrupted by Ctrl-C; 143: by SIGTERM; 129: by SIGHUP; 140: by SIGUSR2",
}
"""What the process exits with, and why."""

LONGEST = 1000
"""Most characters of a message, and of a hint, in an error line; files can hold long names."""


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

    def __str__(self) -> str:
        """Say it to who called from Python: options are arguments there, and have no dashes."""
        return as_arguments("; ".join(filter(None, (self.message, self.hint))))

    def line(self) -> str:
        """Return the one line that the command line prints, clean and cut whatever it quotes."""
        parts = (shortened(part, LONGEST) for part in (self.message, self.hint) if part)
        return f"error[{self.code}]: " + plain(" ".join("; ".join(parts).split()), 3 * LONGEST)


_OPTION = re.compile(r"(?<![\w`-])--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)( (?=[A-Z]{2,}\b))?")
_COMMAND = re.compile(r"`[^`]*`|\brobustmix [a-z].*")
"""What is to be typed as it is."""

_ARGUMENTS = {"suite": "suites"}
"""Options that are called otherwise in Python."""


def as_arguments(text: str) -> str:
    """Name options as Python's callers know them; whole command lines stay as they are.

    Example:
        >>> as_arguments("expected --batch-size from 1, got 0; see `robustmix eval --help`")
        'expected batch_size from 1, got 0; see `robustmix eval --help`'
        >>> as_arguments("give --teacher CHECKPOINT")
        'give teacher=CHECKPOINT'
    """

    def argument(found: re.Match[str]) -> str:
        name = _ARGUMENTS.get(found[1], found[1].replace("-", "_"))
        return f"{name}=" if found[2] else name

    parts, end = [], 0
    for command in _COMMAND.finditer(text):
        parts += [_OPTION.sub(argument, text[end : command.start()]), command[0]]
        end = command.end()
    return "".join([*parts, _OPTION.sub(argument, text[end:])])


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


class InternalError(RobustmixError):
    """What nobody foresaw (exit 70)."""

    exit_code = 70
    default_code = "E-INTERNAL"


_CANNOT_WRITE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "alloc_failed",
)
"""What backends say that raise a plain RuntimeError."""


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that memory ran out, of whatever device."""
    if isinstance(error, MemoryError):
        return True
    # torch's own class is a RuntimeError too; torch is not imported to find out.
    said = f"{type(error).__name__} {_said(error)}".lower()
    return isinstance(error, RuntimeError) and any(
        words in said for words in (*_MEMORY, "outofmemoryerror")
    )


def explained(error: BaseException) -> RobustmixError:
    """Return what the command line says of an exception that no command caught.

    A file of the user's that cannot be opened, a full disk and memory that ran out are the user's
    to mend; anything else is an ``InternalError``.
    """
    if isinstance(error, RobustmixError):
        return error
    if out_of_memory(error):
        return IncompleteError(
            "memory ran out", "give a smaller --batch-size or another --device", code="E-MEMORY"
        )
    if isinstance(error, OSError) and error.errno in _CANNOT_WRITE:
        where = "" if error.filename is None else f" {error.filename}"
        return IncompleteError(
            f"cannot write{where}: {error.strerror}", "free disk space", code="E-WRITE"
        )
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return IntakeError(
            f"cannot use {error.filename}: {error.strerror}", "check the path", code="E-FILE"
        )
    said = shortened(_said(error), LONGEST // 2)
    return InternalError(
        f"{type(error).__name__}" + (f": {said}" if said else ""),
        "unexpected: run the same command with --debug for the traceback, and report it",
    )


def _said(error: BaseException) -> str:
    try:
        return " ".join(str(error).split())
    except Exception:  # of a stranger's class, whose __str__ may be broken too
        return ""


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
        >>> unknown_name("option", "epsilon", ["eps", "version"]).hint
        "did you mean 'eps'?"
    """
    known, name = sorted(known), shortened(name, 100)
    parts = [part for part in re.split(r"[\s;+|]+", name) if part]
    found = nearest(name, known)
    if len(parts) > 1 and set(parts) <= set(known):
        hint = f"separate names by commas: {','.join(parts)}"
    elif found is not None:
        hint = f"did you mean '{found}'?"
    else:
        hint = "choose from " + ", ".join(known)
    return UsageError(
        f"unknown {what} '{name}'", hint, code=code or f"E-UNKNOWN-{what.upper().replace(' ', '-')}"
    )


def unknown_option(flag: str, known: Iterable[str], otherwise: str) -> UsageError:
    """Return the error for an option that does not exist, suggesting one that looks like it.

    Of many options some are a little like any word, and to be told of those leads astray.

    Args:
        flag: what the user wrote, with its dashes.
        known: every valid option, likewise.
        otherwise: what to do where none is like it.

    Example:
        >>> unknown_option("--output", ["--out", "--seed"], "see --help").hint
        "did you mean '--out'?"
        >>> unknown_option("--workers", ["--other", "--seed"], "see --help").hint
        'see --help'
    """
    by_name = {one.lstrip("-"): one for one in sorted(known) if one.startswith("--")}
    name = shortened(flag, 100).partition("=")[0]
    found = nearest(name.lstrip("-"), by_name, likeness=0.7)
    hint = otherwise if found is None else f"did you mean '{by_name[found]}'?"
    return UsageError(f"unknown option '{name}'", hint)


def nearest(name: str, known: Iterable[str], *, likeness: float = 0.5) -> str | None:
    """Return the known name that is most like another one, small or large letters aside.

    Args:
        name: what the user wrote.
        known: every valid name.
        likeness: how like it has to be, in [0, 1] (``difflib``'s ratio); a word carried on, as eps
            to epsilon, always is.

    Example:
        >>> nearest("FGSM", ["clean", "fgsm"]), nearest("xyz", ["clean", "fgsm"])
        ('fgsm', None)
    """
    folded = {one.casefold(): one for one in sorted(known, reverse=True)}
    name = name.casefold()
    # A word carried on is nearer than one of some equal letters.
    carried = sorted((one for one in folded if len(one) > 2 and name.startswith(one)), key=len)
    near = (
        difflib.get_close_matches(name, folded, n=1, cutoff=max(0.79, likeness))
        or carried[-1:]
        or difflib.get_close_matches(name, folded, n=1, cutoff=likeness)
    )
    return folded[near[0]] if near else None
