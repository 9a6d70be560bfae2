"""Weights that others saved: which architecture they are of, where they lie, what they lack."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from robustmix.errors import IntakeError
from robustmix.models.archives import Archive, check_tensors
from robustmix.models.dialects import spelled
from robustmix.models.infer import head_of, stem_of, suggest_below
from robustmix.models.layouts import (
    ENCODERS_ONLY,
    Dialect,
    Located,
    Norm,
    Place,
    choose,
    find_places,
    locate,
    nearest,
    norm_inside,
    prefixes_of,
)
from robustmix.models.names import ARCHS, NORM_PRESETS, OWN, split_stem, usual_size
from robustmix.models.openmixup import find_openmixup, is_momentum, select_part
from robustmix.models.outputs import logits_on_probe
from robustmix.models.recorded import Recorded, said_by
from robustmix.models.registry import (
    UNUSUAL,
    Size,
    arch_options,
    blueprint,
    build_model,
    classifier_in,
)
from robustmix.models.robust_model import ModelInfo
from robustmix.models.strict import check_state, load_strictly
from robustmix.models.wanted import Missing, Wanted, asked_for, contradictions, norms_agree
from robustmix.text import plain

MOST_NAMED = 6
"""Tensors that a note names."""


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A network with weights of others, and what is known of it."""

    net: nn.Module
    info: ModelInfo
    input_size: Size
    norm: Norm
    outputs: int


@dataclass(frozen=True, kw_only=True)
class _Arch:
    """An architecture that the weights may be of."""

    name: str
    stem: str | None
    size: Size
    own: Mapping[str, Tensor]
    """Its state dict without numbers, with an unusual number of classes."""

    recorded: Recorded

    @property
    def classifier(self) -> list[str]:
        """Names of the tensors that depend on the number of classes."""
        return classifier_in(self.own)

    def with_classes(self, outputs: int) -> dict[str, Tensor]:
        """Return the state dict without numbers, for a number of classes."""
        changed = {
            key: self.own[key].new_empty((outputs, *self.own[key].shape[1:]))
            for key in self.classifier
        }
        return {**self.own, **changed}


@dataclass(frozen=True, kw_only=True)
class _Weights:
    """Tensors by an architecture's names, and what the file's layout says about them."""

    state: dict[str, Tensor]
    form: str
    averaged: bool = False
    head: str | None = None
    inside: tuple[str, Norm] | None = None
    """What the file's own network normalises with, by the name of its mean."""

    dialect: Dialect | None = None
    """Whose names the file has, if they had to be translated."""

    openmixup: bool = False
    classifier: bool = True
    notes: tuple[str, ...] = ()


def read_foreign(archive: Archive, path: Path, wanted: Wanted, recorded: Recorded) -> Foreign:
    """Return the network of a foreign file with its weights.

    Args:
        archive: what was read.
        path: of the file.
        wanted: what the caller says.
        recorded: what the file says beside its weights.

    Raises:
        IntakeError: something is missing, all of which is named at once; or does not fit.
        UsageError: an option is invalid.
    """
    said = contradictions(wanted, recorded, path.name)
    places = find_places(archive.content, path.name)
    name = wanted.arch or recorded.arch
    if name is None:
        raise _unknown_arch(places, path.name, wanted, recorded)
    arch = _outlined(name.removeprefix("robustmix:"), wanted.input_size, recorded)
    weights = _find_weights(archive, places, arch, wanted, path)
    arch, size_note = _sized(arch, weights.state, wanted)
    norm, norm_note = _chosen_norm(weights, arch, wanted)
    missing = [] if norm is not None else [_missing_norm(weights.inside, weights.dialect)]
    if not _size_is_known(arch, wanted):
        missing.insert(0, ("E-INPUT-SIZE", "image size", "pass --img-size"))
    if missing or norm is None:
        raise asked_for(path.name, missing)
    net, outputs = _loaded(arch, weights.state, wanted, path.name)
    if recorded.num_classes not in (None, outputs):
        raise IntakeError(
            f"{path.name} has {outputs} classes, {recorded.where} says {recorded.num_classes}",
            "take weights and description of one model",
            code="E-CLASSES",
        )
    info = ModelInfo(
        source=path.name,
        format=weights.form,
        arch=split_stem(arch.name)[0],
        arch_options=arch_options(net),
        params=sum(p.numel() for p in net.parameters()),
        weights="ema" if weights.averaged else "raw",
        head=weights.head,
        class_names=recorded.class_names,
        classifier=weights.classifier,
        test_transform=recorded.test_transform if wanted.input_size in (None, arch.size) else None,
        notes=tuple(
            note for note in (*recorded.notes, *said, *weights.notes, size_note, norm_note) if note
        ),
    )
    return Foreign(net=net, info=info, input_size=arch.size, norm=norm, outputs=outputs)


# What is missing


def _unknown_arch(
    places: Sequence[Place], name: str, wanted: Wanted, recorded: Recorded
) -> IntakeError:
    """Ask for the architecture, with the likely one, and for what else is missing."""
    places = [spelled(place) for place in places]
    seen = (suggest_below(place.state, prefixes_of(place.state)) for place in places)
    guess = next((found for found in seen if found is not None), None)
    hint = "pass --arch NAME; 'robustmix list archs' names them, others are timm:NAME and "
    hint += "torchvision:NAME"
    if guess is not None:
        head = head_of(guess[1])
        classes = f" and {head[1]} classes" if head else ""
        hint = f"its tensors look like --arch {guess[0]}{classes}"
    missing = [("E-NO-ARCH", "architecture", hint)]
    sized = guess is not None and ":" not in guess[0]
    if not sized and (wanted.input_size or recorded.input_size or recorded.usual_size) is None:
        missing.append(("E-INPUT-SIZE", "image size", "pass --img-size"))
    insides = [norm_inside(place.state) for place in places]
    inside = next((found for found in insides if found is not None), None)
    known = wanted.norm or recorded.norm or recorded.usual_norm or _plausible(inside)
    if known is None and find_openmixup(places) is None:
        missing.append(_missing_norm(inside, places[0].dialect))
    return asked_for(name, missing)


def _missing_norm(inside: tuple[str, Norm] | None, dialect: Dialect | None) -> Missing:
    hint = "pass --norm-preset " + "|".join(NORM_PRESETS) + ", or --mean and --std"
    if dialect is not None and dialect.norm:
        hint = f"its names are those of {dialect.name}, which trains with {dialect.norm}"
    if inside is not None:
        mean, std = (",".join(f"{x / 255:.4g}" for x in numbers) for numbers in inside[1])
        hint = f"{plain(inside[0], 80)} looks like 0 to 255: pass --mean {mean} --std {std} if so"
    return "E-NO-NORM", "normalisation", hint


def _size_is_known(arch: _Arch, wanted: Wanted) -> bool:
    """Tell whether the image size is said, or can be taken from the architecture with a note."""
    said = wanted.input_size or arch.recorded.input_size or arch.recorded.usual_size
    known = split_stem(arch.name)[0] in ARCHS and not arch.name.startswith(OWN)
    return said is not None or known


# Architecture and image size


def _outlined(name: str, size: Size | None, recorded: Recorded, stem: str | None = None) -> _Arch:
    plain, named_stem = split_stem(name)
    size = size or recorded.input_size or recorded.usual_size
    if size is None:
        size = usual_size(plain, named_stem) if plain in ARCHS else (3, 224, 224)
    theirs = name == recorded.arch
    options = recorded.options if theirs else {}
    with said_by(recorded.where) if theirs else nullcontext():
        own = blueprint(name, num_classes=UNUSUAL, input_size=size, stem=stem, options=options)
    return _Arch(name=name, stem=stem, size=size, own=own, recorded=recorded)


def _sized(arch: _Arch, state: Mapping[str, Tensor], wanted: Wanted) -> tuple[_Arch, str]:
    """Return the architecture for the images, asking the file only for what is open.

    The stem is fixed by the name, else by the image size; the file decides if neither is given.
    """
    name, stem = split_stem(arch.name)
    if wanted.input_size or arch.recorded.input_size or name not in ARCHS or name.startswith(OWN):
        return arch, ""
    stems = ARCHS.row(name).stems
    if stem is None and stems:
        found = stem_of(state)
        stem = found if found in stems else stems[0]
    size = arch.recorded.usual_size or usual_size(name, stem)
    whose = f"the {stem} stem" if stem else name
    note = f"W-INPUT-SIZE: {size[1]} pixels assumed for {whose}"
    return _outlined(arch.name, size, arch.recorded, stem), note


# Weights


def _find_weights(
    archive: Archive, places: Sequence[Place], arch: _Arch, wanted: Wanted, path: Path
) -> _Weights:
    size = path.stat().st_size
    mixed = find_openmixup(places)
    if mixed is not None:
        return _from_openmixup(mixed, archive.content, arch, wanted, path)
    if wanted.head is not None:
        raise IntakeError(
            f"{path.name} has a single head, not {wanted.head}", "leave --head out", code="E-HEAD"
        )
    found = locate(places, arch.own, arch.classifier)
    if not any(_is_whole(one, arch) for one in found):
        translated = [spelled(place) for place in places]
        found = locate(translated, arch.own, arch.classifier) or found
        places = translated if not found else places
    one = choose(found, wanted.weights, path.name) if found else nearest(places, arch.own)
    headless = one.lacks_classifier or bool({*one.prefix.split(".")} & ENCODERS_ONLY)
    if headless and not wanted.backbone:
        raise IntakeError(
            f"{path.name} holds a backbone without a classifier",
            "give the file with the classifier head",
            code="E-NO-HEAD",
        )
    if not found and wanted.weights == "ema" and not one.averaged:
        choose([one], wanted.weights, path.name)
    state = check_tensors(path.name, one.state, size)
    if headless:  # one output of zeros stands for the classifier
        state |= {key: torch.zeros(1, *arch.own[key].shape[1:]) for key in arch.classifier}
    return _Weights(
        state=state,
        classifier=not headless,
        form=archive.kind,
        averaged=one.averaged,
        inside=norm_inside(one.place.state),
        dialect=one.place.dialect,
        notes=_layout_notes(one),
    )


def _is_whole(one: Located, arch: _Arch) -> bool:
    """Tell whether a place has all of an architecture's names and no others among them."""
    return not one.lacks_classifier and one.state.keys() <= arch.own.keys()


def _from_openmixup(
    places: Sequence[Place], content: object, arch: _Arch, wanted: Wanted, path: Path
) -> _Weights:
    kinds = [
        Located(place=place, prefix="", state=place.state, averaged="ema_*" in place.path)
        for place in places
    ]
    one = choose(kinds, wanted.weights, path.name)
    part = select_part(one.state, path.name, wanted.head)
    module = next((key.rpartition(".")[0] for key in arch.classifier), "")
    if not module:
        raise IntakeError(f"{plain(arch.name, 80)} has no linear classifier", code="E-NO-HEAD")
    head = {f"{module}.{key}": tensor for key, tensor in part.head.items()}
    return _Weights(
        state=check_tensors(path.name, {**part.backbone, **head}, path.stat().st_size),
        form="openmixup",
        averaged=one.averaged,
        head=part.head_name,
        # A plain classifier may be named alike; mmcv writes ``meta`` beside it.
        openmixup=is_momentum(one.state) or (isinstance(content, Mapping) and "meta" in content),
        notes=(*_layout_notes(one), f"I-LAYOUT: {part.found}"),
    )


def _layout_notes(one: Located) -> tuple[str, ...]:
    notes = []
    if one.place.dialect is not None:
        notes.append(f"I-LAYOUT: tensors are named as in {one.place.dialect.name}")
        if one.place.dialect.unused:
            notes.append("W-LEFT-OUT: the tensors that its network has and never uses")
    if one.where:
        apart = f", the classifier under {plain(one.classifier, 80)}" if one.classifier else ""
        notes.append(f"I-LAYOUT: weights found under {plain(one.where, 80)}{apart}")
    left = [key for key in one.left_out if not key.endswith("n_averaged")]
    if left:
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        named = ", ".join(plain(key, 40) for key in left[:MOST_NAMED])
        notes.append(f"W-LEFT-OUT: tensors beside the weights: {named}{more}")
    return tuple(notes)


def _loaded(
    arch: _Arch, state: Mapping[str, Tensor], wanted: Wanted, name: str
) -> tuple[nn.Module, int]:
    """Return the network with its weights, and the number of its outputs."""
    sizes = [len(state[key]) for key in arch.classifier if key in state and state[key].ndim]
    outputs = sizes[0] if sizes else wanted.num_classes
    check_state(arch.with_classes(outputs or 1), state, name)  # before anything is allocated
    net = build_model(
        arch.name,
        num_classes=outputs or 1,
        input_size=arch.size,
        stem=arch.stem,
        options=arch.recorded.options if arch.name == arch.recorded.arch else {},
    )
    load_strictly(net, state, name)
    if not sizes or arch.name.startswith(OWN):
        # An architecture of others, whatever it does with a number of classes.
        outputs = logits_on_probe(net.eval(), arch.size, plain(arch.name, 80)).shape[1]
    assert outputs is not None
    return net, outputs


# Normalisation


def _plausible(inside: tuple[str, Norm] | None) -> Norm | None:
    """Return what is inside a file if it can be of pixels in [0, 1]."""
    if inside is None:
        return None
    mean, std = inside[1]
    fits = all(0 <= m <= 1 for m in mean) and all(0 < s <= 1 for s in std)
    return inside[1] if fits else None


def _chosen_norm(weights: _Weights, arch: _Arch, wanted: Wanted) -> tuple[Norm | None, str]:
    recorded, inside = arch.recorded, _plausible(weights.inside)
    if wanted.norm is not None:
        if inside is None or norms_agree(inside, wanted.norm):
            return wanted.norm, ""
        return wanted.norm, f"W-NORM: the file normalises with {inside}, given {wanted.norm}"
    if recorded.norm is not None:
        return recorded.norm, ""
    if inside is not None and weights.inside is not None:
        place = plain(weights.inside[0], 80)
        return inside, f"I-NORM: normalisation {inside}, from {place} in the file"
    if weights.openmixup:
        preset = "openmixup-cifar" if max(arch.size[1:]) == 32 else "imagenet"
        note = f"I-NORM: normalisation {preset}, as OpenMixup trains at this image size"
        return NORM_PRESETS[preset], note
    if recorded.usual_norm is not None:
        note = (
            f"I-NORM: normalisation {recorded.usual_norm}, what the training script takes unasked"
        )
        return recorded.usual_norm, note
    return None, ""
