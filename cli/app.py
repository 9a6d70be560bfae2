"""The ``robustmix`` program: its commands, and how errors become one line and an exit code."""

import os
import platform
import sys
import time
import traceback
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated

import typer

import robustmix
from robustmix.cli import console
from robustmix.cli.arguments import split_arguments
from robustmix.cli.calibrate import calibrate
from robustmix.cli.check import check
from robustmix.cli.compare import compare
from robustmix.cli.complaints import complaint
from robustmix.cli.corrupt import corrupt
from robustmix.cli.data import data
from robustmix.cli.demo import demo
from robustmix.cli.doctor import doctor
from robustmix.cli.evaluate import MORE_HELP, evaluate
from robustmix.cli.examples import shown
from robustmix.cli.export import export
from robustmix.cli.listing import listing
from robustmix.cli.methods import methods
from robustmix.cli.models import models
from robustmix.cli.recipes import recipes
from robustmix.cli.report import report
from robustmix.cli.saliency import saliency
from robustmix.cli.study import study
from robustmix.cli.table import table
from robustmix.cli.train import train
from robustmix.errors import EXIT_CODES, IncompleteError, IntakeError, UsageError, explained
from robustmix.progress import show_duration
from robustmix.tables import import_plugin

HELP = "Train image classifiers with mixup methods and measure how robust the result is."
# Markdown, of which typer keeps no line breaks but those between paragraphs.
EPILOG = "\n\n".join(
    ["Exit codes", *(f"- {code}: {meaning}" for code, meaning in EXIT_CODES.items())]
)

ANYWHERE = (
    "Anywhere: --import FILE_OR_MODULE adds what others made, repeatable; -q says errors alone, -v "
    "more than usual; --debug shows tracebacks."
)

WITHOUT_FOLDER = frozenset({"version", "--version", "list"})
"""What works also where the current folder has been deleted."""

HELP_OPTIONS = frozenset({"-h", "--help", "--help-all"})

app = typer.Typer(
    name="robustmix",
    help=HELP,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="markdown",  # rich would take [default: x] for markup
    pretty_exceptions_enable=False,  # a traceback of ours must not print tensors or secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        console.result(f"robustmix {robustmix.__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="FILE_OR_MODULE",
            help="Add the suites, attacks, data sets and so on of a Python file or an installed "
            "module; anywhere, repeatable.",
        ),
    ] = None,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; anywhere.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "-q", "--quiet", help="Say nothing but results and errors, show no progress; anywhere."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("-v", "--verbose", help="Say versions, times and every warning; anywhere."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Show in the help what :func:`run` has taken off the command line before typer reads it."""


@app.command()
def version() -> None:
    """Print the version."""
    console.result(f"robustmix {robustmix.__version__}")


app.command()(train)
app.command(
    "eval",
    epilog=MORE_HELP,
    # What it does not know is an option of a suite; and --help takes the name of one.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)(evaluate)
app.command()(calibrate)
app.command()(export)
app.command("list")(listing)
app.command()(compare)
app.command()(table)
app.command()(check)
app.add_typer(corrupt, name="corrupt")
app.add_typer(data, name="data")
app.add_typer(methods, name="methods")
app.add_typer(models, name="models")
app.add_typer(recipes, name="recipes")
app.add_typer(report, name="report")
app.add_typer(saliency, name="saliency")
app.add_typer(study, name="study")
app.command()(demo)
app.command()(doctor)


def _tell_everywhere(program: typer.Typer, above: str = "") -> None:
    """End every help with examples, and with what can be said on every command."""
    for command in program.registered_commands:
        assert command.name or command.callback
        name = command.name or command.callback.__name__  # type: ignore[union-attr]
        told = (shown(above + name), command.epilog, ANYWHERE)
        command.epilog = "\n\n".join(filter(None, told))
    for group in program.registered_groups:
        assert group.typer_instance is not None
        group.epilog = ANYWHERE
        _tell_everywhere(group.typer_instance, f"{group.name} ")


_tell_everywhere(app)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Whatever happens is an exit code of the table and at most one line on stderr; only under
    ``--debug`` are exceptions raised, for who called to show.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    with console.streams() as streams:
        code = _run(arguments)
        streams.out.flush()
        if streams.full is not None and code in (0, 1):
            lost = streams.full.strerror or streams.full
            console.error(
                IncompleteError(
                    f"cannot write to stdout: {lost}", "free disk space", code="E-WRITE"
                ).line()
            )
            code = IncompleteError.exit_code
    return code


def _run(arguments: list[str]) -> int:
    try:
        split = split_arguments(arguments)
        _require_folder(split.rest)
        with console.loudness(split.loudness):
            begun = time.perf_counter()
            console.say_more(
                f"robustmix {robustmix.__version__}, Python {platform.python_version()}"
            )
            for where in split.plugins:
                console.say_more(f"importing {where}")
                import_plugin(where)
            # The whole line goes to the commands too: reports record how they were made.
            # Its name is told: by itself typer says how Python was started.
            code = (
                app(
                    args=split.rest,
                    prog_name="robustmix",
                    standalone_mode=False,
                    obj=tuple(arguments),
                )
                or 0
            )
            console.say_more(f"took {show_duration(time.perf_counter() - begun)}")
            return code
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        console.error("error[E-INTERRUPTED]: interrupted")
        return 130
    except BaseException as error:  # SystemExit too: what was added may call sys.exit(0)
        debug = "--debug" in takewhile(lambda word: word != "--", arguments)
        return _told(error, arguments, debug=debug)


def _require_folder(words: list[str]) -> None:
    """Refuse to work in a folder that is no more, where no path means anything.

    Before any library is imported: oneMKL, of torch, ends the process there without an exception.
    """
    if not words or words[0] in WITHOUT_FOLDER or not HELP_OPTIONS.isdisjoint(words):
        return
    try:
        os.getcwd()
    except FileNotFoundError:
        raise IntakeError(
            "the current folder has been deleted",
            "go to one that is there, as with `cd ~`, and type the command again",
            code="E-NO-FOLDER",
        ) from None


def _told(error: BaseException, arguments: list[str], *, debug: bool) -> int:
    """Say what an exception means, and return its exit code."""
    if hasattr(error, "format_message"):
        # The parser's own complaints: their class lies in a private module of typer.
        if error.format_message():  # none where the help was shown instead
            console.error(complaint(error, arguments).line())
        return UsageError.exit_code
    if isinstance(error, SystemExit) and _raised_by_typer(error):
        return UsageError.exit_code if error.code else 0
    if debug:
        raise error
    told = explained(error)
    console.error(told.line())
    return told.exit_code


def _raised_by_typer(error: SystemExit) -> bool:
    """Tell whether the program ends itself: after it has installed or done shell completion."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals["__name__"].partition(".")[0] == "typer"
