"""The passes of suite ``occlusion``: which patches are hidden, in which order, and by what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robustmix.data.content import pixels_sha256
from robustmix.evaluation.params import unrecorded
from robustmix.evaluation.patches import (
    filling,
    foreground,
    patch_pixels,
    patch_scores,
    patch_size,
    patch_sums,
    random_ranks,
    scope_ids,
    score_ranks,
)
from robustmix.evaluation.suite import (
    Batch,
    Columns,
    Context,
    Part,
)
from robustmix.evaluation.suites.occlusion_rows import (
    ALL,
    NONE,
    RANDOM,
    RANKED,
    REGIONAL,
    PreparedOcclusion,
)
from robustmix.later import Tensor, torch
from robustmix.rng import sample_keys
from robustmix.saliency.from_file import SaliencyFile
from robustmix.saliency.object_regions import Regions, load_regions
from robustmix.saliency.registry import SALIENCY
from robustmix.saliency.sources import Explained, saliency_maps


@dataclass(frozen=True, kw_only=True)
class OpenedOcclusion(PreparedOcclusion):
    """The suite with the files that its orders come from."""

    maps: SaliencyFile | None = unrecorded()
    """Saliency by sample id; None where no file was given."""

    boxes_path: Path | None = unrecorded()
    """Where the objects are said to be; read once the evaluated images are known."""

    def parts(self, context: Context) -> list[Part]:
        """List one pass an order and trial over all ratios, and those for the curves' ends.

        Orders that are not random have one trial.

        Raises:
            IntakeError: a file is damaged, or lacks one of the evaluated images.
        """
        if self.maps is not None:
            self.maps.check(context.data.sample_ids)
            if self.maps.record is not None:
                self.maps.check_content(context.data.order_sha256, pixels_sha256(context.data))
        regions = None if self.boxes_path is None else load_regions(self.boxes_path, context.data)
        orders = _Orders(self, context, regions)
        parts = []
        for modes in self.groups:
            conditions = tuple(name for mode in modes for name in self.inside(mode))
            if not conditions:
                continue
            ranked, name = modes[0] in RANKED, "-".join(modes)
            for trial in range(1 if ranked else self.trials):
                compute = partial(self._masked, context, orders, modes, trial)
                parts.append(Part(name, conditions, compute, trial, ranked))
        parts.append(Part(NONE, (NONE,), partial(self._end, context, NONE, 0), all_trials=True))
        if self.hides_all:
            once = self.fill != "noise"
            for trial in range(1 if once else self.trials):
                compute = partial(self._end, context, ALL, trial)
                parts.append(Part(ALL, (ALL,), compute, trial, once))
        return parts

    def _end(
        self, context: Context, condition: str, trial: int, batch: Batch
    ) -> Mapping[str, Columns]:
        images = batch.pixels()
        shape = (len(images), self.patches)
        hidden = torch.full(shape, condition == ALL, device=images.device)
        show = self._filling(context, images, trial, batch)
        return {condition: {"logits": self._logits(context, images, show, hidden)}}

    def _masked(
        self,
        context: Context,
        orders: "_Orders",
        modes: tuple[str, ...],
        trial: int,
        batch: Batch,
    ) -> Mapping[str, Columns]:
        images = batch.pixels()
        show = self._filling(context, images, trial, batch)
        return {
            name: {"logits": self._logits(context, images, show, hidden(amount))}
            for mode, hidden in orders.hidden(modes, images, trial, batch).items()
            for name, amount in self.inside(mode).items()
        }

    def _logits(self, context: Context, images: Tensor, show: Tensor, hidden: Tensor) -> Tensor:
        size = (images.shape[2], images.shape[3])
        pixels = patch_pixels(hidden, size, self.grid, self.offset)
        with context.scoring():
            return context.model(torch.where(pixels, show, images))

    def _filling(self, context: Context, images: Tensor, trial: int, batch: Batch) -> Tensor:
        return filling(
            images,
            self.fill,
            mean=context.robust.mean.flatten().tolist(),
            std=context.robust.std.flatten().tolist(),
            patch=patch_size((images.shape[2], images.shape[3]), self.grid),
            keys=sample_keys(context.seed, "occlusion", "noise", trial, batch.sample_ids),
        )


@dataclass(frozen=True)
class _Orders:
    """In which order the patches of a batch are hidden."""

    suite: OpenedOcclusion
    context: Context
    regions: Regions | None

    def hidden(
        self, modes: tuple[str, ...], images: Tensor, trial: int, batch: Batch
    ) -> dict[str, Callable[[Any], Tensor]]:
        """Give of each mode of a group which patches it hides, bool (n, patches), of an amount.

        That is a number of patches, or a share of the saliency where the mode goes by that.
        """
        if self.suite.by_mass(modes[0]):
            maps = self._clean_maps(images, batch)
            sums = patch_sums(maps, self.suite.grid, self.suite.offset)
            both: dict[str, Callable[[Any], Tensor]] = {
                "salient": lambda share: foreground(sums, share),
                "nonsalient": lambda share: ~foreground(sums, share),
            }
            return {mode: both[mode] for mode in modes}
        ranks = self._ranks(modes, images, trial, batch)
        return {mode: partial(_first, ranked) for mode, ranked in ranks.items()}

    def _ranks(
        self, modes: tuple[str, ...], images: Tensor, trial: int, batch: Batch
    ) -> dict[str, Tensor]:
        """Give the ranking of each mode of a group, int64 (n, patches)."""
        grid, device = self.suite.grid, images.device
        ids = scope_ids(self.suite.mask_scope, batch.indices, batch.sample_ids)
        scope = f"{modes[0]}/{grid[0]}x{grid[1]}"
        keys = sample_keys(self.context.seed, "occlusion", scope, trial, ids).to(device)
        if modes == RANDOM:
            return {"random": random_ranks(keys, self.suite.patches)}
        if modes[0] in RANKED:
            maps, ties = self._clean_maps(images, batch), None
        else:
            assert self.regions is not None, "these modes have a file of boxes"
            size = (images.shape[2], images.shape[3])
            maps, ties = self.regions.take(batch.sample_ids, size).to(device), keys
        scores = patch_scores(maps, grid, self.suite.offset)
        first = (RANKED[0], REGIONAL[0])
        return {mode: score_ranks(scores, largest_first=mode in first, ties=ties) for mode in modes}

    def _clean_maps(self, images: Tensor, batch: Batch) -> Tensor:
        ranked = self.suite.saliency
        assert ranked is not None, "these modes have a source"
        explained = Explained(
            robust=self.context.robust,
            model=self.context.model,
            images=images,
            labels=batch.labels if ranked.explained == "label" else None,
            sample_ids=batch.sample_ids,
            seed=self.context.seed,
            maps=self.suite.maps,
        )
        return saliency_maps(SALIENCY[ranked.source], explained)


def _first(ranks: Tensor, count: int) -> Tensor:
    return ranks < count
