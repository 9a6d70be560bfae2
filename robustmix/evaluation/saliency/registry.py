"""The one table of saliency sources."""

from robustmix.evaluation.saliency.center import center
from robustmix.evaluation.saliency.explained import Source
from robustmix.evaluation.saliency.file import file
from robustmix.evaluation.saliency.gradcam import gradcam
from robustmix.evaluation.saliency.gradxinput import gradxinput
from robustmix.evaluation.saliency.rollout import rollout
from robustmix.evaluation.saliency.smoothgrad import smoothgrad

SOURCES: dict[str, Source] = {
    "gradxinput": gradxinput,
    "smoothgrad": smoothgrad,
    "gradcam": gradcam,
    "rollout": rollout,
    "center": center,
    "file": file,
}
"""Described in ``robustmix.evaluation.saliency.names``."""

OF_THE_MODEL = ("gradxinput", "smoothgrad", "gradcam", "rollout")
"""Sources that ask the evaluated model: a curve by one of them judges its saliency as well."""
