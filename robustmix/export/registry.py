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
    """What its file names end with."""


EXPORTS: "Table[Writer, ExportRow]" = Table(
    "export",
    ExportRow,
    {
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
