"""Find an architecture's weights in a foreign file: containers, averaged copies, wrappers.

Files differ in where the weights lie and in what lies beside them, not in how an architecture calls
its tensors. So nothing is guessed from a container's keys: the weights are where all of the
architecture's names lie below one prefix, once.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError
from robustmix.text import plain

State: TypeAlias = dict[str, Tensor]
Kind: TypeAlias = Literal["raw", "ema"]
Norm: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]

USUAL_PLACES = (
    *("state_dict", "model_state_dict", "model", "net", "network", "module"),
    *("state_dict_ema", "model_ema", "ema"),
)
"""Of several places in a file, those that are preferred, the first most."""

WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What compiling and sharding put into names, at any place."""

AVERAGED = frozenset({"ema", "averaged", "average", "avg", "swa", "shadow"})
"""Words in the name of a place that say that its weights are averaged."""

ENCODERS_ONLY = frozenset({"encoder_q", "encoder_k", "base_encoder", "momentum_encoder"})
"""What contrastive methods call an encoder; what it has in place of a classifier is none."""

CLASSIFIER_WORDS = frozenset(
    {"classifier", "head", "fc", "linear", "last_linear", "cls", "fc_cls", "cls_head", "logits"}
)
"""What a classifier is called that stands beside its backbone."""

MOST_PREFIXES = 200
"""Prefixes that are tried, those of the most names first."""

COUNTER = "num_batches_tracked"

_LEVELS = 4


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one collection of networks names tensors (see ``robustmix.models.dialects``)."""

    name: str
    """What messages call it."""

    marks: tuple[str, ...]
    """Ends of names that a file of it has, each of them."""

    rules: tuple[tuple[str, str], ...] = ()
    """Patterns of parts of a name from dot to dot, and what to write for them."""

    unused: str = ""
    """Pattern of the tensors that its network has and never computes with."""

    norm: str = ""
    """What its training script normalises with, as an option; only ever to suggest it."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Tensors by name, somewhere in a file."""

    path: tuple[str, ...]
    state: State
    dialect: Dialect | None = None
    """Whose names they were, where they have been translated."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """An architecture's weights in a file."""

    place: Place
    prefix: str
    state: State
    """By the architecture's names. What lies among them and is none of them is here too."""

    left_out: tuple[str, ...] = ()
    """Names of the tensors beside it, in the place's words."""

    classifier: str = ""
    """Where the classifier was taken from, if it lies apart."""

    lacks_classifier: bool = False
    averaged: bool = False

    @property
    def where(self) -> str:
        """What messages call it, e.g. ``model_ema/module.*``; empty for names alone at the top."""
        return "/".join((*self.place.path, *([f"{self.prefix}*"] if self.prefix else [])))


def find_places(content: object, name: str) -> list[Place]:
    """Return every mapping in a file that holds tensors by name.

    Args:
        content: what the archive holds.
        name: the file's name, for messages.

    Raises:
        IntakeError: there is none.
    """
    found: list[Place] = []
    waiting: list[tuple[tuple[str, ...], object]] = [((), content)]
    while waiting:
        path, value = waiting.pop(0)
        if isinstance(value, nn.Module):
            value = value.state_dict()
        if not isinstance(value, Mapping):
            continue
        state = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if state:
            found += _split_averages(Place(path=path, state=_unwrapped(state)))
        if len(path) < _LEVELS:
            waiting += [((*path, k), v) for k, v in value.items() if isinstance(k, str)]
    if not found:
        raise _nothing_found(content, name)
    return sorted(found, key=_rank)


def _rank(place: Place) -> tuple[int, ...]:
    """Rank a place by the keys that lead to it."""
    known = {key: i for i, key in enumerate(USUAL_PLACES)}
    return tuple(known.get(key, len(known)) for key in place.path)


def _unwrapped(state: State) -> State:
    plain: State = {}
    for key, tensor in state.items():
        for word in WRAPPERS:
            key = key.replace(word, "")
        plain[key] = tensor
    return plain if len(plain) == len(state) else state


def _split_averages(place: Place) -> list[Place]:
    """Split off what mmcv's EMA hook adds: ``ema_`` and the name, its dots as underscores."""
    twins = {"ema_" + key.replace(".", "_"): key for key in place.state}
    averages = {twins[key]: value for key, value in place.state.items() if key in twins}
    if not averages:
        return [place]
    plain = {key: value for key, value in place.state.items() if key not in twins}
    return [
        Place(path=place.path, state=plain),
        Place(path=(*place.path, "ema_*"), state={**plain, **averages}),
    ]


def locate(
    places: Iterable[Place], own: Mapping[str, Tensor], classifier: Sequence[str]
) -> list[Located]:
    """Return where an architecture's weights are: all of its names below one prefix.

    Args:
        places: of ``find_places``.
        own: the architecture's state dict; only names, and of the classifier its inputs, matter.
        classifier: names of the tensors of its classifier, which may lie beside the others.
    """
    body = [key for key in own if key not in classifier and not key.endswith(COUNTER)]
    found = []
    for place in places:
        prefixes = [
            prefix
            for prefix in prefixes_of(place.state)
            if all(prefix + key in place.state for key in body)
        ]
        for prefix in prefixes if body else []:
            found.append(_located(place, prefix, prefixes, own, classifier))
    return found


def prefixes_of(state: Iterable[str]) -> list[str]:
    """Return what names begin with, up to a dot, those of the most names first.

    Example:
        >>> prefixes_of(["module.conv.weight", "module.fc.weight"])
        ['', 'module.', 'module.conv.', 'module.fc.']
    """
    counted: Counter[str] = Counter()
    for key in state:
        parts = key.split(".", 6)[:-1]
        counted.update(["", *(".".join(parts[: i + 1]) + "." for i in range(len(parts)))])
    return [prefix for prefix, _ in counted.most_common(MOST_PREFIXES)]


def nearest(places: Sequence[Place], own: Mapping[str, Tensor]) -> Located:
    """Return where most of an architecture's names are, to say what is missing there."""
    best, most = Located(place=places[0], prefix="", state=places[0].state), 0
    for place in places:
        for prefix in prefixes_of(place.state):
            hits = sum(prefix + key in place.state for key in own)
            if hits > most:
                state = _below(place.state, prefix)
                best, most = Located(place=place, prefix=prefix, state=state), hits
    return best


def _below(state: Mapping[str, Tensor], prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _located(
    place: Place,
    prefix: str,
    prefixes: Sequence[str],
    own: Mapping[str, Tensor],
    classifier: Sequence[str],
) -> Located:
    others = tuple(p for p in prefixes if p != prefix and p.startswith(prefix))
    norm = norm_names(place.state)
    state = {
        key: tensor
        for key, tensor in _below(place.state, prefix).items()
        if key in own or (prefix + key not in norm and not (prefix + key).startswith(others))
    }
    used = {prefix + key for key in state}
    lacks = bool(classifier) and not any(key in state for key in classifier)
    apart = _classifier_apart(place.state, prefix, own, classifier) if lacks and prefix else None
    if apart is not None:
        module = classifier[0].rpartition(".")[0]
        linear = _below(place.state, f"{apart}.")
        state |= {f"{module}.{key}": tensor for key, tensor in linear.items()}
        used |= {f"{apart}.{key}" for key in linear}
    return Located(
        place=place,
        prefix=prefix,
        state=state,
        left_out=tuple(key for key in place.state if key not in used),
        classifier=apart or "",
        lacks_classifier=lacks and apart is None,
        averaged=_is_averaged(place, prefix),
    )


def _is_averaged(place: Place, prefix: str) -> bool:
    words = {word for part in (*place.path, prefix) for word in re.split(r"[^a-z]+", part.lower())}
    # What torch's AveragedModel saves beside its module.
    counted = prefix.endswith("module.") and prefix.removesuffix("module.") + "n_averaged"
    return bool(words & AVERAGED) or counted in place.state


def _classifier_apart(
    state: Mapping[str, Tensor], prefix: str, own: Mapping[str, Tensor], classifier: Sequence[str]
) -> str | None:
    """Return the one linear layer beside a backbone that takes its features, None if unclear."""
    modules = {key.rpartition(".")[0] for key in classifier}
    leaves = {key.rpartition(".")[2] for key in classifier}
    weight = next((own[key] for key in classifier if own[key].ndim == 2), None)
    if len(modules) != 1 or weight is None or not leaves <= {"weight", "bias"}:
        return None
    around = prefix.removesuffix(".").rpartition(".")[0]
    fitting = []
    for key, tensor in state.items():
        module, _, leaf = key.rpartition(".")
        named = bool(CLASSIFIER_WORDS & {*module.split(".")}) and leaf == "weight"
        if not named or key.startswith(prefix) or tensor.shape[1:] != weight.shape[1:]:
            continue
        # Alone in what it is part of: else other layers would stand between it and the features.
        outer = f"{around}." if around and module.startswith(f"{around}.") else ""
        part = outer + module.removeprefix(outer).partition(".")[0] + "."
        if {k for k in state if k.startswith(part)} == {f"{module}.{x}" for x in leaves}:
            fitting.append(module)
    return fitting[0] if len(fitting) == 1 else None


def choose(found: Sequence[Located], weights: str | None, name: str) -> Located:
    """Return the one place that is meant.

    Args:
        found: of ``locate``, at least one.
        weights: ``raw`` or ``ema`` where a file has both; None takes the only kind.
        name: the file's name, for messages.

    Raises:
        IntakeError: it is not the wanted kind, there are two kinds and no choice, or two of a kind
            that differ.
    """
    whole = [one for one in found if not one.lacks_classifier] or list(found)
    kinds: dict[Kind, list[Located]] = {}
    for one in whole:
        kinds.setdefault("ema" if one.averaged else "raw", []).append(one)
    if weights is None and len(kinds) > 1:
        raise IntakeError(
            f"{name} holds raw and averaged (EMA) weights",
            "choose with --weights raw or --weights ema",
            code="E-WEIGHTS",
        )
    kind = next((k for k in kinds if k == (weights or k)), None)
    if kind is None:
        raise IntakeError(
            f"{name} holds no {weights} weights",
            f"pass --weights {next(iter(kinds))}",
            code="E-WEIGHTS",
        )
    return _only(kinds[kind], name)


def _only(found: Sequence[Located], name: str) -> Located:
    best = _rank(found[0].place)
    usual = all(place < len(USUAL_PLACES) for place in best)
    rivals = [one for one in found[1:] if not usual or _rank(one.place) == best]
    for one in rivals:
        if not _same(found[0].state, one.state):
            raise IntakeError(
                f"{name} holds different weights at {_shown(found[0])} and at {_shown(one)}",
                "save the state_dict() that you mean in a file of its own",
                code="E-WEIGHTS",
            )
    return found[0]


def _shown(one: Located) -> str:
    return plain(one.where, 80) or "its top"


def _same(one: State, other: State) -> bool:
    """Tell whether two hold the same, as where a wrapper registers a network twice."""
    return one.keys() == other.keys() and all(
        tensor.data_ptr() == other[key].data_ptr() or torch.equal(tensor, other[key])
        for key, tensor in one.items()
    )


def norm_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of what normalises images inside a file's network: mean -> std."""
    found = {}
    for key, tensor in state.items():
        parent, dot, leaf = key.rpartition(".")
        words = (("mean", "std"), ("mu", "sigma"), ("mu", "std"))
        names = [parent + dot + leaf.replace(m, s) for m, s in words if leaf.endswith(m)]
        other = next((name for name in names if name in state), None)
        if other and tensor.numel() in (1, 3) and state[other].numel() == tensor.numel():
            found[key] = other
    return found | {std: mean for mean, std in found.items()}


def norm_inside(state: Mapping[str, Tensor]) -> tuple[str, Norm] | None:
    """Return what a file's own network normalises images with, and the name of its mean.

    None if there is nothing of the kind, or there are two that differ.
    """
    pairs: dict[Norm, str] = {}
    for mean, std in norm_names(state).items():
        if not mean.endswith(("mean", "mu")):
            continue
        numbers = [
            tuple(tensor.detach().double().flatten().expand(3).tolist())
            if tensor.numel() == 1
            else tuple(tensor.detach().double().flatten().tolist())
            for tensor in (state[mean], state[std])
        ]
        pairs.setdefault((numbers[0], numbers[1]), mean)
    return None if len(pairs) != 1 else next((name, norm) for norm, name in pairs.items())


def _nothing_found(content: object, name: str) -> IntakeError:
    if not isinstance(content, Mapping):
        got = f"a {type(content).__name__}"
    elif not content:
        got = "nothing"
    else:
        got = "only " + ", ".join(plain(key, 30) for key in [*content][:6] if isinstance(key, str))
    return IntakeError(
        f"{name} holds {got}, no weights",
        "expected tensors by name, or a container with " + ", ".join(USUAL_PLACES[:3]),
        code="E-NO-WEIGHTS",
    )
