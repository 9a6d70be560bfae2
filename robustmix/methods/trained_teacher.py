"""A trained network that tells a method where to look, loaded from a file and never trained.

AttentiveMix asks it where an image's object is, SuperMix whether a mixture shows both of its
sources.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.methods.method import Setup
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel

CODE = "E-TEACHER"


class Supervisor(nn.Module):
    """A frozen classifier of images that are normalised for another network.

    It has no parameters to train, stays in eval mode, and follows the module it is part of to
    another device. A checkpoint holds its file's digest and not its weights; continuing a run
    with another file is refused.

    Args:
        model: the classifier of pixels.
        mean: what was subtracted from the images it will be given, in [0, 1] pixel units.
        std: what they were divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: RobustModel,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        # Not a submodule: the weights are no part of the method's state, mode or parameters.
        self._held = (model,)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        model.allow_out_of_range = True  # the way through the normalisation rounds
        self.sha256 = model.info.sha256 or ""

    @property
    def model(self) -> RobustModel:
        """The classifier of pixels in [0, 1]."""
        return self._held[0]

    @property
    def network(self) -> nn.Module:
        """The bare network, which wants images as its own training had them."""
        return self.model.net

    def pixels(self, images: Tensor) -> Tensor:
        """Return normalised images (N, 3, H, W) as pixels in [0, 1], up to rounding."""
        return images * self.std + self.mean

    def inputs(self, images: Tensor) -> Tensor:
        """Return normalised images (N, 3, H, W) normalised for ``network`` instead."""
        return (self.pixels(images) - self.model.mean) / self.model.std

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (N, K); a gradient may flow into the images.

        Args:
            images: (N, 3, H, W), normalised as the batches of the run are.
        """
        logits: Tensor = self.model(self.pixels(images))
        return logits

    def get_extra_state(self) -> Tensor:
        """Return the file's SHA-256, uint8 (32,) or empty, for checkpoints."""
        return torch.tensor(list(bytes.fromhex(self.sha256)), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Check that a checkpoint's run had the same teacher.

        Raises:
            IncompatibleError: it had another one.
        """
        was = bytes(state.tolist()).hex()
        if was != self.sha256:
            raise IncompatibleError(
                f"the run to continue had a teacher with SHA-256 {was[:12]}…, "
                f"this one has {self.sha256[:12]}…",
                "give the same file as teacher, or start anew with --resume never",
                code="E-OTHER-TEACHER",
            )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Supervisor":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if recurse:
            self.model._apply(fn)  # type: ignore[no-untyped-call]
        return self


def load_teacher(path: str, setup: Setup) -> Supervisor:
    """Load the trained network of a method that needs one.

    Args:
        path: a checkpoint that training wrote.
        setup: size, classes (0 accepts any number) and normalisation of the images that it will
            be given.

    Raises:
        UsageError: there is no path or no such file, it cannot be read, or was trained for other
            classes or another size of images.
    """
    if not path:
        raise UsageError(
            "this method needs a trained teacher", "give its checkpoint as teacher", code=CODE
        )
    file = Path(path)
    if not file.is_file():
        raise UsageError(f"there is no teacher {path}", "give a checkpoint's path", code=CODE)
    try:
        model = load_model(file)
    except IntakeError as error:
        raise UsageError(
            f"teacher {file.name}: {error.message}",
            "give a checkpoint that training wrote",
            code=CODE,
        ) from error
    if setup.num_classes not in (0, model.num_classes):
        raise UsageError(
            f"teacher {file.name} has {model.num_classes} classes, the data {setup.num_classes}",
            "give one that was trained on the same data",
            code=CODE,
        )
    if model.input_size != setup.input_size:
        has, want = ("x".join(map(str, size[1:])) for size in (model.input_size, setup.input_size))
        raise UsageError(
            f"teacher {file.name} takes images of {has}, the data has {want}",
            "give one that was trained at the same size",
            code=CODE,
        )
    return Supervisor(model, mean=setup.mean, std=setup.std)
