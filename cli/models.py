"""``robustmix models``: look into model files."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from robustmix.cli import console

if TYPE_CHECKING:
    from pydantic import JsonValue

models = typer.Typer(help="Look into model files.", no_args_is_help=True, rich_markup_mode=None)


@models.command()
def inspect(
    model: Annotated[
        str,
        typer.Argument(
            help="Checkpoint, file of weights, folder of timm's or transformers', or hf-hub:NAME."
        ),
    ],
    allow_download: Annotated[
        bool,
        typer.Option("--allow-download", help="Fetch hf-hub:NAME if it is not in the local cache."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a file holds: layout, weights, heads, and what it loads as; no code of it is run."""
    console.starting(f"inspecting {model}")
    from robustmix.models.inspect import inspect_model

    found = inspect_model(model, allow_download=allow_download)
    if as_json:
        console.result(json.dumps(found.record(), indent=2, ensure_ascii=False))
        return
    lines = [f"{found.file}: {found.layout}", f"  sha256 {found.sha256}"]
    for place in found.places:
        told = "  ".join(f"{name} {_text(value)}" for name, value in place.items())
        lines.append(f"  {told}")
    if found.model is None:
        lines.append(f"it does not load without more words: {found.problem}")
    else:
        lines.append("loads as")
        for name, value in found.model.items():
            if name != "assumed" and value not in (None, {}, []):
                lines.append(f"  {name:<15} {_text(value)}")
        assumed = found.model["assumed"]
        assert isinstance(assumed, list)
        lines += [f"  note: {note}" for note in assumed]
    console.result("\n".join(lines))


def _text(value: "JsonValue") -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value) or "none"
