"""Where a classifier looks: maps by which patches are hidden in order of their saliency."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports

if TYPE_CHECKING:
    from robustmix.saliency.center import center
    from robustmix.saliency.from_file import SaliencyFile, load_maps, save_maps
    from robustmix.saliency.gradcam import gradcam
    from robustmix.saliency.gradxinput import gradxinput
    from robustmix.saliency.object_regions import Regions, load_regions
    from robustmix.saliency.rollout import attention_rollout, rollout
    from robustmix.saliency.smoothgrad import smoothgrad
    from robustmix.saliency.sources import Explained, saliency_maps

__all__ = [
    "Explained",
    "Regions",
    "SaliencyFile",
    "attention_rollout",
    "center",
    "gradcam",
    "gradxinput",
    "load_maps",
    "load_regions",
    "rollout",
    "saliency_maps",
    "save_maps",
    "smoothgrad",
]
__getattr__ = lazy_exports(
    __name__,
    {
        "Explained": f"{__name__}.explained",
        "Regions": f"{__name__}.regions",
        "SaliencyFile": f"{__name__}.file",
        "attention_rollout": f"{__name__}.rollout",
        "center": f"{__name__}.center",
        "gradcam": f"{__name__}.gradcam",
        "gradxinput": f"{__name__}.gradxinput",
        "load_maps": f"{__name__}.file",
        "load_regions": f"{__name__}.regions",
        "rollout": f"{__name__}.rollout",
        "saliency_maps": f"{__name__}.explained",
        "save_maps": f"{__name__}.file",
        "smoothgrad": f"{__name__}.smoothgrad",
    },
)
