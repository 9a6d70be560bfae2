"""What the training methods are called and cost; no torch here, so that listing is instant."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodInfo:
    """One line of the list of methods."""

    summary: str
    """What the method does, in one line."""

    paper: str
    """Where it was published; empty for plain training."""

    status: Literal["verified", "untested"]
    """``verified`` once its arithmetic equals vectors made with the official code."""

    cost: float
    """One training step in forward passes of the backbone; a full backward pass counts two."""


METHOD_INFO: dict[str, MethodInfo] = {
    "vanilla": MethodInfo(
        summary="cross-entropy on the images as they are", paper="", status="verified", cost=3
    ),
    "mixup": MethodInfo(
        summary="blend each image with a random partner, and their labels likewise",
        paper="Zhang et al. 2018, arXiv:1710.09412",
        status="verified",
        cost=3,
    ),
    "cutmix": MethodInfo(
        summary="paste a random box of a partner; labels are weighted by area",
        paper="Yun et al. 2019, arXiv:1905.04899",
        status="verified",
        cost=3,
    ),
}
"""Every training method by the name that recipes and ``--method`` use."""
