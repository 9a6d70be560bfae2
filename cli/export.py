"""``robustmix export``: write a model in the form that another program reads."""

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from robustmix.cli import console
from robustmix.cli.model_options import PREPARATION, ModelOptions, takes_model_options
from robustmix.export.registry import EXPORTS


@takes_model_options(without=("class_map", *PREPARATION))
def export(
    model: Annotated[
        str, typer.Argument(help="Checkpoint, folder, or a name (robustmix list models).")
    ],
    to: Annotated[str, typer.Option(help="Format: " + ", ".join(EXPORTS) + ".")],
    out: Annotated[
        Path | None, typer.Option(help="File to write [default: MODEL-FORMAT beside the model].")
    ] = None,
    normalisation: Annotated[
        str | None,
        typer.Option(
            help="inside (what is written takes pixels in [0, 1]) or beside "
            "[default: inside for programs; weights have it beside]."
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Of hf: report on these weights, for the model card.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Of hf: licence of the model, e.g. apache-2.0.")
    ] = None,
    push: Annotated[
        str | None, typer.Option(help="Of hf: put it on the hub as OWNER/NAME.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Of --push: in a private repository.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace what is at --out.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print what is told of the file instead of its path.")
    ] = False,
    *,
    model_options: ModelOptions,
) -> None:
    """Write a model in another program's form, checked by reading it back.

    Beside the file lies OUT.json: what the other program must be told, by its own names. The
    file's path is printed on stdout. `robustmix list exports` tells the formats.
    """
    EXPORTS.checked(to, code="E-EXPORT")  # before the model is loaded
    console.starting(f"exporting {model}")
    from robustmix.export.export import check_options, default_out, export_model

    check_options(
        to, normalisation=normalisation, report=report, license=license, push=push, private=private
    )
    robust = model_options.load(model)
    done = export_model(
        robust,
        to,
        out or default_out(model, to),
        normalisation=normalisation,
        force=force,
        report=report,
        license=license,
        push=push,
        private=private,
    )
    written = done.written
    console.say(
        f"{written.compared}: they differ by at most {written.difference:.1e} of their scale"
    )
    for name, value in written.settings.items():
        console.say(f"  {name}: {json_module.dumps(value)}")
    for note in (*robust.info.notes, *written.notes):
        console.say(f"note: {note}")
    if done.pushed is not None:
        console.say(f"pushed: {done.pushed}")
    console.result(
        json_module.dumps(done.record(), indent=2, sort_keys=True) if json else str(done.path)
    )
