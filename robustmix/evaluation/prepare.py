"""From what was asked for to an evaluation that can be run: data, suites, and whether they fit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from robustmix.data.datasets import data_folder, load_dataset
from robustmix.data.images import ImageSet
from robustmix.environment import choose_device
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.engine import Suite
from robustmix.evaluation.job import Job
from robustmix.evaluation.planned import Planned, seeded_subset
from robustmix.evaluation.resolve import resolve_suites
from robustmix.evaluation.suites.registry import DEFAULT_LIMITS, plan, with_masking
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel

DEFAULT_SUITES = ("clean", "calibration")


def prepare(
    model: RobustModel | nn.Module | Path | str,
    dataset: ImageSet | str | None = None,
    suites: Sequence[str | Suite | Planned] = DEFAULT_SUITES,
    *,
    data_dir: Path | str | None = None,
    limit: int | float | None = None,
    device: str = "auto",
    seed: int = 0,
    keep_going: bool = False,
    name: str | None = None,
    argv: Sequence[str] = (),
) -> Job:
    """Return an evaluation, everything decided; the arguments are those of ``evaluate``.

    Raises:
        UsageError: an argument cannot be meant.
        IntakeError: the model, the data or the files of a suite are missing, damaged or do not fit.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"expected 0 <= --seed < 2^63, got {seed}")
    where = choose_device(device)
    robust = model if isinstance(model, RobustModel) else load_model(model)
    robust = robust.to(where)
    folder = data_folder(Path(data_dir) if data_dir is not None else None)
    whole = _dataset(dataset, robust, folder)
    _check_fit(robust, whole)
    chosen = _subset(whole, limit, seed)
    wanted = with_masking(plan(suites))
    if limit is None:
        wanted = [p if p.limit else replace(p, limit=_default_limit(p)) for p in wanted]
    ready, refused = resolve_suites(wanted, robust, whole, folder, keep_going=keep_going)
    return Job(
        robust=robust,
        data=whole if chosen is None else whole.subset(chosen),
        whole=whole,
        chosen=chosen,
        suites=ready,
        refused=refused,
        seed=seed,
        device=where,
        name=name or robust.info.source,
        argv=list(argv),
    )


def _dataset(dataset: ImageSet | str | None, robust: RobustModel, folder: Path) -> ImageSet:
    if isinstance(dataset, ImageSet):
        return dataset
    name = dataset or robust.info.dataset
    if name is None:
        raise UsageError(
            "the checkpoint does not say which data set it is for", "add --dataset NAME"
        )
    size = robust.input_size[1] if robust.input_size[1] == robust.input_size[2] else None
    return load_dataset(name, "test", data_dir=folder, img_size=size)


def _check_fit(robust: RobustModel, data: ImageSet) -> None:
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
    names = robust.info.class_names
    if names is not None and robust.info.dataset == data.name and names != data.class_names:
        raise IntakeError(
            f"the checkpoint's class names are not those of {data.name}, so labels would be mixed "
            "up",
            "give the data the model was trained on, or a --class-map",
            code="E-CLASS-NAMES",
        )
    if len(data) == 0:
        raise IntakeError(f"{data.name} has no images", "check the data folder")
    if len(set(data.sample_ids)) != len(data):
        raise IntakeError(f"sample ids of {data.name} occur twice", "give every image its own id")


def _subset(data: ImageSet, limit: int | float | None, seed: int) -> torch.Tensor | None:
    """Return which samples to evaluate, rising; None for all of them."""
    if limit is None:
        return None
    share = isinstance(limit, float) and limit < 1
    count = round(limit * len(data)) if share else int(limit)
    if count < 1:
        raise UsageError(f"--limit {limit} leaves no sample", "give at least 1")
    return seeded_subset(seed, data.sample_ids, count)


def _default_limit(planned: Planned) -> int | None:
    return None if planned.preset else DEFAULT_LIMITS.get(planned.suite.name.partition(":")[0])
