"""From what was asked for to an evaluation that can be run: data, suites, and whether they fit."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import index
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

import torch
from torch import nn

from robustmix.attacks.registry import ATTACKS
from robustmix.data.hf import HF, HfItems
from robustmix.data.images import ImageSet
from robustmix.data.location import data_folder
from robustmix.data.manifests import DATASETS
from robustmix.data.preparation import TransformOptions
from robustmix.environment import choose_device
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.evaluation.class_names import check_class_names
from robustmix.evaluation.evaluation import Evaluation, Ready, origin_part
from robustmix.evaluation.faults import suite_fault
from robustmix.evaluation.model_images import Images, load_for, load_given
from robustmix.evaluation.plan import Planned, Wanted, plan
from robustmix.evaluation.protocols import ProtocolScene
from robustmix.evaluation.shard import parse_shard
from robustmix.evaluation.suite import Prepared, Scene, limited_count
from robustmix.evaluation.suites.registry import SUITES
from robustmix.files import hash_json
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel
from robustmix.precision import checked_precision
from robustmix.report.schema import ShardPart
from robustmix.rng import seeded_subset
from robustmix.tables import require_plugins


def prepare(
    model: RobustModel | nn.Module | Path | str,
    dataset: Images | None = None,
    suites: Wanted | None = None,
    *,
    protocols: Sequence[str] = (),
    options: Mapping[str, object] | None = None,
    data_dir: Path | str | None = None,
    limit: int | float | None = None,
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    keep_going: bool = False,
    allow_partial: bool = False,
    allow_download: bool = False,
    name: str | None = None,
    argv: Sequence[str] = (),
    transform: TransformOptions | None = None,
    override_checkpoint: bool = False,
    shard: str | None = None,
) -> Evaluation:
    """Decide everything of an evaluation; the arguments are those of ``evaluate``.

    Raises:
        UsageError: an argument is invalid.
        IntakeError: the model, the data or the files of a suite are missing, damaged or do not fit.
    """
    if not isinstance(seed, SupportsIndex):  # True and numpy's integers are
        raise UsageError(f"expected a whole number as --seed, got {seed!r}")
    seed = index(seed)
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected 0 <= --seed < 2^63, got {seed}")
    share = None if shard is None else parse_shard(shard)
    where = choose_device(device)
    robust = (
        model
        if isinstance(model, RobustModel)
        else load_model(model, allow_download=allow_download)
    )
    robust = robust.to(where).in_precision(checked_precision(precision, where))
    asked = dataset if isinstance(dataset, str) else robust.info.dataset or ""
    planned = plan(
        suites,
        protocols=protocols,
        scene=ProtocolScene.of(robust.input_size[1], asked, options or {}),
        options=options,
    )
    folder = data_folder(Path(data_dir) if data_dir is not None else None)
    asked_for = transform or TransformOptions()
    whole = _dataset(dataset, robust, folder, asked_for, override_checkpoint, allow_partial)
    _check_fit(robust, whole)
    chosen = limited_subset(whole, limit, seed)
    data = whole if chosen is None else whole.subset(chosen)
    if limit is None:
        planned = [_limited(one) for one in planned]
    scene = Scene(
        robust=robust,
        data=whole,
        folder=folder,
        dataset=asked if isinstance(dataset, str | None) else "",
        limit=limit,
        seed=seed,
        allow_partial=allow_partial,
        allow_download=allow_download,
    )
    if share is not None and share[1] > len(data):
        raise UsageError(
            f"{len(data)} images cannot be shared by {share[1]} shards",
            "take no more shards than images",
            code="E-SHARD",
        )
    prepared, refused = _prepared(planned, scene, keep_going=keep_going)
    keys = [one.key for one in planned]
    return Evaluation(
        robust=robust,
        data=data,
        whole=whole,
        chosen=chosen,
        suites=[
            Ready(
                planned=one,
                prepared=prepared[one.key],
                covered=None
                if one.limit is None
                else seeded_subset(seed, data.sample_ids, one.limit),
            )
            for one in planned
            if one.key in prepared
        ],
        refused=refused,
        order=keys,
        seed=seed,
        device=where,
        name=name or robust.info.source,
        argv=list(argv),
        shard=None if share is None else ShardPart(index=share[0], count=share[1], suites=keys),
    )


def _prepared(
    planned: Sequence[Planned], scene: Scene, *, keep_going: bool
) -> tuple[dict[str, Prepared], dict[str, RobustmixError]]:
    """Prepare the suites that can be run, and tell why the others cannot.

    Raises:
        RobustmixError: of the first suite that cannot, unless ``keep_going``.
    """
    prepared: dict[str, Prepared] = {}
    refused: dict[str, RobustmixError] = {}
    for one in planned:
        try:
            # Each knows those before it: corrupted images are scaled by the calibration's fit.
            made = one.suite.prepare(replace(scene, prepared=dict(prepared)))
            hash_json(made.params)  # what cannot be recorded is found before any work
        except Exception as error:
            refused[one.key] = _refusal(one, error)
            if not keep_going:
                raise refused[one.key] from error
        else:
            prepared[one.key] = made
    return prepared, refused


def _refusal(planned: Planned, error: Exception) -> RobustmixError:
    """Say why a suite cannot begin; of an error of others' code whose it is."""
    if isinstance(error, RobustmixError):
        return error
    origin = SUITES.origin(planned.name) or ATTACKS.origin(planned.name)
    whose = [] if origin is None else [origin_part("suite", planned.name, origin)]
    return suite_fault(planned.key, error, whose)


def _dataset(
    dataset: Images | None,
    robust: RobustModel,
    folder: Path,
    transform: TransformOptions,
    override: bool,
    allow_partial: bool,
) -> ImageSet:
    if isinstance(dataset, ImageSet):
        if transform.said:
            raise UsageError(
                f"{transform.said[0]} is for data sets by name: these images are prepared already",
                "leave it out",
                code="E-TRANSFORM",
            )
        return dataset
    if dataset is not None and not isinstance(dataset, str):
        return load_given(robust, dataset, transform, override)
    name = dataset or robust.info.dataset
    if name is None:
        raise UsageError(
            "the checkpoint does not say which data set it is for", "add --dataset NAME"
        )
    if name.startswith(HF):
        return load_given(robust, HfItems(name), transform, override)
    if dataset is None:
        require_plugins(robust.info.plugins, [DATASETS])  # says where it came from
    return load_for(
        robust,
        name,
        "test",
        folder,
        allow_partial=allow_partial,
        asked=transform,
        override=override,
    )


def _check_fit(robust: RobustModel, data: ImageSet) -> None:
    if robust.num_classes == data.num_classes - 1 and not bool((data.labels == 0).any()):
        raise IntakeError(
            f"the labels of {data.name} run from 1 to {robust.num_classes}",
            "count them from 0: labels - 1",
            code="E-CLASSES",
        )
    if robust.num_classes != data.num_classes:
        raise IntakeError(
            f"the model has {robust.num_classes} classes, {data.name} has {data.num_classes}",
            "give the data set the model was trained on, or a --class-map",
            code="E-CLASSES",
        )
    if robust.input_size != data.input_size:
        raise IntakeError(
            f"the model takes images {robust.input_size}, {data.name} has {data.input_size}",
            "give the data set the model was trained on",
            code="E-INPUT-SIZE",
        )
    check_class_names(robust, data)
    if len(data) == 0:
        raise IntakeError(f"{data.name} has no images", "check the data folder")
    if len(set(data.sample_ids)) != len(data):
        raise IntakeError(f"sample ids of {data.name} occur twice", "give every image its own id")


def limited_subset(data: ImageSet, limit: int | float | None, seed: int) -> torch.Tensor | None:
    """Choose which samples to evaluate, rising; None for all of them.

    Raises:
        UsageError: that is no number of samples.
    """
    if limit is None:
        return None
    if isinstance(limit, str) or not isinstance(limit, SupportsFloat):
        raise UsageError(f"cannot take --limit {limit!r}", "give a number: 500, or 0.1 of them")
    if not 0 < limit < 1 and (limit < 1 or limit != limit // 1):  # also NaN and infinity
        raise UsageError(
            f"cannot take --limit {limit}", "give a whole number of at least 1, or a share below 1"
        )
    count = limited_count(limit, len(data))
    if count < 1:
        raise UsageError(f"--limit {limit} leaves no sample", "give at least 1")
    return seeded_subset(seed, data.sample_ids, count)


def _limited(planned: Planned) -> Planned:
    """Cut suites that are too slow for whole test sets, unless a protocol has its own limit."""
    if planned.limit is not None or planned.preset is not None:
        return planned
    return replace(planned, limit=planned.suite.default_limit)
