"""A trained network that tells a method where to look, loaded once and never trained.

AttentiveMix asks it where an image's object is, SuperMix whether a mixture shows both of its
sources.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.files import expanded
from robustmix.methods.method import Setup
from robustmix.methods.mixing import last_map, require_last_map
from robustmix.models.checks import state_hash
from robustmix.models.hub import HUB
from robustmix.models.load import load_model
from robustmix.models.robust_model import RobustModel

CODE = "E-TEACHER"


class Supervisor(nn.Module):
    """A frozen classifier of images that are normalised for another network.

    It has no parameters to train, stays in eval mode, and follows the module it is part of to
    another device. A checkpoint holds its digest and not its weights; continuing a run with
    another one is refused.

    Args:
        model: the classifier of pixels.
        mean: what was subtracted from the images it will be given, in [0, 1] pixel units.
        std: what they were divided by.
        size: height and width to which images are brought for it; None leaves them as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: RobustModel,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.size = size
        # Not a submodule: the weights are no part of the method's state, mode or parameters.
        self._held = (model,)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        model.allow_out_of_range = True  # the way through the normalisation rounds
        self.sha256 = model.info.sha256 or state_hash(model)

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
        pixels = images * self.std + self.mean
        if self.size in (None, tuple(images.shape[2:])):
            return pixels
        return F.interpolate(pixels, self.size, mode="bilinear", align_corners=False)

    def inputs(self, images: Tensor) -> Tensor:
        """Return normalised images (N, 3, H, W) normalised for ``network`` instead."""
        return (self.pixels(images) - self.model.mean) / self.model.std

    def check_map(self) -> None:
        """Raise UsageError unless the network ends in a map."""
        if not _is_torchvisions(self.network):
            require_last_map(self.network, self.model.input_size, "the teacher")

    def last_map(self, images: Tensor) -> Tensor:
        """Return the map that the network ends in for normalised images, (N, F, h, w)."""
        inputs = self.inputs(images)
        if not _is_torchvisions(self.network):
            return last_map(self.network, inputs)
        net = cast(Any, self.network)
        maps: Tensor = net.maxpool(net.relu(net.bn1(net.conv1(inputs))))
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            maps = stage(maps)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (N, K); a gradient may flow into the images.

        Args:
            images: (N, 3, H, W), normalised as the batches of the run are.
        """
        logits: Tensor = self.model(self.pixels(images))
        return logits

    def get_extra_state(self) -> Tensor:
        """Return the SHA-256 of the file or the published weights, uint8 (32,), for checkpoints."""
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


def load_teacher(source: str, setup: Setup) -> Supervisor:
    """Load the trained network of a method that needs one.

    Args:
        source: a checkpoint that training wrote, or published weights: ``torchvision:NAME@TAG``,
            ``timm:NAME@TAG`` or ``hf-hub:OWNER/NAME``, which are shown images in the size that they
            were trained on.
        setup: size, classes (0 accepts any number) and normalisation of the images that it will
            be given, and whether weights may be fetched.

    Raises:
        UsageError: there is no source or no such file or weights, it cannot be read, or was trained
            for other classes or, if a checkpoint, another size of images.
        IntakeError: published weights are not in the local cache and must not be fetched, or could
            not.
    """
    if not source:
        raise UsageError(
            "this method needs a trained teacher", "give its checkpoint as --teacher", code=CODE
        )
    if is_published(source):
        return _published(source, setup)
    file = expanded(source)
    if not file.is_file():
        raise UsageError(f"there is no teacher {source}", "give a checkpoint's path", code=CODE)
    try:
        model = load_model(file)
    except IntakeError as error:
        raise UsageError(
            f"teacher {file.name}: {error.message}",
            "give a checkpoint that training wrote",
            code=CODE,
        ) from error
    _check_classes(model, setup, file.name)
    if model.input_size != setup.input_size:
        has, want = ("x".join(map(str, size[1:])) for size in (model.input_size, setup.input_size))
        raise UsageError(
            f"teacher {file.name} takes images of {has}, the data has {want}",
            "give one that was trained at the same size",
            code=CODE,
        )
    return Supervisor(model, mean=setup.mean, std=setup.std)


def is_published(source: str) -> bool:
    """Return whether a teacher is named and not a file.

    Example:
        >>> is_published("torchvision:resnet50@IMAGENET1K_V1"), is_published("runs/a/best.pth")
        (True, False)
    """
    return source.partition(":")[0] in ("torchvision", "timm", "hf-hub") and ":" in source


def _published(source: str, setup: Setup) -> Supervisor:
    if "@" not in source and not source.startswith(HUB):
        raise UsageError(f"{source} names no weights", f"write {source}@default", code=CODE)
    model = load_model(source, allow_download=setup.allow_download)
    _check_classes(model, setup, source)
    size = (model.input_size[1], model.input_size[2])
    return Supervisor(model, mean=setup.mean, std=setup.std, size=size)


def _check_classes(model: RobustModel, setup: Setup, name: str) -> None:
    if setup.num_classes not in (0, model.num_classes):
        raise UsageError(
            f"teacher {name} has {model.num_classes} classes, the data {setup.num_classes}",
            "give one that was trained on the same data",
            code=CODE,
        )


def _is_torchvisions(network: nn.Module) -> bool:
    """Return whether a network is a residual one of torchvision, without importing that."""
    return type(network).__module__ == "torchvision.models.resnet"
