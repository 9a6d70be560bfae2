"""Recipes: everything that decides a training run, as data. Nothing here needs torch.

A recipe is a flat TOML file with two tables, ``[method]`` (a name and the method's options) and
``[augment]`` (what differs from the data set's own augmentation). The copy that a run writes holds
every value, so that it reruns the training whatever later defaults are.
"""

import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w

from robustmix.data.augment import Augment
from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.files import write_text
from robustmix.methods.registry import METHODS, method_options


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One training run; two runs of equal recipes on one machine give equal weights."""

    description: str = ""
    """What the recipe is for; compared with nothing."""

    extrapolated: bool = False
    """No published configuration stands behind the recipe; compared with nothing."""

    dataset: str = "cifar100"
    """Name of a data set, or ``folder:PATH``."""

    arch: str = "resnet18"
    """Name of a backbone, or ``timm:NAME`` or ``torchvision:NAME``."""

    stem: str | None = None
    """First layers of the backbone; none is the backbone's choice for the image size."""

    weights: str | None = None
    """What to start from instead of ``init``: ``torchvision:NAME@TAG``, ``timm:...`` or a file."""

    drop_path: float = 0.0
    """Stochastic depth: probability of skipping the last block, falling to 0 at the first."""

    img_size: int | None = None
    """Side in pixels that images are resized to; none keeps the data set's own."""

    method: str = "vanilla"
    """Training method, a name in ``robustmix methods list``."""

    method_options: Mapping[str, Any] = field(default_factory=dict)
    """The method's options; in TOML the other keys of the table ``[method]``."""

    augment: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the augmentation that differ from the data set's own."""

    epochs: int = 200
    """Passes over the training images."""

    batch_size: int = 100
    """Images in a step."""

    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD decays every parameter, AdamW spares norms and biases."""

    lr: float = 0.1
    """Learning rate after the warm-up."""

    min_lr: float = 0.0
    """Learning rate that the schedule falls to."""

    momentum: float = 0.9
    """Momentum of SGD, without Nesterov; AdamW has none."""

    weight_decay: float = 1e-4
    """L2 penalty of SGD, decoupled decay of AdamW."""

    schedule: Literal["cosine", "cosine-iter", "constant", "step"] = "cosine"
    """``cosine`` is constant inside an epoch, ``cosine-iter`` moves at every step."""

    warmup_epochs: int = 0
    """Epochs of linear warm-up."""

    milestones: tuple[int, ...] = ()
    """Epochs (0-based) at which the schedule ``step`` multiplies by ``gamma``."""

    gamma: float = 0.1
    """Factor of the schedule ``step``."""

    generator_lr: float | None = None
    """Learning rate of a method's mask generator, without warm-up; none is ``lr``."""

    generator_min_lr: float | None = None
    """Learning rate that the generator's schedule falls to; none is ``min_lr``."""

    generator_momentum: float | None = None
    """Momentum of SGD for the generator; none is ``momentum``."""

    label_smoothing: float = 0.0
    """eps: the target is (1 - eps) onehot + eps / K."""

    grad_clip: float = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` runs the forward pass under autocast; weights and losses stay float32."""

    channels_last: bool = False
    """Memory layout of images and convolutions; faster on most GPUs."""

    init: Literal["openmixup", "torch"] = "openmixup"
    """Initial weights: the explicit ones of OpenMixup, or PyTorch's defaults."""

    seed: int = 0
    """Seed of the weights, the order, the augmentation and the mixing."""

    val_split: float = 0.0
    """Share of the training images held out to choose ``best``; 0 chooses on the test images."""

    limit_train: int | float | None = None
    """Train on this many images (a count from 1, or a share below 1), evenly spaced."""

    limit_val: int | float | None = None
    """Validate on this many images, as ``limit_train``."""

    def __post_init__(self) -> None:
        METHODS.checked(self.method)
        for key in self.augment:
            if key not in _AUGMENT_FIELDS:
                raise unknown_name("augment key", key, _AUGMENT_FIELDS)
        for key, (ok, want) in _LIMITS.items():
            value = getattr(self, key)
            if value is not None and not ok(value):
                raise _invalid(key, want, value)
        if self.min_lr > self.lr:
            raise _invalid("min_lr", f"at most lr ({self.lr})", self.min_lr)
        self._check_generator()
        if self.warmup_epochs >= self.epochs:
            raise _invalid("warmup_epochs", f"below epochs ({self.epochs})", self.warmup_epochs)

    def _check_generator(self) -> None:
        given = [key for key in _GENERATOR_KEYS if getattr(self, key) is not None]
        if given and not METHODS.row(self.method).generator:
            known = ", ".join(sorted(n for n, row in METHODS.rows().items() if row.generator))
            raise UsageError(
                f"{given[0]}: method {self.method} has no generator",
                f"leave it out, or choose one of {known}",
                code="E-RECIPE",
            )
        top, low = self.generator_lr, self.generator_min_lr
        if top is None:
            top = self.lr
        if low is not None and low > top:
            raise _invalid("generator_min_lr", f"at most the generator's lr ({top})", low)
        if low is None and self.min_lr > top:
            raise _invalid("generator_lr", f"at least min_lr ({self.min_lr})", top)


_GENERATOR_KEYS = ("generator_lr", "generator_min_lr", "generator_momentum")

_AUGMENT_FIELDS = tuple(f.name for f in fields(Augment))

_COUNT = (lambda v: v >= 1, "at least 1")
_POSITIVE = (lambda v: 0 < v < math.inf, "a finite number above 0")
_FINITE_UP = (lambda v: 0 <= v < math.inf, "a finite number of at least 0")
_SHARE = (lambda v: 0 <= v < 1, "at least 0 and below 1")
_LIMIT = (
    lambda v: v >= 1 if isinstance(v, int) else 0 < v < 1,
    "a count from 1 or a share between 0 and 1",
)

_LIMITS: dict[str, tuple[typing.Callable[[Any], bool], str]] = {
    "img_size": _COUNT,
    "epochs": _COUNT,
    "batch_size": _COUNT,
    "drop_path": _SHARE,
    "lr": _POSITIVE,
    "min_lr": _FINITE_UP,
    "momentum": _SHARE,
    "weight_decay": _FINITE_UP,
    "warmup_epochs": (lambda v: v >= 0, "at least 0"),
    "milestones": (lambda v: sorted(set(v)) == list(v) and min(v, default=1) > 0, "rising epochs"),
    "gamma": (lambda v: 0 < v <= 1, "above 0 and at most 1"),
    "generator_lr": _POSITIVE,
    "generator_min_lr": _FINITE_UP,
    "generator_momentum": _SHARE,
    "label_smoothing": _SHARE,
    "grad_clip": _FINITE_UP,
    "seed": (lambda v: 0 <= v < 2**63, "at least 0 and below 2^63"),
    "val_split": _SHARE,
    "limit_train": _LIMIT,
    "limit_val": _LIMIT,
}


def resolve_recipe(
    preset: str | None = None,
    *,
    file: Path | None = None,
    sets: Iterable[str] = (),
    overrides: Mapping[str, object] | None = None,
) -> Recipe:
    """Return the recipe of a run: defaults < preset < file < (``sets`` < ``overrides``).

    A layer that names another method drops the options that the layers below gave to theirs, and
    what they said of its generator.

    Args:
        preset: name of a packaged recipe, or none.
        file: a TOML file, or none.
        sets: ``key=value`` strings with dotted keys and TOML values, e.g. ``method.alpha=0.5``.
        overrides: keys (dotted ones too) and values; None means "not given".

    Raises:
        UsageError: a key or name that does not exist, or an impossible value.
        IntakeError: the file cannot be read.
    """
    layers = [
        preset_dict(preset) if preset else {},
        read_recipe_dict(file) if file else {},
        # One layer: --method mixup must not drop what --set method.alpha=0.4 says beside it.
        dict(map(parse_set, sets))
        | {key: value for key, value in (overrides or {}).items() if value is not None},
    ]
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _merge(merged, _nested(layer))
    return with_method_options(recipe_from_dict(merged))


def load_recipe(source: str | Path) -> Recipe:
    """Return a packaged recipe by name, or the one in a TOML file (``.toml`` or an existing path).

    Raises:
        UsageError: no such preset, or the content is wrong.
        IntakeError: the file cannot be read.
    """
    if str(source).endswith(".toml") or isinstance(source, Path):
        return resolve_recipe(file=Path(source))
    return resolve_recipe(source)


def with_overrides(recipe: Recipe, overrides: Mapping[str, object]) -> Recipe:
    """Return the recipe with some keys replaced; None means "not given", as in ``resolve_recipe``.

    Raises:
        UsageError: a key or name that does not exist, or an impossible value.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    return with_method_options(recipe_from_dict(_merge(recipe_to_dict(recipe), _nested(given))))


def with_method_options(recipe: Recipe) -> Recipe:
    """Return the recipe with every option of its method checked and filled in (imports torch)."""
    return replace(recipe, method_options=method_options(recipe.method, recipe.method_options))


def list_recipes() -> dict[str, str]:
    """Return the packaged recipes: name -> description, sorted by name."""
    names = (path.name for path in _preset_folder().iterdir())
    stems = sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))
    return {stem: str(preset_dict(stem).get("description", "")) for stem in stems}


def preset_dict(name: str) -> dict[str, Any]:
    """Return the content of a packaged recipe.

    Raises:
        UsageError: there is no such recipe.
    """
    file = _preset_folder() / f"{name}.toml"
    if Path(name).name != name or not file.is_file():
        known = {path.name.removesuffix(".toml") for path in _preset_folder().iterdir()}
        raise unknown_name("recipe", name, known)
    return tomllib.loads(file.read_text(encoding="utf-8"))


def _preset_folder() -> resources.abc.Traversable:
    return resources.files("robustmix.training") / "recipes"


def read_recipe_dict(path: Path) -> dict[str, Any]:
    """Return the content of a recipe file.

    Raises:
        IntakeError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise IntakeError(
            f"cannot read recipe {path}: {error.strerror}", "see `robustmix methods list`"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise IntakeError(f"recipe {path} is not valid TOML: {error}") from error


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe as TOML, atomically; ``load_recipe`` gives it back."""
    write_text(path, tomli_w.dumps(recipe_to_dict(recipe)))


def parse_set(text: str) -> tuple[str, object]:
    """Split ``key=value``; the value is TOML where it can be, else a string.

    Raises:
        UsageError: there is no ``=`` or no key.

    Example:
        >>> parse_set("method.alpha=0.5"), parse_set("arch=resnet18"), parse_set("milestones=[3,5]")
        (('method.alpha', 0.5), ('arch', 'resnet18'), ('milestones', [3, 5]))
    """
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not key:
        raise UsageError(f"cannot read '{text}'", "write key=value, e.g. method.alpha=0.5")
    try:
        # A newline in the value could smuggle in a second key; TOML then has two entries.
        parsed = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return key, value.strip()
    return key, parsed["value"] if len(parsed) == 1 else value


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as TOML and JSON hold it: no None, lists for tuples, ``method`` a table."""
    values: dict[str, Any] = {
        f.name: _plain(getattr(recipe, f.name)) for f in fields(Recipe) if f.name not in _TABLES
    }
    values["method"] = {"name": recipe.method, **_plain(recipe.method_options)}
    values["augment"] = _plain(recipe.augment)
    return {key: value for key, value in values.items() if value is not None}


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of such a dictionary; the method's own options stay unchecked.

    Raises:
        UsageError: an unknown key, a value of the wrong type, or an impossible one.
    """
    hints = typing.get_type_hints(Recipe)
    flat = dict(_nested(values))
    method = dict(_table("method", flat.pop("method", {})))
    arguments: dict[str, Any] = {}
    if "name" in method:
        arguments["method"] = _typed("method.name", method.pop("name"), str)
    arguments["method_options"] = method
    augment_hints = typing.get_type_hints(Augment)
    arguments["augment"] = {
        key: _typed(f"augment.{key}", value, augment_hints.get(key, object))
        for key, value in _table("augment", flat.pop("augment", {})).items()
    }
    for key, value in flat.items():
        if key not in _KEYS:
            raise unknown_name("recipe key", key, _KEYS)
        arguments[key] = _typed(key, value, hints[key])
    return Recipe(**arguments)


def recipe_difference(old: Recipe, new: Recipe) -> str | None:
    """Return the first key in which two recipes differ, as ``key is OLD there, NEW here``."""
    old_values, new_values = _flat(recipe_to_dict(old)), _flat(recipe_to_dict(new))
    for key in sorted(old_values.keys() | new_values.keys()):
        if key not in _INFORMATIVE and old_values.get(key) != new_values.get(key):
            return f"{key} is {old_values.get(key)!r} there, {new_values.get(key)!r} here"
    return None


_INFORMATIVE = ("description", "extrapolated")
_TABLES = ("method", "method_options", "augment")
_KEYS = (*(f.name for f in fields(Recipe) if f.name not in _TABLES), "method", "augment")


def _invalid(key: str, want: str, value: object) -> UsageError:
    return UsageError(f"{key}: expected {want}, got {value!r}", code="E-RECIPE")


def _nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``layer`` with dotted keys as tables and ``method = "x"`` as a table with a name."""
    nested: dict[str, Any] = {}
    for key, value in layer.items():
        head, _, tail = key.partition(".")
        if tail and head not in ("method", "augment"):
            raise unknown_name("recipe key", key, _KEYS)
        if head == "method" and not tail and isinstance(value, str):
            tail = "name"
        if tail:
            nested[head] = {**_table(head, nested.get(head, {})), tail: value}
        elif head in ("method", "augment"):
            nested[head] = {**nested.get(head, {}), **_table(head, value)}
        else:
            nested[head] = value
    return nested


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _invalid(key, "a table", value)
    return value


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``below`` updated with ``above``, table by table."""
    method = below.get("method", {})
    if above.get("method", {}).get("name", _name(method)) != _name(method):
        below = {k: v for k, v in below.items() if k not in ("method", *_GENERATOR_KEYS)}
    merged = {**below, **above}
    for key in ("method", "augment"):
        if key in below and key in above:
            merged[key] = {**below[key], **above[key]}
    if "description" not in above and any(merged[k] != below.get(k) for k in above):
        merged.pop("description", None)  # it told of the recipe below
    return merged


def _name(method: Mapping[str, Any]) -> object:
    return method.get("name", Recipe.__dataclass_fields__["method"].default)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": item for inner, item in value.items()}
        else:
            flat[key] = value
    return flat


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return ``value`` if it has the type that ``hint`` says; an integer may stand for a float."""
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return _typed_union(key, value, typing.get_args(hint))
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise unknown_name(f"value of {key}:", str(value), map(str, choices), code="E-RECIPE")
        return value
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise _invalid(key, "a list", value)
        args = typing.get_args(hint)
        items = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(items) != len(value):
            raise _invalid(key, f"{len(items)} values", value)
        return tuple(_typed(key, v, item) for v, item in zip(value, items, strict=True))
    return _typed_scalar(key, value, hint)


def _typed_union(key: str, value: Any, choices: Sequence[Any]) -> Any:
    if value is None and types.NoneType in choices:
        return None
    numbers = [choice for choice in choices if choice is type(value)]
    rest = [choice for choice in choices if choice is not types.NoneType]
    return _typed(key, value, (numbers or rest)[0])


def _typed_scalar(key: str, value: Any, hint: Any) -> Any:
    if hint is object:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        names = {float: "a number", int: "a whole number", bool: "true or false", str: "a string"}
        raise _invalid(key, names.get(hint, str(hint)), value)
    return value
