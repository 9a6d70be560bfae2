"""Checkpoints of OpenMixup and of the official AdAutoMix code: which encoder, which head.

The momentum methods keep two encoders (q is trained, k is its moving average) and up to four
classifiers. The published numbers are those of ``backbone_k`` with ``head_one_k``; the q heads
score some seven points less on CIFAR-100.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robustmix.errors import IntakeError, UsageError
from robustmix.models.layouts import Place
from robustmix.text import plain

HEADS = ("one_k", "mix_k", "one_q", "mix_q")
LINEAR_NAMES = ("fc", "fc_cls", "layers.head")

_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class OpenMixupPart:
    """One encoder and one head of an OpenMixup file."""

    backbone: dict[str, Tensor]
    """Names as in the plain network."""

    head: dict[str, Tensor]
    """``weight`` and ``bias`` of the classifier."""

    head_name: str | None
    """Which of ``HEADS``; None for a file that has only one."""

    found: str
    """One line on what the file holds."""


def find_openmixup(places: Sequence[Place]) -> list[Place] | None:
    """Return the places whose names are those of an OpenMixup classifier, None if there is none."""
    return [place for place in places if is_openmixup(place.state)] or None


def is_openmixup(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the names are those of an OpenMixup classifier.

    Others have a ``backbone`` beside a ``head`` too, but the layer of theirs has not these names.
    """
    top = _top_level(state)
    if is_momentum(state):
        return any(name == "head" or name.startswith("head_") for name in top)
    return "backbone" in top and any(f"head.{linear}.weight" in state for linear in LINEAR_NAMES)


def is_momentum(state: Mapping[str, Tensor]) -> bool:
    """Tell whether there are the two encoders of the momentum methods."""
    return bool(_top_level(state) & {"backbone_k", "backbone_q"})


def select_part(state: Mapping[str, Tensor], name: str, head: str | None) -> OpenMixupPart:
    """Return the encoder and head to score.

    Args:
        state: the file's tensors.
        name: the file's name, for messages.
        head: one of ``HEADS``, None for ``one_k``. A q head goes with the q encoder.

    Raises:
        UsageError: there is no such head at all.
        IntakeError: the file lacks the encoder or the head, or its aliases disagree.
    """
    if head is not None:
        check_head_name(head)
    top = _top_level(state)
    found = "found " + plain(", ".join(sorted(top)))
    if not is_momentum(state):
        if head is not None:
            raise IntakeError(
                f"{name} has a single head, not {head}", "leave --head out", code="E-HEAD"
            )
        parts = _part(state, "backbone."), _linear(state, "head.", name)
        return OpenMixupPart(backbone=parts[0], head=parts[1], head_name=None, found=found)
    _check_alias(state, "backbone.", "backbone_k.", name)
    _check_alias(state, "head.", "head_one_k.", name)
    chosen = head or "one_k"
    encoder = f"backbone_{chosen[-1]}."
    prefix = f"head_{chosen}."
    backbone = _part(state, encoder)
    if not backbone and encoder == "backbone_k.":
        backbone = _part(state, "backbone.")
    if not _part(state, prefix) and chosen == "one_k":
        prefix = "head."
    if not backbone or not _part(state, prefix):
        lacks = encoder if not backbone else prefix
        heads = [h for h in HEADS if _part(state, f"head_{h}.")]
        raise IntakeError(
            f"{name} has no {lacks.rstrip('.')}, which --head {chosen} needs",
            f"choose from {', '.join(heads)}" if heads else found,
            code="E-HEAD",
        )
    return OpenMixupPart(
        backbone=backbone, head=_linear(state, prefix, name), head_name=chosen, found=found
    )


def check_head_name(head: str) -> None:
    """Raise for a head that cannot be scored.

    Raises:
        UsageError: the name is none of ``HEADS``.
        IntakeError: it is ``avg``, which averages squared logits and is not supported.
    """
    if head == "avg":
        raise IntakeError(
            "--head avg (mean of squared logits over heads) is not supported",
            "score one of " + ", ".join(HEADS),
            code="E-HEAD",
        )
    if head not in HEADS:
        raise UsageError(
            f"unknown head '{plain(head, 80)}'",
            "choose from " + ", ".join(HEADS),
            code="E-UNKNOWN-HEAD",
        )


def _top_level(state: Iterable[str]) -> set[str]:
    return {key.partition(".")[0] for key in state}


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def _linear(state: Mapping[str, Tensor], prefix: str, name: str) -> dict[str, Tensor]:
    head = _part(state, prefix)
    for linear in LINEAR_NAMES:
        found = _part(head, f"{linear}.")
        if found.keys() <= {"weight", "bias"} and len(found) == len(head) and "weight" in found:
            return found
    keys = plain(", ".join(sorted(head)[:4])) or "nothing"
    raise IntakeError(
        f"{name}: {prefix.rstrip('.')} is no linear classifier ({keys})",
        "only heads of one linear layer can be imported",
        code="E-HEAD",
    )


def _check_alias(state: Mapping[str, Tensor], alias: str, owner: str, name: str) -> None:
    """Raise unless the alias holds exactly what the part it stands for holds."""
    copy, original = _part(state, alias), _part(state, owner)
    if not copy or not original:
        return
    keys = {k for k in copy.keys() ^ original.keys() if not k.endswith(_COUNTER)}
    keys |= {
        k
        for k in copy.keys() & original.keys()
        if copy[k].dtype != original[k].dtype or not torch.equal(copy[k], original[k])
    }
    if keys:
        first = plain(min(keys), 80)
        raise IntakeError(
            f"{name}: {alias}{first} should equal {owner}{first} but does not",
            "the file was put together from two models; export it again",
            code="E-ALIAS",
        )
