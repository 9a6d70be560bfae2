"""Recipes: everything that decides a training run, as data. Nothing here needs torch.

A recipe file is flat TOML with four tables: ``[method]`` (a name and the method's options),
``[augment]``, ``[normalisation]`` and ``[test_transform]`` (what the images go through). The copy
that a run writes holds every value that acts, so that it reruns the training whatever later
defaults are.
"""

import functools
import typing
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from robustmix.data.augment import Augment
from robustmix.data.protocol import TestTransform
from robustmix.errors import UsageError, nearest, unknown_name
from robustmix.files import expanded, write_text
from robustmix.methods.registry import METHODS
from robustmix.models.names import ARCHS, split_stem
from robustmix.text import shortened
from robustmix.training.catalogue import flat

_STRICT = ConfigDict(strict=True, extra="forbid", use_attribute_docstrings=True)

_Level = Annotated[float, Field(gt=0, lt=1)]


def _partial(of: type, hints: Mapping[str, Any]) -> Any:
    """Return the type of a table that holds any of some keys, for pydantic."""
    make: Any = TypedDict  # made at run time, so that a table has the fields of its dataclass
    table = make(of.__name__, dict(hints), total=False)
    table.__pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    return table


def _hints_of(of: type) -> dict[str, Any]:
    hints = typing.get_type_hints(of, include_extras=True)
    return {field.name: hints[field.name] for field in fields(of)}


class _Normalisation:
    """Mean and standard deviation a channel (R, G, B), in [0, 1] pixel units."""

    mean: tuple[_Level, _Level, _Level]
    std: tuple[_Level, _Level, _Level]


if TYPE_CHECKING:
    AugmentTable = Mapping[str, Any]
    NormalisationTable = Mapping[str, Any]
    TransformTable = Mapping[str, Any]
else:
    AugmentTable = _partial(Augment, _hints_of(Augment))
    NormalisationTable = _partial(
        _Normalisation, typing.get_type_hints(_Normalisation, include_extras=True)
    )
    TransformTable = _partial(TestTransform, _hints_of(TestTransform))

OptimizerName = Literal["sgd", "adamw", "lamb"]

LAMB_CLIP = 1.0
"""Norm that timm's LAMB clips the gradient to where nothing else is said."""

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]


@dataclass(frozen=True, kw_only=True, slots=True, config=_STRICT)
class Recipe:
    """One training run; two runs of equal recipes on one machine give equal weights."""

    description: str = ""
    """What the recipe is for; compared with nothing."""

    extrapolated: bool = False
    """No published configuration stands behind the recipe; compared with nothing."""

    variant: str | None = None
    """Which of several published settings of a row it follows; compared with nothing."""

    published_batch: str | None = None
    """How the publication split its batch over GPUs, e.g. ``4x64``: batch statistics there were of
    64 images. Compared with nothing; ``batch_size`` is the whole batch, ``norm_batch`` and
    ``accumulate`` divide it."""

    dataset: str = "cifar100"
    """Name of a data set, or ``folder:PATH``."""

    allow_partial: bool | None = None
    """Train on what is here of a data set whose images are not all here; only recorded of runs
    where some were not."""

    protocol_of: str | None = None
    """Data set whose augmentation, normalisation and test transform a folder of images gets."""

    arch: str = "resnet18"
    """Name of a backbone, or ``timm:NAME`` or ``torchvision:NAME``."""

    stem: str | None = None
    """First layers of the backbone; none is the backbone's choice for the image size."""

    weights: str | None = None
    """What to start from instead of ``init``: ``torchvision:NAME@TAG``, ``timm:...`` or a file."""

    drop_path: Share = 0.0
    """Stochastic depth: probability of skipping the last block, falling to 0 at the first."""

    img_size: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Side in pixels that images are resized to; none keeps the data set's own."""

    method: str = "vanilla"
    """Training method, a name in ``robustmix methods list``."""

    method_options: Mapping[str, Any] = field(default_factory=dict)
    """The method's options; in TOML the other keys of the table ``[method]``."""

    augment: AugmentTable = field(default_factory=dict)
    """Augmentation of the training images; what is not said is the data set's own."""

    normalisation: NormalisationTable = field(default_factory=dict)
    """``mean`` and ``std`` of the pixels; if not said, the data set's own."""

    test_transform: TransformTable | None = None
    """How test images are prepared; none is the data set's own way, an empty table leaves them."""

    epochs: Count = 200
    """Passes over the training images."""

    batch_size: Count = 100
    """Images in a step."""

    accumulate: Count = 1
    """Parts that a batch is computed in, one after another; their gradients are averaged. Partners
    and batch statistics stay within a part, as they do on as many GPUs."""

    norm_batch: Annotated[int, Field(ge=2, le=10**9)] | None = None
    """Images that batch statistics and partners are of, where it is a part of those that are
    computed together; none is all of these."""

    sync_norm: bool = False
    """Whether batch statistics are of the images of all processes (SyncBatchNorm, on CUDA alone);
    one process has them all."""

    repeated_augment: Annotated[int, Field(ge=1, le=100)] = 1
    """Times that an image is shown in a row, each time augmented anew (repeated augmentation); an
    epoch keeps its length, and shows one image in so many."""

    optimizer: OptimizerName = "sgd"
    """SGD decays every parameter, AdamW and LAMB (timm's) spare norms and biases."""

    lr: Positive = 0.1
    """Learning rate after the warm-up."""

    min_lr: NotNegative = 0.0
    """Learning rate that the schedule falls to."""

    momentum: Share = 0.9
    """Momentum of SGD, without Nesterov; AdamW has none."""

    weight_decay: NotNegative = 1e-4
    """L2 penalty of SGD, decoupled decay of AdamW, part of LAMB's update before it is scaled."""

    schedule: Literal["cosine", "cosine-iter", "constant", "step"] = "cosine"
    """``cosine`` is constant inside an epoch, ``cosine-iter`` moves at every step."""

    warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs of linear warm-up."""

    milestones: tuple[int, ...] = ()
    """Epochs (0-based) at which the schedule ``step`` multiplies by ``gamma``."""

    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Factor of the schedule ``step``."""

    generator_lr: Positive | None = None
    """Learning rate of a method's mask generator, without warm-up; none is ``lr``."""

    generator_min_lr: NotNegative | None = None
    """Learning rate that the generator's schedule falls to; none is ``min_lr``."""

    generator_momentum: Share | None = None
    """Momentum of SGD for the generator; none is ``momentum``."""

    label_smoothing: Share = 0.0
    """eps: the target is (1 - eps) onehot + eps / K."""

    loss: Literal["ce", "bce"] = "ce"
    """Cross-entropy, or binary cross-entropy of every class to the mixed labels."""

    bce_threshold: Share | None = None
    """Labels of a larger weight count as wholly there for ``bce``, others as not there; none takes
    the mixed weights themselves."""

    bce_sum: bool = False
    """Whether ``bce`` sums an image's loss over the classes, in place of their mean."""

    grad_clip: NotNegative = 0.0
    """Largest norm of the whole gradient; 0 does not clip. LAMB always does: if a recipe does not
    say otherwise, to 1."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` runs the forward pass under autocast; weights and losses stay float32."""

    channels_last: bool = False
    """Memory layout of images and convolutions; faster on most GPUs."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Whether what a step computes is compiled; ``auto`` does so on CUDA. Sums may round
    otherwise."""

    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share that a step keeps of a moving average of the weights, which is then what is deployed;
    none averages nothing."""

    ema_warmup_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs over which ``ema_decay`` rises from nine tenths of itself."""

    init: Literal["openmixup", "torch"] = "openmixup"
    """Initial weights: the explicit ones of OpenMixup, or PyTorch's defaults."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of the weights, the order, the augmentation and the mixing."""

    val_split: Share = 0.0
    """Share of the training images held out to choose ``best``; 0 chooses on the test images."""

    limit_train: int | float | None = None
    """Train on this many images (a count from 1, or a share below 1), evenly spaced."""

    limit_val: int | float | None = None
    """Validate on this many images, as ``limit_train``."""

    def __post_init__(self) -> None:
        METHODS.checked(self.method)
        for key in ("limit_train", "limit_val"):
            limit = getattr(self, key)
            if limit is not None and not (limit >= 1 if isinstance(limit, int) else 0 < limit < 1):
                raise _invalid(key, "a count from 1 or a share between 0 and 1", limit)
        if (
            list(self.milestones) != sorted(set(self.milestones))
            or min(self.milestones, default=1) < 1
        ):
            raise _invalid("milestones", "rising epochs", self.milestones)
        if self.min_lr > self.lr:
            raise _invalid("min_lr", f"at most lr ({self.lr})", self.min_lr)
        if self.optimizer == "lamb" and not self.grad_clip:
            raise _invalid("grad_clip", "a norm above 0, which optimizer lamb clips to", 0.0)
        if self.loss == "bce" and (why := METHODS.row(self.method).no_bce):
            raise UsageError(
                f"loss: method {self.method} cannot be trained with bce: {why}",
                "leave it out, or choose another method",
                code="E-RECIPE",
            )
        self._check_parts()
        self._check_generator()
        if self.warmup_epochs >= self.epochs:
            raise _invalid("warmup_epochs", f"below epochs ({self.epochs})", self.warmup_epochs)
        if self.protocol_of is not None and not self.dataset.startswith("folder:"):
            raise UsageError(
                f"protocol_of: {self.dataset} has a protocol of its own",
                "leave it out, or give dataset=folder:PATH",
                code="E-RECIPE",
            )
        _build("augment", Augment, self.augment)
        _build("test_transform", TestTransform, self.test_transform or {})

    def _check_parts(self) -> None:
        if self.batch_size % self.accumulate:
            want = f"a divisor of batch_size ({self.batch_size})"
            raise _invalid("accumulate", want, self.accumulate)
        together = self.batch_size // self.accumulate
        if self.norm_batch is not None and together % self.norm_batch:
            want = f"a divisor of batch_size / accumulate ({together})"
            raise _invalid("norm_batch", want, self.norm_batch)
        if self.sync_norm and self.norm_batch is not None:
            raise UsageError(
                "sync_norm and norm_batch exclude each other: statistics of the whole batch, or of "
                "a part of it",
                "give one of them",
                code="E-RECIPE",
            )

    def together(self, world: int) -> int:
        """Return how many images one of ``world`` processes computes together.

        Raises:
            UsageError: the batch cannot be shared so.
        """
        whole = world * self.accumulate
        found = self.batch_size // whole
        if self.batch_size % whole or found < 2:
            parts = f", accumulate {self.accumulate}" if self.accumulate > 1 else ""
            raise UsageError(
                f"batch_size {self.batch_size}{parts} cannot be shared by {world} processes",
                "give a batch that is a multiple of their number, with two images or more for each",
                code="E-LAUNCH",
            )
        if self.norm_batch is not None and found % self.norm_batch:
            raise UsageError(
                f"norm_batch is {self.norm_batch}, but of {world} processes each computes {found} "
                "images together",
                "start fewer processes, or another norm_batch makes it another experiment",
                code="E-LAUNCH",
            )
        return found

    def norm_groups(self, world: int = 1) -> int:
        """Return how many parts of what is computed together have batch statistics of their own."""
        return 1 if self.norm_batch is None else self.together(world) // self.norm_batch

    def _check_generator(self) -> None:
        top, low = self.generator_lr, self.generator_min_lr
        if top is None:
            top = self.lr
        if low is not None and low > top:
            raise _invalid("generator_min_lr", f"at most the generator's lr ({top})", low)
        if METHODS.row(self.method).generator and low is None and self.min_lr > top:
            raise _invalid("generator_lr", f"at least min_lr ({self.min_lr})", top)


GENERATOR_KEYS = ("generator_lr", "generator_min_lr", "generator_momentum")
TABLES: Mapping[str, type] = {
    "augment": Augment,
    "normalisation": _Normalisation,
    "test_transform": TestTransform,
}
"""Keys that are tables in TOML, besides ``method``, and what they are made into."""

INFORMATIVE = ("description", "extrapolated", "variant", "published_batch")
"""Keys that no run depends on."""

_KEYS = tuple(f.name for f in fields(Recipe) if f.name != "method_options")


def without_effect(recipe: Recipe) -> dict[str, str]:
    """Return the keys that do nothing under the recipe's others, with the reason; dotted.

    Example:
        >>> without_effect(Recipe(optimizer="adamw"))["momentum"]
        'adamw has no momentum'
    """
    found = _idle_rates(recipe)
    why = _no_generator(recipe)
    if why is not None:
        found |= dict.fromkeys(GENERATOR_KEYS, why)
    if not has_binary_loss(recipe):
        for key in ("bce_threshold", "bce_sum"):
            found[key] = "the loss is ce, not bce"
    if recipe.method == "rsb":
        found["loss"] = "method rsb chooses its loss by method.loss"
    if recipe.ema_decay is None:
        found["ema_warmup_epochs"] = "nothing is averaged without ema_decay"
    arch = split_stem(recipe.arch)[0]
    if arch not in ARCHS or ARCHS.row(arch).built_by == "others":
        found["init"] = f"{recipe.arch} draws its own initial weights"
    augment = _build("augment", Augment, recipe.augment)
    idle = idle_augment(augment, kind_known="kind" in recipe.augment)
    found |= {f"augment.{key}": why for key, why in idle.items()}
    transform = _build("test_transform", TestTransform, recipe.test_transform or {})
    if transform.resize is None:
        for key in ("interpolation", "crop_mode"):
            found[f"test_transform.{key}"] = "nothing is resized"
    return found


def _no_generator(recipe: Recipe) -> str | None:
    """Return why the recipe trains no generator of masks, if it does not."""
    if METHODS.row(recipe.method).generator:
        grids = recipe.method_options.get("mask_source") == "grids"
        return "method.mask_source is grids, which learn nothing" if grids else None
    known = ", ".join(sorted(n for n, row in METHODS.rows().items() if row.generator))
    return f"method {recipe.method} has no generator, as {known} have"


def has_binary_loss(recipe: Recipe) -> bool:
    """Return whether a recipe's loss is binary cross-entropy; the method rsb says so itself."""
    if recipe.method == "rsb":
        return bool(recipe.method_options.get("loss", "bce") == "bce")
    return recipe.loss == "bce"


def _idle_rates(recipe: Recipe) -> dict[str, str]:
    """Return the keys of optimiser and schedule that do nothing, with the reason."""
    found: dict[str, str] = {}
    if recipe.optimizer != "sgd":
        for key in ("momentum", "generator_momentum"):
            found[key] = f"{recipe.optimizer} has no momentum"
    if recipe.schedule == "constant":
        for key in ("min_lr", "generator_min_lr"):
            found[key] = "the schedule constant does not fall"
    if recipe.schedule != "step":
        for key in ("milestones", "gamma"):
            found[key] = f"it belongs to the schedule step, not {recipe.schedule}"
    elif min(recipe.milestones, default=0) >= recipe.epochs:
        for key in ("milestones", "gamma"):
            found[key] = f"the run ends after {recipe.epochs} epochs"
    elif not recipe.milestones:
        found["gamma"] = "there are no milestones"
    return found


_CROPS: Mapping[str, tuple[str, ...]] = {
    "crop-flip": ("padding", "mode"),
    "random-resized-crop": ("size", "scale", "ratio", "interpolation", "resize"),
}
"""Fields that one kind of augmentation alone has."""


def idle_augment(augment: Augment, *, kind_known: bool = True) -> dict[str, str]:
    """Return the fields of an augmentation that do nothing, with the reason.

    Args:
        augment: the augmentation.
        kind_known: False where its kind waits for the images, as that of a folder does.
    """
    found: dict[str, str] = {}
    if kind_known:
        found |= {
            key: f"it belongs to augment.kind {kind}, not {augment.kind}"
            for kind, keys in _CROPS.items()
            if kind != augment.kind
            for key in keys
        }
        if augment.kind == "none":
            found["flip"] = "augment.kind none never mirrors"
        if augment.kind == "crop-flip" and augment.padding == 0:
            found["mode"] = "augment.padding is 0"
    if augment.rand_ops == 0:
        for field_ in fields(Augment):
            if field_.name.startswith("rand_") and field_.name != "rand_ops":
                found[field_.name] = "augment.rand_ops is 0"
    return found


def write_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe as TOML, atomically; ``load_recipe`` gives it back."""
    write_text(expanded(path), tomli_w.dumps(recipe_to_dict(recipe)))


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as TOML and JSON hold it: no None, lists for tuples, tables as tables.

    Keys without effect are left out, so that every key of a recorded recipe acts.
    """
    idle = without_effect(recipe)
    values: dict[str, Any] = {
        key: _plain(getattr(recipe, key))
        for key in _KEYS
        if key not in idle and key not in ("method", *TABLES)
    }
    values["method"] = {"name": recipe.method, **_plain(recipe.method_options)}
    for key in TABLES:
        table = getattr(recipe, key)
        if table is not None:
            values[key] = {k: v for k, v in _plain(table).items() if f"{key}.{k}" not in idle}
    return {key: value for key, value in values.items() if value is not None}


def recipe_from_dict(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe of such a dictionary; the method's own options stay unchecked.

    Raises:
        UsageError: an unknown key, a value of the wrong type, or an impossible one.
    """
    given = {key: _tuples(value) for key, value in nested(values).items()}
    method = dict(given.pop("method", {}))
    if "name" in method:
        name = method.pop("name")
        if not isinstance(name, str):
            raise _invalid("method.name", "a string", name)
        given["method"] = name
    if given.get("optimizer") == "lamb":
        given.setdefault("grad_clip", LAMB_CLIP)
    try:
        return Recipe(**given, method_options=method)
    except ValidationError as error:
        raise _told(error) from None


def recipe_from_record(values: Mapping[str, Any]) -> Recipe:
    """Return the recipe that a checkpoint records; what an older version recorded in vain is left.

    Raises:
        UsageError: as ``recipe_from_dict``.
    """
    recipe = recipe_from_dict(values)
    idle = without_effect(recipe)
    kept = {
        key: {k: v for k, v in value.items() if f"{key}.{k}" not in idle}
        if isinstance(value, Mapping)
        else value
        for key, value in nested(values).items()
        if key not in idle
    }
    return recipe_from_dict(kept)


def recipe_difference(old: Recipe, new: Recipe) -> str | None:
    """Return the first key in which two recipes differ, as ``key is OLD there, NEW here``.

    What the images go through is compared where the old recipe says it: older versions recorded
    neither normalisation nor test transform.
    """
    old_values, new_values = flat(recipe_to_dict(old)), flat(recipe_to_dict(new))
    unsaid = tuple(f"{key}." for key in TABLES if not getattr(old, key))
    for key in sorted(old_values.keys() | new_values.keys()):
        if key in INFORMATIVE or key.startswith(unsaid):
            continue
        if old_values.get(key) != new_values.get(key):
            there, here = (
                "not set" if value is None else repr(value)
                for value in (old_values.get(key), new_values.get(key))
            )
            return f"{key} is {there} there, {here} here"
    return None


def recipe_schema() -> dict[str, Any]:
    """Return the JSON Schema of a recipe file, the methods' options apart."""
    schema = TypeAdapter(Recipe).json_schema()
    schema["properties"].pop("method_options")
    return schema


def nested(layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``layer`` with dotted keys as tables and ``method = "x"`` as a table with a name.

    Raises:
        UsageError: a key does not exist, or one of a table is given twice with two values.
    """
    found: dict[str, Any] = {}
    for key, value in layer.items():
        head, dot, tail = key.partition(".")
        table = head in ("method", *TABLES)
        if head not in _KEYS or (dot and not (tail and table)):
            raise _unknown_key(key)
        if head == "method" and not tail and isinstance(value, str):
            tail = "name"
        if table:
            more = {tail: value} if tail else _table(head, value)
            found[head] = _joined(head, found.get(head, {}), more)
        else:
            found[head] = value
    for head in TABLES:
        known = _names(head)
        for tail in found.get(head, {}):
            if tail not in known:
                raise unknown_name(f"{head} key", tail, known)
    return found


def _unknown_key(key: str) -> UsageError:
    near = nearest(key, _KEYS, likeness=0.6)
    hint = (
        f"did you mean '{near}'?"
        if near is not None
        else f"an option of the method is method.{key}; `robustmix recipes schema` has all keys"
    )
    return UsageError(
        f"unknown recipe key '{shortened(key, 100)}'", hint, code="E-UNKNOWN-RECIPE-KEY"
    )


@functools.cache
def _names(table: str) -> tuple[str, ...]:
    return tuple(name for name in typing.get_type_hints(TABLES[table]) if not name.startswith("_"))


def _table(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _invalid(key, "a table", value)
    return value


def _joined(table: str, one: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    for key, value in more.items():
        if key in one and one[key] != value:
            raise UsageError(
                f"{table}.{key} is given twice: {one[key]!r} and {value!r}",
                "give it once",
                code="E-RECIPE",
            )
    return {**one, **more}


def _build(key: str, make: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """Return what a table is made into; its defaults stand for what is not said."""
    try:
        return make(**values)
    except ValueError as error:
        raise UsageError(f"{key}: {error}", code="E-RECIPE") from None


def _invalid(key: str, want: str, value: object) -> UsageError:
    return UsageError(f"{key}: expected {want}, got {value!r}", code="E-RECIPE")


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "tuple": "a list",
    "dict": "a table",
    "finite_number": "a finite number",
}


def _told(error: ValidationError) -> UsageError:
    """Return the first complaint of pydantic in the words of this program."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UsageError):  # of __post_init__
        return cause
    place = [str(part) for part in first["loc"] if isinstance(part, str)]
    key = ".".join(place[: 2 if place[0] in TABLES else 1])
    value, kind = first["input"], first["type"]
    if kind == "literal_error":
        choices = typing.get_args(_hint(key))
        return unknown_name(f"value of {key}:", str(value), map(str, choices), code="E-RECIPE")
    if kind in ("too_long", "missing"):
        size = len(typing.get_args(_hint(key)))
        return _invalid(key, f"{size} values", _whole(error, key))
    if kind in ("greater_than", "greater_than_equal", "less_than", "less_than_equal"):
        return _invalid(key, _bounds(key) or first["msg"].partition("should be ")[2], value)
    plain = kind.removesuffix("_type").removesuffix("_from_float")
    return _invalid(key, _TYPES.get(plain, plain), value)


def _whole(error: ValidationError, key: str) -> object:
    for item in error.errors():
        if isinstance(item["input"], tuple | list):
            return list(item["input"])
    return error.errors()[0]["input"]


def _hint(key: str) -> Any:
    head, _, tail = key.partition(".")
    return typing.get_type_hints(TABLES[head] if tail else Recipe)[tail or head]


def _bounds(key: str) -> str:
    """Return what bounds a key has, in words."""
    head, _, tail = key.partition(".")
    table: dict[str, Any] = recipe_schema()["properties"][head]
    if tail:
        return ""
    choices = [table, *table.get("anyOf", [])]
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [
        f"{text} {c[name] if isinstance(c[name], int) else format(c[name], 'g')}"
        for c in choices
        for name, text in words.items()
        if name in c
    ]
    text = " and ".join(said)
    return f"a number {text}" if text.startswith("above") else text


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
