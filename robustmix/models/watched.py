"""A model that checks the pixels it is given without waiting for its device."""

import torch
from torch import Tensor

from robustmix.models.robust_model import RobustModel, refuse_out_of_range

TOGETHER = 256
"""Calls whose ranges are kept apart; an attack makes thousands before anybody looks."""


class WatchedModel:
    """A ``RobustModel`` whose refusals of pixels outside [0, 1] come when they are asked for.

    A model that is called by itself reads the range of its pixels at every call, and a GPU then
    stands still until the host has read it. Here the ranges stay where the pixels are, and
    ``judge`` reads them all at once. Whatever else a model refuses is refused at the call.

    Args:
        robust: the model; the network's modules are those that it has now.
    """

    def __init__(self, robust: RobustModel) -> None:
        self._robust = robust
        self._modules = tuple(robust.modules())
        self._seen: list[Tensor] = []

    def __call__(self, images: Tensor) -> Tensor:
        """Return logits, float32 (N, K), of images (N, 3, H, W) that are judged later.

        Raises:
            RuntimeError: some module is in train mode.
            ValueError: the images' type or size is not the stated one.
            IntakeError: the network does not return one logit a class.
        """
        robust = self._robust
        robust.check_mode(self._modules)
        robust.check_form(images)
        if len(images) and not robust.allow_out_of_range:
            self._seen += images.detach().aminmax()
            if len(self._seen) >= 2 * TOGETHER:
                self._seen = [*torch.stack(self._seen).aminmax()]
        return robust.logits(images)

    def judge(self) -> None:
        """Look at the pixels of all calls since this was last asked; the device is waited for.

        Raises:
            ValueError: some were outside [0, 1]; the error of ``RobustModel``.
        """
        seen, self._seen = self._seen, []
        if seen:
            refuse_out_of_range(*torch.stack(seen).aminmax())
