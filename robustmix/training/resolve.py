"""From what was given (a name, a file, ``--set``, flags, arguments) to one complete recipe.

First the selection (data set, architecture, method, length, variant), wherever it was given, which
decides what the packaged files say; then the rest that was given, over it: file < ``--set`` <
flags.
Every key that was given ends up in the recipe with its value, or the call fails and names it.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from robustmix.data.manifests import list_manifests, load_manifest
from robustmix.data.protocol import dataset_protocol
from robustmix.errors import UsageError, unknown_name
from robustmix.files import expanded
from robustmix.methods.registry import METHODS, method_options, options_without_effect
from robustmix.toml_files import parse_toml, read_toml
from robustmix.training.catalogue import (
    Selection,
    Setting,
    compose,
    flat,
    parse_name,
    recipe_files,
)
from robustmix.training.recipe import INFORMATIVE, Recipe
from robustmix.training.recipe_dict import nested, recipe_from_dict, recipe_to_dict
from robustmix.training.recipe_effect import without_effect
from robustmix.training.recipe_tables import TABLES

_Value = TypeVar("_Value")

FOLDER = "folder:"

SELECTING = ("dataset", "protocol_of", "arch", "method.name", "epochs", "variant")
"""Keys that choose what the packaged files say."""


PARTS = ("accumulate", "norm_batch")
"""Keys that say how a batch is divided."""


@dataclass(frozen=True)
class Resolved:
    """A complete recipe, and where each value of it comes from."""

    recipe: Recipe
    origins: Mapping[str, str]
    """By dotted key."""


@dataclass(frozen=True)
class _Layer:
    """What one source gives, by dotted key."""

    origin: str
    values: Mapping[str, Any]


def resolve(
    preset: str | None = None,
    *,
    file: Path | None = None,
    sets: Iterable[str] = (),
    overrides: Mapping[str, object] | None = None,
) -> Resolved:
    """Return the recipe of a run, with where each value comes from.

    Args:
        preset: ``DATASET-ARCH-METHOD[-EPOCHS|-VARIANT]``, or none.
        file: a TOML file, or none.
        sets: ``key=value`` strings with dotted keys and TOML values, e.g. ``method.alpha=0.5``.
        overrides: keys (dotted ones too) and values; None means "not given".

    Raises:
        UsageError: a key or name that does not exist, an impossible value, or one without effect.
        IntakeError: the file cannot be read.
    """
    layers = []
    if file is not None:
        layers.append(_Layer(Path(file).name, _flat(read_recipe_dict(file))))
    layers.append(_Layer("--set", _flat(parse_sets(sets))))
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    layers.append(_Layer("given", _flat(given)))
    return _resolve(Selection() if preset is None else parse_name(preset), preset, layers)


def resolve_recipe(
    preset: str | None = None,
    *,
    file: Path | None = None,
    sets: Iterable[str] = (),
    overrides: Mapping[str, object] | None = None,
) -> Recipe:
    """Return the recipe of a run: the selection's, then file < ``sets`` < ``overrides``.

    See ``resolve``.

    Example:
        >>> resolve_recipe("cifar100-resnet18-mixup", overrides={"epochs": 400}).epochs
        400
    """
    return resolve(preset, file=file, sets=sets, overrides=overrides).recipe


def resolve_source(
    source: str | Path | None,
    *,
    sets: Iterable[str] = (),
    overrides: Mapping[str, object] | None = None,
) -> Resolved:
    """Return the recipe that a name or a file means, with what is given over it.

    Args:
        source: a packaged recipe's name, or a TOML file (``.toml``, or any path that is a file).
        sets: see ``resolve``.
        overrides: see ``resolve``.
    """
    is_file = source is not None and (
        isinstance(source, Path) or source.endswith(".toml") or expanded(source).is_file()
    )
    return resolve(
        None if is_file or source is None else str(source),
        file=expanded(source) if is_file and source is not None else None,
        sets=sets,
        overrides=overrides,
    )


def load_recipe(source: str | Path) -> Recipe:
    """Return a packaged recipe by name, or the one in a TOML file (``.toml`` or an existing path).

    Raises:
        UsageError: no such recipe, or the content is wrong.
        IntakeError: the file cannot be read.
    """
    return resolve_source(source).recipe


def with_overrides(recipe: Recipe, overrides: Mapping[str, object]) -> Recipe:
    """Return a complete recipe with some keys replaced; None means "not given".

    Raises:
        UsageError: a key or name that does not exist, an impossible value, one without effect, or
            another method than that whose options the recipe holds.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    if not given:
        return recipe
    base = recipe_values(recipe)
    layers = [_Layer("the recipe", base), _Layer("given", _flat(given))]
    _check_method(layers, layers[1].values.get("method.name", recipe.method))
    merged = _over(base, layers[1].values)
    idle = without_effect(_built(merged, complete=False))
    _refuse_idle(layers[1:], idle)
    merged = {key: value for key, value in merged.items() if key not in idle}
    _refuse_idle(layers[1:], _idle_options(_built(merged, complete=False)))
    if any(base.get(key) != value for key, value in layers[1].values.items()):
        merged["description"] = layers[1].values.get("description", "")
    return _built(merged)


def with_method_options(recipe: Recipe) -> Recipe:
    """Return the recipe with every option of its method checked and filled in (imports torch)."""
    return replace(recipe, method_options=method_options(recipe.method, recipe.method_options))


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe's values by dotted key; the empty test transform is a value too."""
    return _flat(recipe_to_dict(recipe))


def read_recipe_dict(path: Path) -> dict[str, Any]:
    """Return the content of a recipe file.

    Raises:
        IntakeError: it cannot be read, is not TOML, or is larger or deeper than any recipe.
    """
    hint = (
        "a recipe is a name of `robustmix recipes list`, or TOML as `robustmix recipes copy` writes"
    )
    return read_toml(expanded(path), what="recipe", hint=hint)


def parse_set(text: str) -> tuple[str, object]:
    """Split ``key=value``; the value is TOML where it can be, else a string.

    Raises:
        UsageError: there is no ``=`` or no key.

    Example:
        >>> parse_set("method.alpha=0.5"), parse_set("arch=resnet18"), parse_set("milestones=[3,5]")
        (('method.alpha', 0.5), ('arch', 'resnet18'), ('milestones', [3, 5]))
    """
    key, sign, value = text.partition("=")
    key, value = key.strip(), re.sub(r"^\s*([+-]?)\.(?=\d)", r"\g<1>0.", value)  # .5 as 0.5
    if not sign or not key:
        raise UsageError(f"cannot read '{text}'", "write key=value, e.g. method.alpha=0.5")
    try:
        # A newline in the value could smuggle in a second key; TOML then has two entries.
        parsed = parse_toml(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key, value.strip()
    return key, parsed["value"] if len(parsed) == 1 else value


def parse_sets(sets: Iterable[str]) -> dict[str, object]:
    """Return what several ``key=value`` say, by key.

    Raises:
        UsageError: one cannot be read, or two contradict each other.
    """
    found: dict[str, object] = {}
    for text in sets:
        key, value = parse_set(text)
        if key in found and found[key] != value:
            raise UsageError(
                f"--set {key} is given twice: {found[key]!r} and {value!r}", "give it once"
            )
        found[key] = value
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was given by dotted key, ``method`` as ``method.name``.

    An empty table counts as given: ``[test_transform]`` leaves the images as they are.

    Raises:
        UsageError: a key does not exist, or is given twice.
    """
    for key in values:
        table = key.partition(".")[0]
        if table != key and values.get(table) == {}:
            raise UsageError(f"{table} is given twice: empty, and with {key}", "give one of them")
    tables = nested(values)
    found = flat(tables)
    if tables.get("test_transform") == {}:
        found["test_transform"] = {}
    return found


def _resolve(selection: Selection, preset: str | None, layers: list[_Layer]) -> Resolved:
    explicit = preset is not None
    for layer in layers:
        selection = _reselect(selection, layer.values, explicit)
        explicit = explicit or not layer.values.keys().isdisjoint(("dataset", "protocol_of"))
    _check_method(layers, selection.method)
    composed = compose(selection)
    composed = _protocol(selection, _asked_size(composed, layers)) | composed
    given: dict[str, Setting] = {}
    for layer in layers:
        given = _over(given, {k: Setting(v, layer.origin) for k, v in layer.values.items()})
    batch = composed.get("batch_size")
    if batch is not None and "batch_size" in given and given["batch_size"].value != batch.value:
        # The parts of a published batch, which are of no other.
        composed = {k: v for k, v in composed.items() if k not in PARTS or k in given}
    changed = [
        key
        for key, setting in given.items()
        if key not in SELECTING + INFORMATIVE
        and (key not in composed or composed[key].value != setting.value)
    ]
    settings = _over(composed, given)
    if changed and "description" not in given:
        settings.pop("description", None)
    idle = without_effect(
        _built({key: setting.value for key, setting in settings.items()}, complete=False)
    )
    _refuse_idle(layers, idle)
    kept = {key: setting for key, setting in settings.items() if key not in idle}
    recipe = recipe_from_dict({key: setting.value for key, setting in kept.items()})
    _refuse_idle(layers, _idle_options(recipe))
    recipe = with_method_options(recipe)
    return Resolved(recipe, _origins(recipe, kept))


def _over(below: Mapping[str, _Value], values: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return ``values`` over ``below``; an empty table leaves nothing of what is below."""
    emptied = tuple(f"{key}." for key in TABLES if key in values)
    return {key: value for key, value in below.items() if not key.startswith(emptied)} | {**values}


def _reselect(selection: Selection, values: Mapping[str, Any], explicit: bool) -> Selection:
    """Return the selection after one more source has spoken.

    Args:
        selection: so far.
        values: what the source gives.
        explicit: whether the data set so far, or its protocol, was given and is not the default.
    """
    changes: dict[str, Any] = {}
    dataset = values.get("dataset")
    if isinstance(dataset, str):
        changes["dataset"] = dataset
        followed = selection.protocol_of or selection.dataset
        keeps = explicit and dataset.startswith(FOLDER) and followed in _known_protocols()
        # The images of a recipe's data set, wherever they lie: its protocol goes with them.
        changes["protocol_of"] = followed if keeps else None
    names = (("protocol_of", str), ("arch", str), ("epochs", int), ("variant", str))
    for name, kind in names:
        if type(values.get(name)) is kind:
            changes[name] = values[name]
    method = values.get("method.name")
    if isinstance(method, str):
        changes["method"] = METHODS.checked(method)
    return replace(selection, **changes)


def _known_protocols() -> list[str]:
    return sorted({*recipe_files(), *_trainable()})


def _trainable() -> list[str]:
    return [name for name in list_manifests() if load_manifest(name).train_augment is not None]


def _check_method(layers: list[_Layer], method: object) -> None:
    """Refuse options that a source gives to another method than the one that is trained."""
    for layer in layers:
        named = layer.values.get("method.name", method)
        options = [
            key for key in layer.values if key.startswith("method.") and key != "method.name"
        ]
        if named != method and options:
            raise UsageError(
                f"{', '.join(options)} of {layer.origin} belong to method {named}, not {method}",
                "give the recipe's name instead (DATASET-ARCH-METHOD), or leave them out",
                code="E-RECIPE",
            )


def _protocol(selection: Selection, size: int | None) -> dict[str, Setting]:
    """Return what the data set's images go through at a side, as far as its name tells."""
    name = selection.protocol_of or selection.dataset
    if selection.protocol_of is not None and name not in _known_protocols():
        raise unknown_name("data set for protocol_of", name, _known_protocols())
    if name not in list_manifests():
        return {}
    try:
        protocol = dataset_protocol(load_manifest(name), size)
    except ValueError as error:
        raise UsageError(str(error), "choose a data set to train on", code="E-RECIPE") from None
    tables = {
        "augment": asdict(protocol.augment),
        "normalisation": {"mean": protocol.mean, "std": protocol.std},
        "test_transform": protocol.test_transform.record(),
    }
    origin = f"protocol of {name}"
    found = {
        key: Setting(value, origin) for key, value in flat(tables).items() if value is not None
    }
    if protocol.test_transform.text() == "none":
        found = {k: v for k, v in found.items() if not k.startswith("test_transform.")}
        found["test_transform"] = Setting({}, origin)
    return found


def _asked_size(composed: Mapping[str, Setting], layers: list[_Layer]) -> int | None:
    """Return the side of the images that the other settings ask for."""
    for layer in reversed(layers):
        size = layer.values.get("img_size")
        if type(size) is int and 1 <= size <= 8192:
            return size
    setting = composed.get("img_size")
    return None if setting is None else int(setting.value)


def _refuse_idle(layers: Iterable[_Layer], idle: Mapping[str, str]) -> None:
    found = [(key, layer.origin) for layer in layers for key in layer.values if key in idle]
    if not found:
        return
    key, origin = found[0]
    rest = ", ".join(name for name, _ in found[1:])
    more = f" (nor have {rest})" if rest else ""
    raise UsageError(
        f"{key} of {origin} has no effect{more}: {idle[key]}",
        "leave it out",
        code="E-UNUSED-OPTION",
    )


def _idle_options(recipe: Recipe) -> dict[str, str]:
    idle = options_without_effect(recipe.method, recipe.method_options)
    return {f"method.{key}": why for key, why in idle.items()}


def _built(values: Mapping[str, Any], *, complete: bool = True) -> Recipe:
    recipe = recipe_from_dict(values)
    return with_method_options(recipe) if complete else recipe


def _origins(recipe: Recipe, settings: Mapping[str, Setting]) -> dict[str, str]:
    """Return where each value of a complete recipe comes from."""
    found = {}
    for key in recipe_values(recipe):
        if key in settings:
            found[key] = settings[key].origin
        else:
            found[key] = f"default of {recipe.method}" if key.startswith("method.") else "default"
    if found.get("grad_clip") == "default" and recipe.optimizer == "lamb":
        found["grad_clip"] = "default of lamb"
    return found
