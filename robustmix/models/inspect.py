"""What a model file holds, told before anyone must say what it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from robustmix.errors import RobustmixError
from robustmix.files import expanded, file_digest
from robustmix.models.archives import Archive, read_archive
from robustmix.models.checkpoint import is_checkpoint
from robustmix.models.dialects import spelled
from robustmix.models.hub import HUB, hub_folder
from robustmix.models.infer import head_of, suggest_below
from robustmix.models.layouts import Place, find_places, norm_inside, prefixes_of
from robustmix.models.load import load_model
from robustmix.models.openmixup import HEADS, is_momentum, is_openmixup
from robustmix.models.recorded import CONFIG, WEIGHTS, read_json_file
from robustmix.models.robust_model import RobustModel
from robustmix.models.transformers_nets import is_transformers
from robustmix.text import plain

MOST_PLACES = 20
"""Mappings of tensors that are told of."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A file, what lies in it, and what loading it without a word more gives."""

    file: str
    sha256: str
    layout: str
    """E.g. ``checkpoint of robustmix``, ``OpenMixup``, ``torch`` or ``safetensors``."""

    places: list[dict[str, JsonValue]]
    """Every mapping of tensors: where, how many, what they look like."""

    model: dict[str, JsonValue] | None
    """The model that it loads as; None if more must be said."""

    problem: str = ""
    """Why it does not load, and what to say."""

    def record(self) -> dict[str, JsonValue]:
        """Give all of it as JSON."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "layout": self.layout,
            "places": [dict(one) for one in self.places],
            "model": self.model,
            "problem": self.problem or None,
        }


def inspect_model(source: Path | str, *, allow_download: bool = False) -> Inspection:
    """Look into a model file without running code of it.

    Args:
        source: a checkpoint, a torch archive, a safetensors file, a folder of timm's or of
            transformers', or ``hf-hub:OWNER/NAME[@REVISION]``.
        allow_download: fetch a model of the hub that is not in the local cache.

    Raises:
        UsageError: the name of a model of the hub is of another form.
        IntakeError: it is missing, damaged, unsafe, or holds no tensors.
    """
    named = None
    if isinstance(source, str) and source.startswith(HUB):
        named = hub_folder(source, allow_download=allow_download)
    path = expanded(source) if named is None else named.folder
    weights = path
    if (path / CONFIG).exists():
        weights = next((path / name for name in WEIGHTS if (path / name).is_file()), path)
    archive = read_archive(weights)
    ours = is_checkpoint(archive.content)
    places = find_places(archive.content, weights.name)
    try:
        model, problem = _model(load_model(path)), ""
    except RobustmixError as error:
        model, problem = None, "; ".join(filter(None, (error.message, error.hint)))
    return Inspection(
        file=path.name if named is None else named.name,
        sha256=file_digest(weights),
        layout="checkpoint of robustmix" if ours else _layout(archive, places, path),
        places=[_told(place) for place in places[:MOST_PLACES]],
        model=model,
        problem=problem,
    )


def _layout(archive: Archive, places: list[Place], path: Path) -> str:
    if any(is_openmixup(place.state) for place in places):
        return "OpenMixup"
    if not path.is_dir():
        return archive.kind
    theirs = is_transformers(read_json_file(path / CONFIG))
    return f"{archive.kind} in a folder of " + ("transformers'" if theirs else "timm's")


def _told(place: Place) -> dict[str, JsonValue]:
    """Say what tensors by name look like."""
    told: dict[str, JsonValue] = {
        "where": plain("/".join(place.path), 100) or "top",
        "tensors": len(place.state),
        "numbers": sum(_size(tensor) for tensor in place.state.values()),
    }
    place = spelled(place)
    state = place.state
    if place.dialect is not None:
        told["names"] = place.dialect.name
    prefixes = prefixes_of(state)
    found = suggest_below(state, prefixes)
    if found is not None:
        arch, below = found
        prefix = next((one for one in prefixes if all(one + name in state for name in below)), "")
        told |= {"arch": arch, "prefix": plain(prefix, 100)}
        head = head_of(below)
        if head is not None:
            told |= {"classifier": head[0], "classes": head[1]}
    if is_openmixup(state):
        parts = [name for name in HEADS if any(key.startswith(f"head_{name}.") for key in state)]
        told["heads"] = list(parts) if is_momentum(state) else ["head"]
    inside = norm_inside(state)
    if inside is not None:
        told["normalises"] = plain(inside[0], 100)
    elif place.dialect is not None and place.dialect.norm:
        told["trained_with"] = place.dialect.norm
    return told


def _few(names: Sequence[str] | None) -> str | None:
    """Name the first classes and say how many there are."""
    if names is None:
        return None
    more = f", ... ({len(names)})" if len(names) > 3 else ""
    return ", ".join(plain(name, 40) for name in names[:3]) + more


def _size(tensor: Tensor) -> int:
    return int(tensor.numel())


def _model(robust: RobustModel) -> dict[str, JsonValue]:
    """Say what a loaded model is, with what was assumed of it."""
    info = robust.info
    options: Mapping[str, JsonValue] = dict(info.arch_options)
    return {
        "arch": info.arch,
        "arch_options": dict(options),
        "classes": robust.num_classes,
        "input_size": list(robust.input_size),
        "mean": [float(f"{value:.7g}") for value in robust.mean.flatten().tolist()],
        "std": [float(f"{value:.7g}") for value in robust.std.flatten().tolist()],
        "head": info.head,
        "weights": info.weights,
        "dataset": info.dataset,
        "method": info.method,
        "epoch": info.epoch,
        "parameters": info.params,
        "temperature": None if robust.temperature is None else float(robust.temperature),
        "test_transform": info.test_transform,
        "class_names": _few(info.class_names),
        "assumed": list(info.notes),
    }
