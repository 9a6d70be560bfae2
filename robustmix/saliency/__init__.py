"""Where a classifier looks: maps by which patches are hidden in order of their saliency."""

from typing import TYPE_CHECKING

from robustmix._lazy import lazy_exports_of

if TYPE_CHECKING:
    from robustmix.saliency.attention import attention as attention
    from robustmix.saliency.attention import class_attention as class_attention
    from robustmix.saliency.cam import ClassMaps as ClassMaps
    from robustmix.saliency.from_file import SaliencyFile as SaliencyFile
    from robustmix.saliency.from_file import load_maps as load_maps
    from robustmix.saliency.from_file import save_maps as save_maps
    from robustmix.saliency.gradcam import gradcam as gradcam
    from robustmix.saliency.level_contours import LevelContours as LevelContours
    from robustmix.saliency.level_contours import level_contours as level_contours
    from robustmix.saliency.object_regions import Regions as Regions
    from robustmix.saliency.object_regions import load_regions as load_regions
    from robustmix.saliency.registry import SALIENCY as SALIENCY
    from robustmix.saliency.rollout import attention_rollout as attention_rollout
    from robustmix.saliency.rollout import rollout as rollout
    from robustmix.saliency.sources import Explained as Explained
    from robustmix.saliency.sources import center as center
    from robustmix.saliency.sources import gradxinput as gradxinput
    from robustmix.saliency.sources import saliency_maps as saliency_maps
    from robustmix.saliency.sources import smoothgrad as smoothgrad
    from robustmix.saliency.true_boxes import TrueBoxes as TrueBoxes
    from robustmix.saliency.true_boxes import load_true_boxes as load_true_boxes
    from robustmix.saliency.true_masks import TrueMasks as TrueMasks
    from robustmix.saliency.true_masks import load_true_masks as load_true_masks

__getattr__, __dir__, __all__ = lazy_exports_of(__name__)
