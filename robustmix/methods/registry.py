"""The training methods by name, and how a recipe's options become one of them.

Nothing here imports torch before a method is used, so that listing is instant.
"""

import functools
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_type_hints

from robustmix.errors import IntakeError, UsageError, unknown_name
from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from torch import nn

    from robustmix.methods.method import Setup


@dataclass(frozen=True)
class MethodRow(Row):
    """What is known of a method before it is imported.

    Its target is a class that is built with (network, config, setup) and names the dataclass of
    its options by an annotation, ``config: MyConfig``.
    """

    paper: str = ""
    """Where it was published; empty for plain training."""

    status: Literal["verified", "untested"] = "untested"
    """``verified`` once its arithmetic equals vectors made with the official code."""

    cost: float = 3
    """One training step in forward passes of the backbone; a full backward pass counts two."""

    generator: bool = False
    """Whether it trains a mask generator, which a recipe can give a learning rate of its own."""

    no_bce: str = "it does not say that it can"
    """Why it is not trained with binary cross-entropy; empty if it is, as ``Setup.bce`` says."""


METHODS: "Table[type[nn.Module], MethodRow]" = Table(
    "method",
    MethodRow,
    {
        "vanilla": MethodRow(
            "robustmix.methods.vanilla:Vanilla",
            "cross-entropy on the images as they are",
            status="verified",
            no_bce="",
        ),
        "mixup": MethodRow(
            "robustmix.methods.mixup:Mixup",
            "blend each image with a random partner, and their labels likewise",
            paper="Zhang et al. 2018, arXiv:1710.09412",
            status="verified",
            no_bce="",
        ),
        "cutmix": MethodRow(
            "robustmix.methods.cutmix:CutMix",
            "paste a random box of a partner; labels are weighted by area",
            paper="Yun et al. 2019, arXiv:1905.04899",
            status="verified",
            no_bce="",
        ),
        "manifoldmix": MethodRow(
            "robustmix.methods.manifoldmix:ManifoldMix",
            "blend pairs in the pixels or after one of the first stages",
            paper="Verma et al. 2019, arXiv:1806.05236",
            status="verified",
            no_bce="",
        ),
        "saliencymix": MethodRow(
            "robustmix.methods.saliencymix:SaliencyMix",
            "CutMix with the box at the partner's most salient place",
            paper="Uddin et al. 2021, arXiv:2006.01791",
            status="verified",
            no_bce="",
        ),
        "fmix": MethodRow(
            "robustmix.methods.fmix:FMix",
            "show a pair through a random shape cut from smooth noise",
            paper="Harris et al. 2020, arXiv:2002.12047",
            status="verified",
            no_bce="",
        ),
        "resizemix": MethodRow(
            "robustmix.methods.resizemix:ResizeMix",
            "shrink the whole partner into a box of the image",
            paper="Qin et al. 2020, arXiv:2012.11101",
            status="verified",
            no_bce="",
        ),
        "gridmix": MethodRow(
            "robustmix.methods.gridmix:GridMix",
            "show the partner through a grid of rectangles",
            paper="Baek et al. 2021",
            status="verified",
            no_bce="",
        ),
        "smoothmix": MethodRow(
            "robustmix.methods.smoothmix:SmoothMix",
            "fade the partner in through a soft round mask",
            paper="Lee et al. 2020",
            status="verified",
            no_bce="",
        ),
        "attentivemix": MethodRow(
            "robustmix.methods.attentivemix:AttentiveMix",
            "keep the cells that a trained teacher looks at; needs --teacher",
            paper="Walawalkar et al. 2020, arXiv:2003.13048",
            status="verified",
            cost=4,
            no_bce="",
        ),
        "puzzlemix": MethodRow(
            "robustmix.methods.puzzlemix:PuzzleMix",
            "keep what is salient of a pair by a graph cut, and move blocks to show more",
            paper="Kim et al. 2020, arXiv:2009.06962",
            status="verified",
            cost=5,
            no_bce="",
        ),
        "co-mixup": MethodRow(
            "robustmix.methods.comixup:CoMixup",
            "mix many images into many, each salient and all of them different",
            paper="Kim et al. 2021, arXiv:2102.03065",
            status="verified",
            cost=6,
            no_bce="it has a binary loss of its own",
        ),
        "supermix": MethodRow(
            "robustmix.methods.supermix:SuperMix",
            "find masks by which a trained network sees every image of a mixture",
            paper="Dabouei et al. 2021, arXiv:2003.05034",
            status="verified",
            cost=105,
            no_bce="",
        ),
        "alignmix": MethodRow(
            "robustmix.methods.alignmix:AlignMix",
            "match the last maps of a pair by optimal transport, then blend them",
            paper="Venkataramanan et al. 2022, arXiv:2103.15375",
            status="verified",
            no_bce="",
        ),
        "transmix": MethodRow(
            "robustmix.methods.transmix:TransMix",
            "MixUp or CutMix with labels by a transformer's own attention",
            paper="Chen et al. 2022, arXiv:2111.09833",
            status="verified",
            no_bce="",
        ),
        "snapmix": MethodRow(
            "robustmix.methods.snapmix:SnapMix",
            "paste a box of another size; labels by class activation maps",
            paper="Huang et al. 2021, arXiv:2012.04846",
            status="verified",
            cost=4,
            no_bce="its label weights do not sum to 1",
        ),
        "augmix": MethodRow(
            "robustmix.methods.augmix:AugMix",
            "one answer to an image and two mixtures of its augmentations",
            paper="Hendrycks et al. 2020, arXiv:1912.02781",
            status="verified",
            cost=9,
            no_bce="its divergence is between distributions over the classes",
        ),
        "deit": MethodRow(
            "robustmix.methods.deit:DeiT",
            "MixUp (alpha 0.8) or CutMix (alpha 1), one of them at every step",
            paper="Touvron et al. 2021, arXiv:2012.12877",
            status="verified",
            no_bce="",
        ),
        "rsb": MethodRow(
            "robustmix.methods.deit:RSB",
            "MixUp (alpha 0.1) or CutMix (alpha 1), with binary cross-entropy",
            paper="Wightman et al. 2021, arXiv:2110.00476",
            no_bce="it chooses its loss by method.loss",
        ),
        "automix": MethodRow(
            "robustmix.methods.automix:AutoMix",
            "mix pairs by masks that a generator learns from the teacher's features",
            paper="Liu et al. 2022, arXiv:2103.13027",
            status="verified",
            cost=9,
            generator=True,
            no_bce="",
        ),
        "samix": MethodRow(
            "robustmix.methods.automix:SAMix",
            "AutoMix with another generator, bilinear masks and a variance loss",
            paper="Li et al. 2021, arXiv:2111.15454",
            status="verified",
            cost=9,
            generator=True,
            no_bce="",
        ),
        "adautomix": MethodRow(
            "robustmix.methods.adautomix:AdAutoMix",
            "mix three images by masks of a generator that is also trained against the teacher",
            paper="Qin et al. 2024, arXiv:2312.11954",
            status="verified",
            cost=12,
            generator=True,
            no_bce="its generator plays against a cross-entropy",
        ),
    },
)
"""Every training method by the name that recipes and ``--method`` use."""


def config_class(name: str) -> type[Any]:
    """Return the dataclass of a method's options.

    Raises:
        UsageError: there is no such method.
        IntakeError: it is foreign and cannot be imported, or does not say what its options are.
    """
    method = METHODS.load(name)
    try:
        config = _hints(cast(Hashable, method)).get("config")
    except NameError:  # an annotation that only type checkers can follow
        config = None
    if not (isinstance(config, type) and is_dataclass(config)):
        raise _unusable(
            name, "does not name its options", "annotate their dataclass, config: MyConfig"
        )
    for field in fields(config):
        if field.default is MISSING:
            raise _unusable(name, f"has no default for its option {field.name}", "give it one")
    return config


@functools.cache
def _hints(method: Hashable) -> Mapping[str, Any]:
    """Return the annotations of a class; reading them takes longer than all else of a recipe."""
    return get_type_hints(method)


def _unusable(name: str, what: str, hint: str) -> IntakeError:
    return IntakeError(f"method {name} of {METHODS.origin(name)} {what}", hint, code="E-PLUGIN")


def method_config(name: str, options: Mapping[str, object]) -> Any:
    """Return the config of a method with ``options`` over its defaults.

    Raises:
        UsageError: the method or an option does not exist, or a value is impossible.
    """
    make = config_class(name)
    defaults = asdict(make())
    for key in options:
        if key not in defaults:
            raise unknown_option(name, key, defaults)
    optional = {key for key, value in defaults.items() if value is None}
    try:
        return make(
            **{
                key: value
                if value is None and key in optional
                else _as(value, 0.0 if key in optional else defaults[key], f"method.{key}")
                for key, value in options.items()
            }
        )
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"method {name}: {error}", code="E-RECIPE") from error


def method_options(name: str, options: Mapping[str, object]) -> dict[str, Any]:
    """Return every option of a method that acts, defaults filled in, as JSON-like values."""
    config = method_config(name, options)
    idle = _idle(config)
    names = [field.name for field in fields(config) if field.name not in idle]
    return {name: getattr(config, name) for name in names}


def method_cost(name: str, options: Mapping[str, object]) -> float:
    """Return what a training step costs in forward passes, a backward pass counting two.

    The table has a method's usual cost; where options decide, their class has ``least_cost()``.

    Raises:
        UsageError: there is no such method or option.
    """
    own = getattr(config_class(name), "least_cost", None)
    return METHODS.row(name).cost if own is None else float(own(method_config(name, options)))


def options_without_effect(name: str, options: Mapping[str, object]) -> dict[str, str]:
    """Return the options of a method that do nothing under the others, with the reason.

    A config says so by its ``without_effect()``, if it has one.
    """
    return _idle(method_config(name, options))


def _idle(config: Any) -> dict[str, str]:
    return dict(config.without_effect()) if hasattr(config, "without_effect") else {}


def build_method(
    name: str, network: "nn.Module", options: Mapping[str, object], setup: "Setup"
) -> "nn.Module":
    """Return the method ``name``, a ``Method`` and an ``nn.Module``, that trains ``network``.

    Args:
        name: a key of ``METHODS``.
        network: normalised images (N, 3, H, W) -> logits (N, K).
        options: fields of the method's config; the rest are defaults.
        setup: its sources of randomness, and what it must know of the images.

    Raises:
        UsageError: the method or an option does not exist, or cannot be had with this network.
    """
    return METHODS.load(name)(network, method_config(name, options), setup)


def unknown_option(method: str, key: str, known: Mapping[str, object]) -> UsageError:
    """Return the error for an option that the method does not have."""
    if not known:
        return UsageError(f"method {method} has no options, got '{key}'", code="E-UNKNOWN-OPTION")
    return unknown_name(f"option of method {method}", key, known, code="E-UNKNOWN-OPTION")


def _as(value: object, default: object, key: str) -> object:
    """Return ``value`` in the type of the default; an integer may stand for a float."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        want = type(default).__name__
        raise UsageError(f"{key}: expected {want}, got {value!r}", code="E-RECIPE")
    return value
