"""The one table of saliency sources."""

from robustmix.saliency.center import center
from robustmix.saliency.from_file import file
from robustmix.saliency.gradcam import gradcam
from robustmix.saliency.gradxinput import gradxinput
from robustmix.saliency.rollout import rollout
from robustmix.saliency.smoothgrad import smoothgrad
from robustmix.saliency.sources import Source

SOURCES: dict[str, Source] = {
    "gradxinput": gradxinput,
    "smoothgrad": smoothgrad,
    "gradcam": gradcam,
    "rollout": rollout,
    "center": center,
    "file": file,
}
"""Described in ``robustmix.saliency.names``."""

OF_THE_MODEL = ("gradxinput", "smoothgrad", "gradcam", "rollout")
"""Sources that ask the evaluated model: a curve by one of them judges its saliency as well."""
