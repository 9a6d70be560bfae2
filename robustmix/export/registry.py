"""The one table of the formats that models are exported to, known without torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.export.exported import Writer


@dataclass(frozen=True)
class ExportRow(Row):
    """One format."""

    suffix: str = ".pth"
    """What its file names end with; a folder's with nothing."""

    normalises: bool = False
    """Whether the normalisation can be inside what is written."""

    options: tuple[str, ...] = ()
    """What the format alone can be told."""


EXPORTS: "Table[Writer, ExportRow]" = Table(
    "export",
    ExportRow,
    {
        "safetensors": ExportRow(
            "robustmix.export.weights:safetensors",
            "the weights, with a header that says of what network",
            suffix=".safetensors",
        ),
        "timm": ExportRow(
            "robustmix.export.weights:timm",
            "a folder that timm takes as local-dir:PATH: config.json and the weights",
            suffix="",
        ),
        "hf": ExportRow(
            "robustmix.export.hugging_face:hf",
            "a folder for the Hugging Face hub: weights, config.json as timm reads it, model card",
            suffix="",
            options=("report", "license", "push", "private"),
        ),
        "onnx": ExportRow(
            "robustmix.export.programs:onnx",
            "the whole classifier for ONNX Runtime, for batches of any size",
            suffix=".onnx",
            normalises=True,
        ),
        "torchscript": ExportRow(
            "robustmix.export.programs:torchscript",
            "the whole classifier as a traced TorchScript program",
            suffix=".ts",
            normalises=True,
        ),
        "detectron2": ExportRow(
            "robustmix.export.detection:detectron2",
            "backbone of a ResNet for Detectron2, which takes it as MODEL.WEIGHTS",
            suffix=".pkl",
        ),
        "torchvision-detection": ExportRow(
            "robustmix.export.detection:torchvision_detection",
            "backbone of a ResNet for torchvision's Faster R-CNN and its like",
        ),
        "mmdet": ExportRow(
            "robustmix.export.detection:mmdet",
            "backbone of a ResNet for MMDetection, which takes it in init_cfg",
        ),
    },
)
"""Formats by name: (model, path) -> what was written."""
