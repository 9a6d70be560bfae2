"""The one table of saliency sources, known without torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.saliency.sources import Source


@dataclass(frozen=True)
class SaliencyRow(Row):
    """One source of saliency maps."""

    of_the_model: bool = True
    """Whether it asks the evaluated model: a curve by it then judges the model's saliency too."""


SALIENCY: "Table[Source, SaliencyRow]" = Table(
    "saliency",
    SaliencyRow,
    {
        "gradxinput": SaliencyRow(
            "robustmix.saliency.sources:gradxinput",
            "|pixel x gradient of the class score|, summed over channels",
        ),
        "smoothgrad": SaliencyRow(
            "robustmix.saliency.sources:smoothgrad",
            "|mean gradient of 16 noisy copies|, summed over channels",
        ),
        "gradcam": SaliencyRow(
            "robustmix.saliency.gradcam:gradcam",
            "Grad-CAM of the last stage of a convolutional network",
        ),
        "rollout": SaliencyRow(
            "robustmix.saliency.rollout:rollout", "attention rollout of a ViT of timm"
        ),
        "attention": SaliencyRow(
            "robustmix.saliency.attention:attention",
            "attention of a ViT's class token in the last block, mean of the heads",
        ),
        "center": SaliencyRow(
            "robustmix.saliency.sources:center",
            "nearness to the centre of the image; asks no model",
            of_the_model=False,
        ),
        "file": SaliencyRow(
            "robustmix.saliency.sources:file",
            "maps by sample id from an npz, made elsewhere; the only source to compare models by",
            of_the_model=False,
        ),
    },
    plural="saliency",
)
"""Sources by name: what is explained -> maps (N, H, W)."""

LABELS: tuple[str, ...] = ("prediction", "label")
"""Which class a source explains: the model's answer, or the true one."""
