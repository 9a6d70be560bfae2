"""Trained weights to start from: put into a fresh network before it is trained.

The classifier is always left as it was drawn, even where the file's would fit: a start is for
another task or another method, and a classifier that is already right about its training images
would be the only part that does not begin anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.files import expanded
from robustmix.models.archives import check_tensors, read_archive
from robustmix.models.checkpoint import checkpoint_from, is_checkpoint
from robustmix.models.dialects import spelled
from robustmix.models.hub import HUB, hub_folder
from robustmix.models.infer import head_of
from robustmix.models.layouts import Place, choose, find_places, locate, nearest
from robustmix.models.pretrained import load_named
from robustmix.models.recorded import WEIGHTS
from robustmix.models.strict import load_strictly

ENCODERS = ("backbone.", "backbone_k.", "backbone_q.")
"""Encoders of an OpenMixup file; the first one there is taken. ``backbone`` is the only one or
another name of ``backbone_k``, which is what is deployed."""


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Weights and what they are."""

    state: Mapping[str, Tensor]
    what: str


def load_start_weights(
    network: nn.Module,
    source: str,
    *,
    classifier: Sequence[str] = (),
    allow_download: bool = False,
) -> str:
    """Load all but the classifier of a network from a trained one.

    Args:
        network: as ``build_model`` returns it; changed in place.
        source: ``torchvision:NAME@TAG``, ``timm:NAME@TAG`` (the tag ``default`` is the library's
            own choice), ``hf-hub:OWNER/NAME``, or a file: a checkpoint of robustmix (what it
            deploys), of OpenMixup, or a state dict by the network's names. Averaged weights are
            preferred to raw ones.
        classifier: names of the classifier's tensors, see ``classifier_of``; by default those of a
            linear layer that is called as classifiers are.
        allow_download: fetch published weights that are not in the local cache.

    Returns:
        One line on what was loaded.

    Raises:
        UsageError: the source is invalid, or the network has no classifier.
        IntakeError: the weights cannot be had, or a tensor beside the classifier is missing, too
            many or of another shape.
    """
    own = network.state_dict()
    known = head_of(own)
    names = [*classifier] or [key for key in own if known and key.startswith(f"{known[0]}.")]
    if not names:
        raise UsageError(
            f"{type(network).__name__} has no linear classifier to leave out", code="E-WEIGHTS"
        )
    if source.partition(":")[0] in ("torchvision", "timm", "robustmix"):
        found = _published(source, allow_download)
    elif source.startswith(HUB):
        folder = hub_folder(source, allow_download=allow_download).folder
        path = next(folder / name for name in WEIGHTS if (folder / name).is_file())
        found = _from_file(path, own, names)
    else:
        found = _from_file(expanded(source), own, names)
    body = own.keys() - {*names}
    theirs = head_of({key: value for key, value in found.state.items() if key not in body})
    heads = tuple(f"{name}." for name, _ in ([theirs] if theirs else []))
    state = {
        key: value
        for key, value in found.state.items()
        if key in body or not (key in names or key.startswith(heads))
    }
    state |= {key: own[key] for key in names}
    load_strictly(network, state, Path(source).name)
    left_out = names[0].rpartition(".")[0] or names[0]
    return f"weights of {source} ({found.what}); the classifier {left_out} starts anew"


def _published(source: str, allow_download: bool) -> _Found:
    if "@" not in source:
        raise UsageError(f"{source} names no weights", f"write {source}@default", code="E-WEIGHTS")
    named = load_named(source, num_classes=None, input_size=None, allow_download=allow_download)
    notes = "; ".join(note.partition(": ")[2] for note in named.notes)
    return _Found(state=named.net.state_dict(), what=notes)


def _from_file(path: Path, own: Mapping[str, Tensor], classifier: Sequence[str]) -> _Found:
    content = read_archive(path).content
    if is_checkpoint(content):
        checkpoint = checkpoint_from(content, path)
        what = f"{checkpoint.arch} by {checkpoint.method}, epoch {checkpoint.epoch}"
        return _Found(state=checkpoint.model, what=f"{what} on {checkpoint.dataset}")
    places = find_places(content, path.name)
    found = locate(_encoders(places), own, classifier)
    if not found:
        places = [spelled(place) for place in places]
        found = locate(_encoders(places), own, classifier)
    averaged = [one for one in found if one.averaged]
    one = choose(averaged or found, None, path.name) if found else nearest(places, own)
    what = f"{'ema' if one.averaged else 'raw'} weights"
    if one.prefix in ENCODERS:
        what += f", {one.prefix.rstrip('.')} of OpenMixup"
    return _Found(state=check_tensors(path.name, one.state, path.stat().st_size), what=what)


def _encoders(places: Sequence[Place]) -> list[Place]:
    """Return the places, those of OpenMixup narrowed to the encoder that is taken."""
    narrowed = []
    for place in places:
        encoder = next((e for e in ENCODERS if any(k.startswith(e) for k in place.state)), "")
        state = {k: v for k, v in place.state.items() if k.startswith(encoder)}
        narrowed.append(replace(place, state=state))
    return narrowed
