"""The ``robustmix`` program: its commands, and how errors become one line and an exit code."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import robustmix
from robustmix.cli import console
from robustmix.cli.calibrate import calibrate
from robustmix.cli.check import check
from robustmix.cli.compare import compare
from robustmix.cli.corrupt import corrupt
from robustmix.cli.demo import demo
from robustmix.cli.doctor import doctor
from robustmix.cli.evaluate import evaluate
from robustmix.cli.listing import listing
from robustmix.cli.methods import methods
from robustmix.cli.report import report
from robustmix.cli.train import train
from robustmix.errors import RobustmixError

HELP = "Train image classifiers with mixup methods and measure how robust the result is."
EXIT_CODES = (
    "Exit codes: 0 ok, 1 gate failed, 2 usage, 3 model or data, 4 incomplete, 5 incompatible, "
    "130/143 interrupted."
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
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Hold the options that come before the command."""


@app.command()
def version() -> None:
    """Print the version."""
    console.result(f"robustmix {robustmix.__version__}")


app.command()(train)
app.command("eval")(evaluate)
app.command()(calibrate)
app.command("list")(listing)
app.command()(compare)
app.command()(check)
app.add_typer(corrupt, name="corrupt")
app.add_typer(methods, name="methods")
app.add_typer(report, name="report")
app.command()(demo)
app.command()(doctor)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return app(args=arguments, standalone_mode=False, obj=tuple(arguments)) or 0
    except RobustmixError as error:
        if "--debug" in arguments:
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
