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
    "automix": MethodInfo(
        summary="mix pairs by masks that a generator learns from the teacher's features",
        paper="Liu et al. 2022, arXiv:2103.13027",
        status="verified",
        cost=9,
    ),
    "samix": MethodInfo(
        summary="AutoMix with another generator, bilinear masks and a variance loss",
        paper="Li et al. 2021, arXiv:2111.15454",
        status="verified",
        cost=9,
    ),
    "adautomix": MethodInfo(
        summary="mix three images by masks of a generator that is also trained against the teacher",
        paper="Qin et al. 2024, arXiv:2312.11954",
        status="verified",
        cost=12,
    ),
}
"""Every training method by the name that recipes and ``--method`` use."""
