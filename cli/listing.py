"""``robustmix list``: what there is to choose from. Needs no torch."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table as ShownTable

from robustmix.cli import completion, console
from robustmix.cli.recipes import as_record, show_rows
from robustmix.errors import unknown_name
from robustmix.tables import Row, Table

Rows = Mapping[str, str]
"""Names, and what to say of each."""


def from_where(row: Row) -> str:
    """Return ``" (from MODULE VERSION)"`` for what others registered, else nothing."""
    return "" if row.origin is None else f" (from {row.origin})"


def _rows(table: Table[Any, Any]) -> dict[str, str]:
    """Return the rows of a table; what is installed but refused is told on stderr."""
    rows = {name: f"{row.help}{from_where(row)}" for name, row in table.rows().items()}
    for line in table.refused:
        console.say(f"left out: {table.kind} {line}")
    return rows


def _archs() -> Rows:
    from robustmix.models.names import ARCHS

    return _rows(ARCHS) | {
        "timm:NAME": "any classifier of timm, e.g. timm:convnext_tiny",
        "torchvision:NAME": "any classifier of torchvision, e.g. torchvision:resnet50",
        "module:FILE.py:FACTORY": "a network in your own file, or module:PACKAGE.MODULE:FACTORY",
    }


def _attacks() -> Rows:
    from robustmix.attacks.registry import ATTACKS, FAMILIES

    return _rows(ATTACKS) | FAMILIES


def _corruptions() -> Rows:
    from robustmix.corruptions.registry import CORRUPTIONS

    return _rows(CORRUPTIONS)


def _datasets() -> Rows:
    from robustmix.data.manifests import DATASETS

    return _rows(DATASETS) | {"folder:PATH": "a folder of images, one folder a class"}


def _exports() -> Rows:
    from robustmix.export.registry import EXPORTS

    return _rows(EXPORTS)


def _loggers() -> Rows:
    from robustmix.loggers.registry import LOGGERS

    return _rows(LOGGERS)


def _methods() -> Rows:
    from robustmix.methods.registry import METHODS

    told = METHODS.rows()
    return {
        name: f"{text} ({told[name].cost:g} F a step, {told[name].status})"
        for name, text in _rows(METHODS).items()
    }


def _metrics() -> Rows:
    from robustmix.metrics.registry import METRICS

    return _rows(METRICS)


def _models() -> Rows:
    return {
        "FILE": "a checkpoint of robustmix, or weights of others (--arch if they do not say it)",
        "FOLDER": "what timm's save_for_hf or transformers' save_pretrained wrote",
        "hf-hub:OWNER/NAME[@REVISION]": "the same of the Hugging Face hub",
        "timm:NAME@TAG": "published weights of timm; timm:NAME@default its own choice",
        "torchvision:NAME@TAG": "likewise, e.g. torchvision:resnet50@IMAGENET1K_V2",
        "module:FILE.py:FACTORY": "a network in your own file, or module:PACKAGE.MODULE:FACTORY",
        "robustmix:ARCH": "an architecture with random weights; timm:NAME and torchvision:NAME too",
    }


def _protocols() -> Rows:
    from robustmix.evaluation.protocols import PROTOCOLS

    return {name: protocol.help for name, protocol in PROTOCOLS.items()}


def _saliency() -> Rows:
    from robustmix.saliency.registry import SALIENCY

    return _rows(SALIENCY)


def _shift_sets() -> Rows:
    from robustmix.data.shift.registry import SHIFTS

    rows = SHIFTS.rows()
    return {name: f"{row.help} (of {row.clean_of})" for name, row in rows.items()}


def _suites() -> Rows:
    from robustmix.attacks.registry import ATTACKS
    from robustmix.evaluation.suites.registry import SUITES, suite_names

    rows = _rows(SUITES) | _rows(ATTACKS)
    return {name: rows[name] for name in suite_names()}


KINDS: dict[str, Callable[[], Rows]] = {
    "archs": _archs,
    "attacks": _attacks,
    "corruptions": _corruptions,
    "datasets": _datasets,
    "exports": _exports,
    "loggers": _loggers,
    "methods": _methods,
    "metrics": _metrics,
    "models": _models,
    "protocols": _protocols,
    "saliency": _saliency,
    "shift-sets": _shift_sets,
    "suites": _suites,
}


RECIPES = "recipes"
ALL = (*KINDS, RECIPES)


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def listing(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="One of " + ", ".join(sorted(ALL)) + ".",
            autocompletion=completion.complete(lambda: ALL),
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what there is of a kind: architectures, attacks, methods, recipes and so on.

    Without a kind, list the kinds.
    """
    if kind is not None and kind not in ALL:
        raise unknown_name("list", kind, ALL)
    if kind == RECIPES:
        _recipes(as_json)
        return
    rows = _kinds() if kind is None else KINDS[kind]()
    if as_json:
        told = [{"name": name, "what": text} for name, text in rows.items()]
        console.result(json.dumps(told, indent=2, ensure_ascii=False))
        return
    table = ShownTable(box=box.SIMPLE_HEAD)
    table.add_column("kind" if kind is None else kind.removesuffix("s"), no_wrap=True)
    table.add_column("what there is" if kind is None else "what it is")
    for name, text in rows.items():
        table.add_row(name, text)
    console.table_result(table)
    if kind is None:
        console.say("robustmix list KIND tells them")


def _recipes(as_json: bool) -> None:
    from robustmix.training.catalogue import list_rows

    rows = list(list_rows())
    if as_json:
        console.result(json.dumps([as_record(row) for row in rows], indent=2))
        return
    show_rows(rows)
    console.say("robustmix recipes shows, compares and copies them; its list has filters.")


def _kinds() -> Rows:
    """Say how many there are of each kind, and name the first."""
    from robustmix.training.catalogue import list_recipes

    names = {kind: list(rows()) for kind, rows in KINDS.items()} | {RECIPES: list(list_recipes())}
    return {
        kind: f"{len(found)}: " + ", ".join(found[:3]) + (", ..." if found[3:] else "")
        for kind, found in sorted(names.items())
    }
