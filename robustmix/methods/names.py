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
    "manifoldmix": MethodInfo(
        summary="blend pairs in the pixels or after one of the first stages",
        paper="Verma et al. 2019, arXiv:1806.05236",
        status="untested",
        cost=3,
    ),
    "saliencymix": MethodInfo(
        summary="CutMix with the box at the partner's most salient place",
        paper="Uddin et al. 2021, arXiv:2006.01791",
        status="verified",
        cost=3,
    ),
    "fmix": MethodInfo(
        summary="show a pair through a random shape cut from smooth noise",
        paper="Harris et al. 2020, arXiv:2002.12047",
        status="verified",
        cost=3,
    ),
    "resizemix": MethodInfo(
        summary="shrink the whole partner into a box of the image",
        paper="Qin et al. 2020, arXiv:2012.11101",
        status="verified",
        cost=3,
    ),
    "gridmix": MethodInfo(
        summary="show the partner through a grid of rectangles",
        paper="Baek et al. 2021",
        status="verified",
        cost=3,
    ),
    "smoothmix": MethodInfo(
        summary="fade the partner in through a soft round mask",
        paper="Lee et al. 2020",
        status="verified",
        cost=3,
    ),
    "attentivemix": MethodInfo(
        summary="keep the cells that a trained teacher looks at; needs --teacher",
        paper="Walawalkar et al. 2020, arXiv:2003.13048",
        status="verified",
        cost=4,
    ),
    "puzzlemix": MethodInfo(
        summary="keep what is salient of a pair by a graph cut, and move blocks to show more",
        paper="Kim et al. 2020, arXiv:2009.06962",
        status="verified",
        cost=5,
    ),
    "co-mixup": MethodInfo(
        summary="mix many images into many, each salient and all of them different",
        paper="Kim et al. 2021, arXiv:2102.03065",
        status="untested",
        cost=6,
    ),
    "supermix": MethodInfo(
        summary="find masks by which a trained network sees every image of a mixture",
        paper="Dabouei et al. 2021, arXiv:2003.05034",
        status="untested",
        cost=105,
    ),
    "alignmix": MethodInfo(
        summary="match the last maps of a pair by optimal transport, then blend them",
        paper="Venkataramanan et al. 2022, arXiv:2103.15375",
        status="verified",
        cost=3,
    ),
    "transmix": MethodInfo(
        summary="MixUp or CutMix with labels by a transformer's own attention",
        paper="Chen et al. 2022, arXiv:2111.09833",
        status="verified",
        cost=3,
    ),
    "snapmix": MethodInfo(
        summary="paste a box of another size; labels by class activation maps",
        paper="Huang et al. 2021, arXiv:2012.04846",
        status="verified",
        cost=4,
    ),
    "augmix": MethodInfo(
        summary="one answer to an image and two mixtures of its augmentations",
        paper="Hendrycks et al. 2020, arXiv:1912.02781",
        status="untested",
        cost=9,
    ),
    "deit": MethodInfo(
        summary="MixUp (alpha 0.8) or CutMix (alpha 1), one of them at every step",
        paper="Touvron et al. 2021, arXiv:2012.12877",
        status="verified",
        cost=3,
    ),
    "rsb": MethodInfo(
        summary="MixUp (alpha 0.1) or CutMix (alpha 1), with binary cross-entropy",
        paper="Wightman et al. 2021, arXiv:2110.00476",
        status="untested",
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
