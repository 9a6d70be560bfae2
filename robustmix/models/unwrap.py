"""Find the weights inside a foreign file: containers, averaged copies, wrappers' prefixes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from robustmix.errors import IntakeError

State = dict[str, Tensor]

RAW_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module")
EMA_KEYS = ("state_dict_ema", "model_ema", "ema")
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "timm_model.")
BACKBONE_PREFIXES = ("encoder.", "encoder_q.", "base_encoder.")


@dataclass(frozen=True, kw_only=True)
class Unwrapped:
    """The tensors of a file, and how they were found."""

    state: State
    weights: Literal["raw", "ema"]
    path: str
    """Where in the file: e.g. ``state_dict`` or ``checkpoint/state_dict``; empty at the top."""

    backbone_only: bool = False
    """Whether the names say that there is no classifier."""


def unwrap(content: object, name: str, weights: str | None) -> Unwrapped:
    """Return the one set of weights in the content of a foreign archive.

    Args:
        content: what the archive holds.
        name: the file's name, for messages.
        weights: ``raw`` or ``ema`` where a file has both; None takes the only one.

    Raises:
        IntakeError: there are no weights, not the wanted ones, or two kinds and no choice.
    """
    found = _search(content, "", 3)
    if not found:
        raise _nothing_found(content, name)
    for kind in [*found]:
        where, state = found[kind]
        if kind == "raw":
            plain, averaged = _split_ema_buffers(state)
            found["raw"] = (where, plain)
            if averaged:
                found.setdefault("ema", (where, averaged))
    kinds = sorted(found)
    if weights is None and len(kinds) > 1:
        raise IntakeError(
            f"{name} holds raw and averaged (EMA) weights",
            "choose with --weights raw or --weights ema",
            code="E-WEIGHTS",
        )
    chosen = weights or kinds[0]
    if chosen not in found:
        raise IntakeError(
            f"{name} holds no {chosen} weights", f"pass --weights {kinds[0]}", code="E-WEIGHTS"
        )
    where, state = found[chosen]
    state = strip_prefixes(state, PREFIXES)
    stripped = strip_prefixes(state, BACKBONE_PREFIXES)
    return Unwrapped(
        state=stripped,
        weights="ema" if chosen == "ema" else "raw",
        path=where,
        backbone_only=stripped.keys() != state.keys(),
    )


def strip_prefixes(state: State, prefixes: tuple[str, ...]) -> State:
    """Strip a prefix as long as all names share one.

    Example:
        >>> import torch
        >>> list(strip_prefixes({"module.net.a": torch.zeros(1)}, PREFIXES))
        ['a']
    """
    while True:
        shared = [p for p in prefixes if all(key.startswith(p) for key in state)]
        if not shared:
            return state
        state = {key.removeprefix(shared[0]): value for key, value in state.items()}


def _tensors(value: object) -> State | None:
    """Return the value as named tensors, None if it is not that."""
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if not isinstance(value, Mapping) or not value:
        return None
    tensors = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return tensors if len(tensors) == len(value) else None


def _search(value: object, where: str, depth: int) -> dict[str, tuple[str, State]]:
    state = _tensors(value)
    if state is not None:
        return {"raw": (where, state)}
    found: dict[str, tuple[str, State]] = {}
    if not isinstance(value, Mapping) or not depth:
        return found
    for kind, keys in (("raw", RAW_KEYS), ("ema", EMA_KEYS)):
        for key in keys:
            inner = _search(value.get(key), f"{where}/{key}".lstrip("/"), depth - 1)
            if kind == "ema" and "raw" in inner:
                inner["ema"] = inner.pop("raw")
            if inner:
                found = {**inner, **found}
                break
    return found


def _split_ema_buffers(state: State) -> tuple[State, State | None]:
    """Split the buffers of mmcv's EMA hook off: ``ema_`` and the name, dots as underscores."""
    twins = {"ema_" + key.replace(".", "_"): key for key in state}
    averages = {twins[key]: value for key, value in state.items() if key in twins}
    if not averages:
        return state, None
    plain = {key: value for key, value in state.items() if key not in twins}
    return plain, {**plain, **averages}


def _nothing_found(content: object, name: str) -> IntakeError:
    if not isinstance(content, Mapping):
        got = f"a {type(content).__name__}"
    elif not content:
        got = "nothing"
    else:
        got = "only " + ", ".join(map(str, [*content][:6]))
    return IntakeError(
        f"{name} holds {got}, no weights",
        "expected tensors by name, or a container with " + ", ".join(RAW_KEYS[:3]),
        code="E-NO-WEIGHTS",
    )
