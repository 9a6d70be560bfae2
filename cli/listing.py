"""``robustmix list``: what there is to choose from. Needs no torch."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from robustmix.cli import console
from robustmix.errors import unknown_name


def _archs() -> dict[str, str]:
    from robustmix.models.names import ARCHS

    return {name: info.description for name, info in ARCHS.items()} | {
        "timm:NAME": "any classifier of timm, e.g. timm:convnext_tiny",
        "torchvision:NAME": "any classifier of torchvision, e.g. torchvision:resnet50",
    }


def _methods() -> dict[str, str]:
    from robustmix.methods.names import METHOD_INFO

    return {
        name: f"{info.summary} (cost {info.cost:g} F, {info.status})"
        for name, info in METHOD_INFO.items()
    }


def _recipes() -> dict[str, str]:
    from robustmix.training.recipe import list_recipes, preset_dict

    return {
        name: f"{text} (extrapolated)" if preset_dict(name).get("extrapolated") else text
        for name, text in list_recipes().items()
    }


def _suites() -> dict[str, str]:
    from robustmix.evaluation.names import SUITES

    return SUITES


def _protocols() -> dict[str, str]:
    from robustmix.evaluation.names import PROTOCOLS

    return PROTOCOLS


def _attacks() -> dict[str, str]:
    from robustmix.attacks.names import DESCRIPTIONS

    return DESCRIPTIONS


def _corruptions() -> dict[str, str]:
    from robustmix.corruptions.names import DESCRIPTIONS

    return DESCRIPTIONS


def _datasets() -> dict[str, str]:
    from robustmix.data.manifests import list_manifests, load_manifest

    manifests = {name: load_manifest(name) for name in list_manifests()}
    return {
        name: f"{manifest.title}, {manifest.num_classes} classes"
        for name, manifest in manifests.items()
        if manifest.loadable
    } | {"folder:PATH": "a folder of images, one folder a class"}


KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "archs": _archs,
    "attacks": _attacks,
    "corruptions": _corruptions,
    "datasets": _datasets,
    "methods": _methods,
    "protocols": _protocols,
    "recipes": _recipes,
    "suites": _suites,
}


def listing(
    kind: Annotated[str, typer.Argument(help="One of " + ", ".join(KINDS) + ".")],
) -> None:
    """List what there is of a kind: architectures, attacks, methods, recipes and so on."""
    if kind not in KINDS:
        raise unknown_name("list", kind, KINDS)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(kind.removesuffix("s"), no_wrap=True)
    table.add_column("what it is")
    for name, text in KINDS[kind]().items():
        table.add_row(name, text)
    console.table_result(table)
