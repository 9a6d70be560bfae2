"""AttentiveMix(+): keep the cells of an image that a trained network looks at.

Method card
    Paper: Walawalkar et al. 2020, "Attentive CutMix: An Enhanced Data Augmentation Approach for
        Deep Learning Based Image Classification", arXiv:2003.13048, section 2.2.
    Does: the last map of a trained network (option teacher), averaged over channels, ranks the
        cells of each image; lam ~ Beta(alpha, alpha) of them, at least one, are kept at the top of
        the ranking, the rest shows the partner; the label weight is the share of cells kept.
    Cost: 4 forward passes a step, one of them by the teacher, counted as if it were as large as the
        network.
    Deviations: the number of cells follows lam, as in OpenMixup's "AttentiveMix+"; the paper keeps
        six (top_k = 6), of the image that is pasted, which here is the one called own. As in both,
        a network trained on ImageNet (the paper's is ResNet-50) can look at the images enlarged to
        its 224 pixels (teacher = "torchvision:resnet50@IMAGENET1K_V1"): it then sees them in its
        own normalisation, in OpenMixup in the data set's. A checkpoint has to be trained on images
        of the same size. OpenMixup takes as label weight the share of pixels that the first image
        keeps, which is that of cells where the grid divides the image. An image may be its own
        partner.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.data.loader import Batch
from robustmix.methods.method import Mixed, Setup, require
from robustmix.methods.mixing import (
    Blend,
    blend_pairs,
    check_alpha,
    given,
    image_size,
)
from robustmix.methods.pair_mixing import PairMixing
from robustmix.methods.trained_teacher import load_teacher
from robustmix.upload import uploaded


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentiveMixConfig:
    """How much is kept, and who says what."""

    alpha: float = 2.0
    """Both parameters of the Beta distribution of lam; 2 is the benchmark's value."""

    top_k: int = 0
    """Cells to keep whatever lam is; 0 lets lam decide."""

    teacher: str = ""
    """Checkpoint of the trained network, or published weights such as
    ``torchvision:resnet50@IMAGENET1K_V1``; there is no default."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        require(self.top_k >= 0, "top_k >= 0", self.top_k)

    def without_effect(self) -> dict[str, str]:
        """Return the options that do nothing under the others, with the reason."""
        return {"alpha": "top_k says how many cells are kept"} if self.top_k else {}


class AttentiveMixDraws(NamedTuple):
    """Everything random in the mixing of one batch."""

    lam: float
    """Share of cells to keep before it is rounded down, in [0, 1]."""

    perm: Tensor
    """int64 (N,), whom each image's other cells show."""


def draw_attentivemix(n: int, alpha: float, rng: np.random.Generator) -> AttentiveMixDraws:
    """Draw lam ~ Beta(alpha, alpha), then a uniform permutation of ``n`` images."""
    lam = float(rng.beta(alpha, alpha))
    return AttentiveMixDraws(lam=lam, perm=torch.from_numpy(rng.permutation(n)))


def attentivemix(
    images: Tensor, draws: AttentiveMixDraws, features: Tensor, *, top_k: int = 0
) -> Mixed:
    """Keep each image's most attended cells and show its partner elsewhere.

    Args:
        images: (N, C, H, W).
        draws: one share for the batch, one partner an image.
        features: the trained network's map of the unmixed images, (N, F, h, w).
        top_k: cells to keep; 0 keeps int(lam h w), at least one.

    Returns:
        The mixed images, and the share of cells kept as lam.

    Reference:
        Walawalkar et al. 2020, arXiv:2003.13048, equations 1 and 2.
    """
    cells = features.shape[2] * features.shape[3]
    cells_draws = cells_of(draws, cells, top_k=top_k)
    mixed = keep_cells(images, uploaded(cells_draws, images.device), features)
    return Mixed(mixed, cells_draws.own)


class CellsDraws(NamedTuple):
    """How much is kept, as the device is told."""

    kept: int
    """Cells of each image that are kept."""

    own: float
    """Their share, in (0, 1]."""

    perm: Tensor
    """int64 (N,), whom each image's other cells show."""

    traced_kept: Tensor
    """``kept`` as an int64 tensor without axes, for a trace that serves all."""


def cells_of(draws: AttentiveMixDraws, cells: int, *, top_k: int = 0) -> CellsDraws:
    """Return how many of so many cells are kept."""
    kept = min(max(top_k or int(cells * draws.lam), 1), cells)
    return CellsDraws(kept, kept / cells, draws.perm, torch.tensor(kept))


def keep_cells(images: Tensor, draws: CellsDraws, features: Tensor) -> Tensor:
    """Do what ``attentivemix`` does, all on one device."""
    attention = features.mean(dim=1)
    n, rows, cols = attention.shape
    mask = _best(attention.flatten(1), draws)
    own = F.interpolate(mask.view(n, 1, rows, cols), size=images.shape[2:], mode="nearest") > 0
    return torch.where(own, images, images[draws.perm])


def _best(attention: Tensor, draws: CellsDraws) -> Tensor:
    """Return 1 for the cells that are kept and 0 for others, float32 (N, cells).

    Of cells that are attended alike torch's ``topk`` keeps any, a trace keeps the first.
    """
    mask = torch.zeros(attention.shape, device=attention.device)
    if not torch.compiler.is_compiling():
        return mask.scatter_(1, attention.topk(draws.kept, dim=1).indices, 1.0)
    order = attention.argsort(dim=1, descending=True, stable=True)
    kept = torch.arange(attention.shape[1], device=attention.device) < draws.traced_kept
    return mask.scatter_(1, order, kept.float().expand_as(mask))


class AttentiveMix(PairMixing):
    """One network trained on batches whose attended cells another network chose.

    Raises:
        UsageError: there is no teacher, or it cannot be had, or has no map to look at.
    """

    config: AttentiveMixConfig

    def __init__(self, network: nn.Module, config: AttentiveMixConfig, setup: Setup) -> None:
        super().__init__(network, config, setup)
        # Only its map is wanted, so it may have been trained for any number of classes.
        self.teacher = load_teacher(config.teacher, replace(setup, num_classes=0))
        self.teacher.check_map()
        self.cells: dict[tuple[int, int], int] = {}
        self._count_cells(torch.zeros(1, *setup.input_size))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return the teacher's last map of normalised images, (N, F, h, w)."""
        return self.teacher.last_map(images)

    def draw(
        self, batch: Batch, *, lam: float | None = None, perm: Tensor | None = None
    ) -> CellsDraws:
        """Draw how many cells are kept, and the partners."""
        draws = draw_attentivemix(len(batch.images), self.config.alpha, self.rng)
        draws = draws._replace(**given(lam=lam, perm=perm))
        return cells_of(draws, self._count_cells(batch.images), top_k=self.config.top_k)

    def blend(self, batch: Batch, draws: CellsDraws) -> Blend:
        """Keep the attended cells of every image."""
        images = keep_cells(batch.images, draws, self.features(batch.images))
        return blend_pairs(images, draws.perm, draws.own)

    def _count_cells(self, images: Tensor) -> int:
        """Return how many cells the map of such images has; the teacher is asked once a size."""
        size = image_size(images)
        if size not in self.cells:
            self.cells[size] = self.features(images[:1])[0, 0].numel()
        return self.cells[size]
