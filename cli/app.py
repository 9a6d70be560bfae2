"""The ``robustmix`` program: its commands, and how errors become one line and an exit code."""

import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Annotated, NamedTuple

import typer

import robustmix
from robustmix.cli import console
from robustmix.cli.calibrate import calibrate
from robustmix.cli.check import check
from robustmix.cli.compare import compare
from robustmix.cli.corrupt import corrupt
from robustmix.cli.demo import demo
from robustmix.cli.doctor import doctor
from robustmix.cli.evaluate import EXAMPLES, evaluate
from robustmix.cli.listing import listing
from robustmix.cli.methods import methods
from robustmix.cli.report import report
from robustmix.cli.train import train
from robustmix.errors import RobustmixError, UsageError
from robustmix.tables import import_plugin

HELP = "Train image classifiers with mixup methods and measure how robust the result is."
EXIT_CODES = (
    "Exit codes: 0 ok, 1 gate failed, 2 usage, 3 model or data, 4 incomplete, 5 incompatible, "
    "130/143 interrupted."
)

ANYWHERE = (
    "Anywhere: --import FILE_OR_MODULE adds what others made, repeatable; --debug shows tracebacks."
)

app = typer.Typer(
    name="robustmix",
    help=HELP,
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # rich would take [default: x] for markup
    pretty_exceptions_enable=False,  # a traceback of ours must not print tensors or secrets
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
) -> None:
    """Show in the help what :func:`run` has taken off the command line before typer reads it."""


@app.command()
def version() -> None:
    """Print the version."""
    console.result(f"robustmix {robustmix.__version__}")


app.command()(train)
app.command(
    "eval",
    epilog=EXAMPLES,
    # What it does not know is an option of a suite; and --help takes the name of one.
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)(evaluate)
app.command()(calibrate)
app.command("list")(listing)
app.command()(compare)
app.command()(check)
app.add_typer(corrupt, name="corrupt")
app.add_typer(methods, name="methods")
app.add_typer(report, name="report")
app.command()(demo)
app.command()(doctor)


def _tell_everywhere(program: typer.Typer) -> None:
    for command in program.registered_commands:
        command.epilog = "\n\n".join(filter(None, (command.epilog, ANYWHERE)))
    for group in program.registered_groups:
        assert group.typer_instance is not None
        group.epilog = ANYWHERE
        _tell_everywhere(group.typer_instance)


_tell_everywhere(app)


class _Arguments(NamedTuple):
    rest: list[str]
    """What typer is to read."""

    plugins: list[str]
    """What is to be imported first."""


def _split(arguments: Sequence[str]) -> _Arguments:
    """Take ``--import`` and ``--debug`` off a command line, wherever they stand before a ``--``.

    Not left to typer: commands and their options may be of what is imported.
    """
    queue = list(arguments)
    found = _Arguments([], [])
    while queue and queue[0] != "--":
        word, equals, value = queue.pop(0).partition("=")
        if word == "--import":
            value = value if equals or not queue else queue.pop(0)
            if not value or value.startswith("-"):
                raise UsageError("--import needs a value", "write --import FILE_OR_MODULE")
            found.plugins.append(value)
        elif word != "--debug" or equals:
            found.rest.append(word + equals + value)
    return found._replace(rest=found.rest + queue)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        split = _split(arguments)
        for where in split.plugins:
            import_plugin(where)
        # The whole line goes to the commands too: reports record how they were made.
        return app(args=split.rest, standalone_mode=False, obj=tuple(arguments)) or 0
    except RobustmixError as error:
        if "--debug" in takewhile(lambda word: word != "--", arguments):
            raise
        console.error(error.line())
        return error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        console.error("error[E-INTERRUPTED]: interrupted")
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        # The parser's own complaints: their class lies in a private module of typer.
        if not hasattr(error, "format_message"):
            raise
        message = " ".join(str(error.format_message()).split())
        if message:
            console.error(f"error[E-USAGE]: {message.rstrip('.')}; see robustmix --help")
        return 2
