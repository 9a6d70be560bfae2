"""A caller's own network as a model: what it does not say, timm or the images may."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from robustmix.data.datasets import require_known
from robustmix.data.hf import HF
from robustmix.data.images import ImageSet
from robustmix.data.manifests import DATASETS, load_manifest
from robustmix.data.torch_sets import first_size, is_torch_data, refuse_others
from robustmix.errors import IntakeError, UsageError
from robustmix.models.load import load_model
from robustmix.models.outputs import config_of
from robustmix.models.registry import Size
from robustmix.models.robust_model import RobustModel

ASSUMED = (
    "W-NORM-ASSUMED: nothing says how the network normalises its images: it gets pixels in [0, 1], "
    "as ToTensor gives them; if it was trained on others, pass mean and std"
)
"""Note of a model whose normalisation nobody stated."""


def loaded(
    model: RobustModel | nn.Module | Path | str, images: object, told: Mapping[str, Any]
) -> RobustModel:
    """Load a model for an evaluation.

    Args:
        model: what ``evaluate`` takes.
        images: what it is evaluated on.
        told: arguments of ``load_model`` that the caller gave.

    Raises:
        UsageError: the model was loaded already and something is told of it.
        IntakeError: see ``load_model``.
    """
    if isinstance(model, RobustModel):
        if told:
            raise UsageError(
                f"{' and '.join(told)} of a model that was loaded already",
                "pass it to load_model",
                code="E-UNUSED-OPTION",
            )
        return model
    if isinstance(images, nn.Module):
        refuse_others(images)
    if not isinstance(model, nn.Module):
        return load_model(model, **told)
    _refuse_no_images(images)
    config = config_of(model)
    size = _size_of(images) or config.get("input_size")
    if size is None:
        raise IntakeError(
            f"{type(model).__name__} does not say its image size, nor do the images",
            "load it first: robustmix.load_model(net, input_size=(3, H, W), mean=..., std=...)",
            code="E-INPUT-SIZE",
        )
    norm = {name: config[name] for name in ("mean", "std") if name in config}
    if not {"mean", "std"} & told.keys() and len(norm) == 2:
        told = {**told, **norm}
    assumed = not {"mean", "std"} & told.keys()
    if assumed:
        told = {**told, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    robust = load_model(model, input_size=cast("Size | None", size), **told)
    if assumed:
        robust.info = replace(robust.info, notes=(*robust.info.notes, ASSUMED))
    return robust


def _refuse_no_images(images: object) -> None:
    """Refuse what cannot be evaluated on, before anything is missed that images tell."""
    if isinstance(images, str) and not images.startswith(HF):
        require_known(images)
    elif images is not None and not isinstance(images, ImageSet | str):
        refuse_others(images)


def _size_of(images: object) -> Size | None:
    """Tell the size (3, H, W) of the images, where all have one that can be told at once."""
    if isinstance(images, ImageSet):
        return cast(Size, tuple(images.pixels.size))
    if isinstance(images, str) and images in DATASETS:
        side = load_manifest(images).image_size
        return None if side is None else (3, *side)
    return first_size(images) if is_torch_data(images) else None
