"""The one form in which every suite sees a network: pixels in [0, 1] in, logits out."""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.errors import IntakeError
from robustmix.models.outputs import WAY_OUT, logits_in
from robustmix.models.registry import arch_options
from robustmix.precision import Precision, computing_in
from robustmix.types import Model

TOLERANCE = 1e-6
"""How far pixels may leave [0, 1]: the rounding of an attack's projection."""


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """Where a model comes from: what a report says about it."""

    source: str
    """File name (no folder) or architecture name."""

    format: str
    """E.g. ``robustmix``, ``torch``, ``openmixup``, ``safetensors``, ``timm``, ``module``."""

    sha256: str | None = None
    """Of the file."""

    arch: str
    arch_options: Mapping[str, str | int | float] = field(default_factory=dict)
    head: str | None = None
    """Which of several heads is scored."""

    weights: str = "raw"
    """``raw`` or ``ema``."""

    dataset: str | None = None
    method: str | None = None
    run_id: str | None = None
    recipe: Mapping[str, Any] | None = None
    class_names: tuple[str, ...] | None = None
    class_map_sha256: str | None = None
    """Of the map from model outputs to labels."""

    params: int
    trusted_pickle: bool = False
    """Whether code in the file was allowed to run."""

    epoch: int | None = None
    metrics: Mapping[str, Any] | None = None
    calibration: Mapping[str, Any] | None = None
    """How the temperature of a calibrated checkpoint was fitted; ``sample_ids`` says to what."""

    test_transform: str | None = None
    """How the images were prepared that published or foreign weights were tested on, in the words
    of ``robustmix.data.preparation.TestTransform``; None where it is not known."""

    plugins: tuple[Mapping[str, str], ...] = ()
    """What a checkpoint records of its architecture, method and data set, if others made them."""

    classifier: bool = True
    """Whether its outputs are logits; those of a backbone alone are not."""

    notes: tuple[str, ...] = ()
    """What a report must warn of, each beginning with a code such as ``W-RANDOM-INIT``."""


class RobustModel(nn.Module):
    """A classifier of pixels in [0, 1], always in eval mode, its parameters frozen.

    Takes ``net`` over: puts it in eval mode and switches off the gradients of its parameters.
    Gradients with respect to the images flow.

    Args:
        net: normalised images (N, 3, H, W) -> logits (N, M), or a tuple or mapping with them
            (``logits_in``).
        mean: of the normalisation, one number a channel, in [0, 1] pixel units.
        std: likewise, positive.
        num_classes: K, the number of the data set's labels.
        input_size: (3, H, W) of the images this model is given.
        class_map: label of each of the M outputs, int64 (M,), -1 to drop one. Outputs that share
            a label are joined by log-sum-exp, which adds their probabilities. M = K without it.
        resize: the network sees the images resized to this height and width: bicubic with
            antialiasing, on float tensors, clamped to [0, 1].
        info: what a report says about the model.
        allow_out_of_range: accept pixels outside [0, 1].
        temperature: what the logits are divided by, after the class map; None leaves them as they
            are, bit for bit.

    Raises:
        ValueError: the normalisation, the class map or the temperature is invalid.
    """

    mean: Tensor
    std: Tensor
    class_map: Tensor | None
    temperature: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        num_classes: int,
        input_size: tuple[int, int, int],
        class_map: Tensor | Sequence[int] | None = None,
        resize: int | tuple[int, int] | None = None,
        info: ModelInfo | None = None,
        allow_out_of_range: bool = False,
        temperature: float | None = None,
    ) -> None:
        super().__init__()
        finite = all(math.isfinite(number) for number in (*mean, *std))
        if len(mean) != 3 or len(std) != 3 or not finite or not all(s > 0 for s in std):
            raise ValueError(f"expected 3 means and 3 positive stds, got {mean} and {std}")
        if temperature is not None and not 0 < temperature < math.inf:  # also true for NaN
            raise ValueError(f"expected a finite temperature > 0, got {temperature}")
        self.net = net
        self.num_classes = num_classes
        self.input_size = input_size
        self.resize = (resize, resize) if isinstance(resize, int) else resize
        self.allow_out_of_range = allow_out_of_range
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("class_map", _checked_map(class_map, num_classes))
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None
        self.precision: Precision = "fp32"
        divisor = None if temperature is None else torch.tensor(temperature, dtype=torch.float32)
        self.register_buffer("temperature", divisor)
        self.info = info or ModelInfo(
            source=type(net).__name__,
            format="module",
            arch=type(net).__name__,
            arch_options=arch_options(net),
            params=sum(p.numel() for p in net.parameters()),
        )
        self.eval()
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, float32 (N, K).

        Args:
            images: (N, 3, H, W), floating point, in [0, 1].

        Raises:
            RuntimeError: some module is in train mode, so a score would depend on the batch.
            ValueError: the images' type, size or range is not the stated one.
            IntakeError: the network does not return one logit a class.
        """
        self.check_mode(self.modules())
        self.check_form(images)
        if len(images) and not self.allow_out_of_range:
            refuse_out_of_range(*images.detach().aminmax())
        return self.logits(images)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits, float32 (N, K), of images whose range is somebody else's to check.

        Raises:
            IntakeError: the network does not return one logit a class.
        """
        logits = logits_in(self.outputs(images))
        outputs = self.num_classes if self.class_map is None else len(self.class_map)
        if logits.shape != (len(images), outputs):
            raise IntakeError(
                f"expected logits ({len(images)}, {outputs}), the model gave {tuple(logits.shape)}",
                WAY_OUT,
                code="E-OUTPUT",
            )
        mapped = self._map_classes(logits.float())
        return mapped if self.temperature is None else mapped / self.temperature

    def outputs(self, images: Tensor) -> Tensor:
        """Return what the network itself gives for images in [0, 1], resized and normalised."""
        x = images.to(self.mean.dtype)
        if self.resize is not None and self.resize != tuple(images.shape[2:]):
            x = F.interpolate(
                x, self.resize, mode="bicubic", align_corners=False, antialias=True
            ).clamp(0, 1)
        x = (x - self.mean) / self.std
        with computing_in(self.precision, x.device):
            given: Tensor = self.net(x)  # or what holds one, see ``logits_in``
        return given

    def in_precision(self, precision: Precision) -> "RobustModel":
        """Return the model, its weights shared, whose network computes in another precision.

        What stands before and behind the network (normalisation, class map, temperature) is
        float32 in each.
        """
        if precision == self.precision:
            return self
        other = copy.copy(self)
        other.precision = precision
        return other

    def check_mode(self, modules: Iterable[nn.Module]) -> None:
        """Refuse to score while one of the modules is in train mode.

        Raises:
            RuntimeError: one is, so a score would depend on the batch.
        """
        if any(module.training for module in modules):
            raise RuntimeError("the model is in train mode; call model.eval() before scoring")

    def check_form(self, images: Tensor) -> None:
        """Refuse images of another shape or type.

        Raises:
            ValueError: they are not floating-point images (N, 3, H, W) of the model's size.
        """
        if images.shape[1:] != self.input_size or images.ndim != 4:
            expected = ", ".join(map(str, self.input_size))
            raise ValueError(f"expected images (N, {expected}), got {tuple(images.shape)}")
        if not images.is_floating_point():
            raise ValueError(f"expected floating-point images in [0, 1], got {images.dtype}")

    def _map_classes(self, logits: Tensor) -> Tensor:
        if self.class_map is None:
            return logits
        outputs, labels = self._mapped()
        logits = logits.index_select(1, outputs)
        # Log-sum-exp over the outputs of each label, shifted by the largest of them; a label with
        # one output gets that logit exactly.
        index = labels.expand_as(logits)
        largest = logits.new_full((len(logits), self.num_classes), -torch.inf)
        largest = largest.scatter_reduce(1, index, logits.detach(), "amax")
        scaled = (logits - largest.gather(1, index)).exp()
        return torch.zeros_like(largest).scatter_add(1, index, scaled).log() + largest

    def _mapped(self) -> tuple[Tensor, Tensor]:
        """Give the outputs that have a label, and these labels, int64 (m,) each, on the device.

        To find them takes the device's answer, so they are found once for each device.
        """
        if self._kept is None or self._kept[0] is not self.class_map:
            assert self.class_map is not None
            # Attacks save them for their gradients, which tensors of inference mode refuse.
            with torch.inference_mode(False):
                outputs = (self.class_map >= 0).nonzero().flatten()
                self._kept = self.class_map, outputs, self.class_map[outputs]
        return self._kept[1:]


def refuse_out_of_range(low: Tensor, high: Tensor) -> None:
    """Refuse pixels whose least or largest value lies outside [0, 1].

    Raises:
        ValueError: it does, or is no number.
    """
    least, largest = torch.stack([low, high]).tolist()  # one wait for both
    if not (least >= -TOLERANCE and largest <= 1 + TOLERANCE):  # also true for NaN
        raise ValueError(f"expected images in [0, 1], got values in [{least:.6g}, {largest:.6g}]")


def _checked_map(class_map: Tensor | Sequence[int] | None, num_classes: int) -> Tensor | None:
    if class_map is None:
        return None
    labels = torch.as_tensor(class_map, dtype=torch.int64).clone()
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"expected a class map (M,), got shape {tuple(labels.shape)}")
    if int(labels.min()) < -1 or int(labels.max()) >= num_classes:
        raise ValueError(f"expected labels from -1 to {num_classes - 1} in the class map")
    missing = sorted(set(range(num_classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"the class map leaves label {missing[0]} without a model output")
    return labels


PAD = 8


def padded(model: Model) -> Model:
    """Wrap a model so that its batches are filled up to a multiple of ``PAD`` with the last image.

    Matrix kernels round differently in their remainder path, so that a sample's logits would
    depend on how many come with it.
    """

    def call(images: Tensor) -> Tensor:
        n = len(images)
        extra = -n % PAD
        if not extra:
            return model(images)
        filler = images[-1:].expand(extra, *images.shape[1:])
        return model(torch.cat([images, filler]))[:n]

    return call
