"""Make the file of saliency maps that the suite ``occlusion`` takes, of any model and source."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import robustmix
from robustmix.data.content import pixels_sha256
from robustmix.data.hf import HF, HfItems
from robustmix.data.images import ImageSet
from robustmix.data.location import data_folder
from robustmix.data.manifests import Split
from robustmix.data.preparation import TransformOptions
from robustmix.environment import choose_device
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.engine import guarded
from robustmix.evaluation.model_images import Images, load_for, load_given
from robustmix.evaluation.patches import patch_size, patch_sums
from robustmix.evaluation.prepare import limited_subset
from robustmix.evaluation.progress import EvalProgress, Silence
from robustmix.evaluation.resume_store import Kept, Unit, UnitStore
from robustmix.evaluation.suite import to_unit
from robustmix.files import expanded, hash_json
from robustmix.locks import run_lock
from robustmix.models.checks import state_hash
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel, padded
from robustmix.saliency.attention import check_attention, class_attention
from robustmix.saliency.from_file import LARGEST, MapsRecord, save_maps
from robustmix.saliency.registry import LABELS, SALIENCY
from robustmix.saliency.rollout import check_rollout
from robustmix.saliency.sources import Explained, Source, saliency_maps

ATTENTION, FILE = "attention", "file"

CLASSLESS = (ATTENTION, "rollout", "center")
"""Sources that explain no class."""

WITHOUT_CLASSIFIER = (ATTENTION, "center")

BLOCK = 256
"""Images a unit: what an interruption loses at most."""

MOST_SIDE = 64
"""Most rows and columns of a map where nobody says how many: 28 and 14 of 224 pixels divide it."""

BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Made:
    """A file of maps that was written."""

    path: Path
    record: MapsRecord
    shape: tuple[int, int]
    """Rows and columns of a map."""

    notes: tuple[str, ...]
    """What the model and its images warn of."""


def make_maps(
    model: str | Path | RobustModel,
    dataset: Images | None,
    out: str | Path,
    *,
    source: str = ATTENTION,
    attention_head: int | None = None,
    label: str | None = None,
    like: str | Path | RobustModel | None = None,
    grid: tuple[int, int] | None = None,
    split: Split = "test",
    data_dir: Path | str | None = None,
    limit: int | float | None = None,
    batch_size: int = BATCH,
    device: str = "auto",
    seed: int = 0,
    allow_partial: bool = False,
    transform: TransformOptions | None = None,
    override_checkpoint: bool = False,
    force: bool = False,
    progress: EvalProgress | None = None,
) -> Made:
    """Write the saliency maps of a data set, for ``--saliency-file`` of the suite ``occlusion``.

    What is done lies in ``OUT.part`` until all is; the same call goes on from there.

    Args:
        model: what is asked for saliency: what ``load_model`` takes, or what it gave.
        dataset: images, or the name of a data set; None: that of the checkpoint, or of ``like``.
        out: npz to write.
        source: of the table of saliency sources, but ``file``.
        attention_head: for ``attention``: which head, from 0; None: the mean of all.
        label: which class is explained, ``prediction`` (the default) or ``label``, where the source
            explains one.
        like: the model that will be evaluated: its images are taken, prepared as it is tested, and
            its normalisation, as Naseer et al. do. None: those of ``model``.
        grid: rows and columns of a map, which divide the images; each is the mean over a patch.
            None: of attention the network's own patches, else the finest of at most 64 by 64.
        split: of the data set.
        data_dir: where data sets lie.
        limit: so many images, or such a share, chosen by the seed as ``evaluate`` does.
        batch_size: images a pass; it changes no map but by rounding.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        seed: of what is random in a source, and of ``limit``.
        allow_partial: see ``load_dataset``.
        transform: how images are prepared, instead of ``model``'s way.
        override_checkpoint: let that contradict what the checkpoint records.
        force: replace what is at ``out``, and begin anew.
        progress: is told how far it is.

    Raises:
        UsageError: an argument is invalid, acts on nothing, or does not suit the model.
        IntakeError: the model or the data are missing, damaged or do not fit.
        IncompatibleError: what an interrupted call left is of other maps.
        IncompleteError: maps are not finite, or the file cannot be written.
    """
    path = expanded(out)
    if path.suffix != ".npz":
        raise UsageError(f"expected an .npz file, got {path}", "name it maps.npz", code="E-OUT")
    if path.exists() and not force:
        raise UsageError(
            f"{path} exists", "choose another --out, or --force to replace it", code="E-EXISTS"
        )
    explain = _checked_source(source, attention_head, label)
    if batch_size < 1:
        raise UsageError(f"expected --batch-size >= 1, got {batch_size}")
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected 0 <= --seed < 2^63, got {seed}")
    where, asked = choose_device(device), transform or TransformOptions()
    robust = model if isinstance(model, RobustModel) else load_model(model, backbone=True)
    other = like if isinstance(like, RobustModel | None) else load_model(like, backbone=True)
    if other is not None and asked.said:
        raise UsageError(
            f"--{asked.said[0].replace('_', '-')} contradicts --like, whose images are taken",
            "leave one out",
        )
    tested = other or robust
    folder = data_folder(Path(data_dir) if data_dir is not None else None)
    data = _images(tested, dataset, split, folder, asked, override_checkpoint, allow_partial)
    chosen = limited_subset(data, limit, seed)
    data = data if chosen is None else data.subset(chosen)
    robust = (robust if other is None else seen_as(robust, other)).to(where)
    _check_fit(robust, data, source, attention_head, label)
    shape = _shape(robust, data, source, grid)
    if len(data) * shape[0] * shape[1] * 4 > LARGEST:
        raise UsageError(
            f"{len(data)} maps of {shape[0]}x{shape[1]} are more than a file may hold",
            "give a coarser --grid",
            code="E-GRID",
        )
    head = "mean of heads" if attention_head is None else f"head {attention_head}"
    record = MapsRecord(
        source=source,
        choice=head if source == ATTENTION else ("" if source in CLASSLESS else label or LABELS[0]),
        model=robust.info.source,
        model_sha256=state_hash(robust),
        mean=tuple(robust.mean.flatten().tolist()),
        std=tuple(robust.std.flatten().tolist()),
        normalised_as="" if other is None else other.info.source,
        dataset=data.name,
        split=data.split,
        transform=data.transform,
        height=data.input_size[1],
        width=data.input_size[2],
        n=len(data),
        order_sha256=data.order_sha256,
        pixels_sha256=pixels_sha256(data),
        seed=seed,
        version=robustmix.__version__,
    )

    def maps_of(images: Tensor, labels: Tensor, ids: tuple[str, ...]) -> Tensor:
        explained = Explained(
            robust=robust,
            model=padded(robust),
            images=images,
            labels=labels if label == "label" else None,
            sample_ids=ids,
            seed=seed,
            attention_head=attention_head,
        )
        if source == ATTENTION and grid is None:
            return saliency_maps(class_attention, explained, of_pixels=False)
        maps = saliency_maps(explain, explained)
        high, wide = patch_size(explained.size, shape)
        return patch_sums(maps, shape).view(-1, *shape) / (high * wide)

    place = path.with_name(path.name + ".part")
    identity = {"run": hash_json([record.as_json(), list(shape), robust.resize, where.type])}
    with run_lock(place), guarded(where):
        store = UnitStore(place / "units")
        if force:
            store.remove()
        _open(store, identity, path)
        maps = _computed(data, store, maps_of, batch_size, where, progress or Silence())
        save_maps(path, data.sample_ids, maps, record)
        store.remove()
    with contextlib.suppress(OSError):  # what else is in it is not ours
        place.rmdir()
    notes = (*robust.info.notes, *(() if other is None else other.info.notes), *data.notes)
    return Made(path=path, record=record, shape=shape, notes=tuple(dict.fromkeys(notes)))


def _checked_source(source: str, head: int | None, label: str | None) -> Source:
    """Return a source, once it is known that the options act on it."""
    if source == FILE:
        raise UsageError(
            "maps of a file are there already", "name what makes them", code="E-SALIENCY"
        )
    explain = SALIENCY.load(source)
    if head is not None and source != ATTENTION:
        raise UsageError(
            f"--attention-head is of source {ATTENTION}, not of {source}",
            f"add --source {ATTENTION}, or leave it out",
            code="E-UNUSED-OPTION",
        )
    if label is not None and label not in LABELS:
        raise UsageError(f"unknown label '{label[:80]}'", "choose prediction or label")
    if label is not None and source in CLASSLESS:
        raise UsageError(f"{source} explains no class", "leave --label out", code="E-UNUSED-OPTION")
    return explain


def seen_as(robust: RobustModel, other: RobustModel) -> RobustModel:
    """Return a model that takes the images of another, normalised as those of the other are.

    Images of another size than its own are resized in the model.
    """
    own = robust.resize or robust.input_size[1:]
    return RobustModel(
        robust.net,
        mean=other.mean.flatten().tolist(),
        std=other.std.flatten().tolist(),
        num_classes=robust.num_classes,
        input_size=other.input_size,
        class_map=robust.class_map,
        resize=None if tuple(own) == other.input_size[1:] else (own[0], own[1]),
        info=robust.info,
        allow_out_of_range=robust.allow_out_of_range,
    )


def _images(
    tested: RobustModel,
    dataset: Images | None,
    split: Split,
    folder: Path,
    asked: TransformOptions,
    override: bool,
    allow_partial: bool,
) -> ImageSet:
    if isinstance(dataset, ImageSet):
        return dataset
    name = dataset if dataset is not None else tested.info.dataset
    if name is None:
        raise UsageError("the model does not say which data set it is for", "add --dataset NAME")
    if not isinstance(name, str):
        return load_given(tested, name, asked, override)
    if name.startswith(HF):
        return load_given(tested, HfItems(name), asked, override)
    return load_for(
        tested, name, split, folder, allow_partial=allow_partial, asked=asked, override=override
    )


def _check_fit(
    robust: RobustModel, data: ImageSet, source: str, head: int | None, label: str | None
) -> None:
    if not len(data):
        raise IntakeError(f"{data.name} has no images", "check the data folder")
    if robust.input_size != data.input_size:
        raise IntakeError(
            f"the model takes images {robust.input_size}, {data.name} has {data.input_size}",
            "give --like the model that is evaluated on them, or --img-size",
            code="E-INPUT-SIZE",
        )
    if source == ATTENTION:
        check_attention(robust, head)
    elif source == "rollout":
        check_rollout(robust)
    if source not in WITHOUT_CLASSIFIER and not robust.info.classifier:
        raise UsageError(
            f"{source} asks for the model's answer, and {robust.info.source} has no classifier",
            f"choose --source {ATTENTION}, or give a model with a classifier",
            code="E-SALIENCY",
        )
    if label == "label" and robust.num_classes != data.num_classes:
        raise IntakeError(
            f"the model has {robust.num_classes} classes, {data.name} has {data.num_classes}",
            "explain the prediction, or give a model of this data set",
            code="E-CLASSES",
        )


def _shape(
    robust: RobustModel, data: ImageSet, source: str, grid: tuple[int, int] | None
) -> tuple[int, int]:
    size = data.input_size[1:]
    if grid is not None:
        patch_size(size, grid)
        return grid
    if source == ATTENTION:
        rows, columns = robust.net.patch_embed.grid_size  # type: ignore[union-attr,misc] # checked
        return int(rows), int(columns)
    rows, columns = (max(d for d in range(1, MOST_SIDE + 1) if side % d == 0) for side in size)
    return rows, columns


def _open(store: UnitStore, identity: dict[str, str], path: Path) -> None:
    try:
        store.open(identity, resume=True)
    except IncompatibleError as error:
        raise IncompatibleError(
            f"what an interrupted command left beside {path} is of other maps",
            "add --force to begin anew, or choose another --out",
            code="E-RESUME",
        ) from error


def _computed(
    data: ImageSet,
    store: UnitStore,
    maps_of: Callable[[Tensor, Tensor, tuple[str, ...]], Tensor],
    batch_size: int,
    device: torch.device,
    progress: EvalProgress,
) -> NDArray[np.float32]:
    """Return the maps of all images, those of finished units as they were left."""
    found = []
    progress.start("saliency", len(data))
    for begin in range(0, len(data), BLOCK):
        places = torch.arange(begin, min(begin + BLOCK, len(data)))
        ids = data.sample_ids[begin : begin + BLOCK]
        unit = Unit("saliency", "maps", begin // BLOCK, ids)
        kept = store.get(unit)
        if kept is None or kept.n < len(ids):
            maps = []
            for some in torch.split(places, batch_size):
                images = to_unit(data.pixels.take(some).to(device))
                named = tuple(data.sample_ids[i] for i in some.tolist())
                maps.append(maps_of(images, data.labels[some].to(device), named).float().cpu())
                progress.advance("saliency", "maps", len(some))
            kept = Kept(len(ids), {"maps": torch.cat(maps).numpy()})
            store.put(unit, kept)
        else:
            progress.advance("saliency", "maps", len(ids))
        found.append(kept.arrays["maps"].astype(np.float32))
    return np.concatenate(found)
