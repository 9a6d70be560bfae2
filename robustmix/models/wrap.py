"""Wrap a network as a ``RobustModel``, once it is known what it takes and gives."""

from dataclasses import replace
from pathlib import Path

from torch import nn

from robustmix.errors import IntakeError
from robustmix.files import hash_json
from robustmix.models.class_map import MOST_CLASSES, read_class_map
from robustmix.models.layouts import Norm
from robustmix.models.names import NORM_PRESETS
from robustmix.models.registry import Size
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.models.wanted import Wanted


def wrapped(
    net: nn.Module,
    info: ModelInfo,
    wanted: Wanted,
    input_size: Size,
    norm: Norm | None,
    outputs: int,
) -> RobustModel:
    """Return the wrapped network; what the caller says overrides what the source says.

    Args:
        net: it takes normalised images (N, 3, H, W).
        info: where it comes from.
        wanted: what the caller says.
        input_size: (3, H, W) of the images, by the source.
        norm: mean and std in [0, 1] pixel units, by the source; None where it says nothing.
        outputs: number of its logits.

    Raises:
        IntakeError: the normalisation is not known, the class map does not fit, or the number of
            classes is another one.
    """
    mean_std = wanted.norm or norm
    if mean_std is None:
        raise IntakeError(
            f"the normalisation of {info.source} is unknown",
            "pass --norm-preset " + "|".join(NORM_PRESETS) + ", or --mean and --std",
            code="E-NO-NORM",
        )
    labels, num_classes = _class_map(wanted, outputs)
    if labels is None and wanted.num_classes not in (None, outputs):
        raise IntakeError(
            f"{info.source} has {outputs} classes, expected {wanted.num_classes}",
            "choose the data set it was trained on, or pass --class-map",
            code="E-CLASSES",
        )
    if labels is not None:
        info = replace(info, class_map_sha256=hash_json(labels))
    try:
        return RobustModel(
            net,
            mean=mean_std[0],
            std=mean_std[1],
            num_classes=num_classes,
            input_size=wanted.input_size or input_size,
            class_map=labels,
            resize=wanted.resize,
            info=info,
            temperature=None if info.calibration is None else info.calibration["T"],
        )
    except ValueError as error:
        raise IntakeError(f"{info.source}: {error}", code="E-MODEL") from error


def _class_map(wanted: Wanted, outputs: int) -> tuple[list[int] | None, int]:
    """Return the label of each output and the number of labels."""
    if wanted.class_map is None:
        return None, outputs
    if isinstance(wanted.class_map, Path):
        labels = list(read_class_map(wanted.class_map, wanted.class_names))
    else:
        labels = [int(label) for label in wanted.class_map]
    if any(label >= MOST_CLASSES for label in labels):
        raise IntakeError("the class map has a label above a million", code="E-CLASS-MAP")
    if len(labels) > outputs:
        raise IntakeError(
            f"the class map has {len(labels)} entries for {outputs} model outputs",
            "use the map that belongs to this model",
            code="E-CLASS-MAP",
        )
    labels += [-1] * (outputs - len(labels))
    return labels, wanted.num_classes or max(labels) + 1


def parameter_count(net: nn.Module) -> int:
    """Count the numbers in the parameters of a network."""
    return sum(p.numel() for p in net.parameters())
