"""Class activation maps: where in the picture the pooled features of a class come from.

A network that ends in global average pooling and one linear layer scores a class by the mean of a
map: the last ones, weighted by that layer's row of the class. The map itself is the explanation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from robustmix.errors import UsageError
from robustmix.models.outputs import logits_in
from robustmix.models.robust_model import RobustModel, padded
from robustmix.models.taps import Tap, classifier_layer, find_tap
from robustmix.saliency.gradcam import (
    TappedNetwork,
    gradient_of_stage,
    rectified_sum,
    with_network,
)
from robustmix.saliency.sources import class_scores

Method = Literal["cam", "gradcam"]

METHODS: tuple[Method, ...] = ("cam", "gradcam")
"""Ways to a map of a class, in the order in which they are tried."""


class _Features(NamedTuple):
    maps: Tensor
    """The last ones, (N, C, h, w)."""

    pooled: Tensor
    """Their means, (N, C)."""


class _Headed(nn.Module):
    """A network whose head alone is differentiated; it keeps what the head is given."""

    def __init__(self, net: nn.Module, tap: "Tap | _Hook", layer: nn.Linear) -> None:
        super().__init__()
        self.net, self.tap, self.layer = net, tap, layer
        self.seen: _Features | None = None

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            maps, pooled = self.tap(self.net, x)
        # Weights of the class, not of the pixels: nothing below the pooling is differentiated.
        self.seen = _Features(maps, pooled.detach().requires_grad_())
        logits: Tensor = self.layer(self.seen.pooled)
        return logits


class _Hook(NamedTuple):
    """Where to listen in a network of any kind: the pooling and the layer that it feeds."""

    pooling: nn.Module
    layer: nn.Linear

    def __call__(self, network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        with _given([self.pooling, self.layer]) as seen:
            network(images)
        return seen[self.pooling], seen[self.layer]


class ClassMaps:
    """Maps of the classes of images, made by one method of ``METHODS`` for one model."""

    def __init__(self, robust: RobustModel, asked: Method | None = None) -> None:
        """Look at the network once.

        Args:
            robust: the model.
            asked: the method; None takes class activation maps where the network has them, else
                Grad-CAM.

        Raises:
            UsageError: it has none of these, or not the one that was asked for.
        """
        self.robust = robust
        errors: list[str] = []
        for method in (asked,) if asked else METHODS:
            try:
                self.method: Method = method
                self._network = _network(robust, method)
                probe = torch.full((1, *robust.input_size), 0.5, device=robust.mean.device)
                self(probe, torch.zeros(1, dtype=torch.int64, device=probe.device))
            except UsageError as error:
                errors.append(error.message)
            else:
                return
        raise UsageError(
            f"no map of a class can be made: {'; '.join(errors)}",
            "evaluate a network that ends in pooling and a linear layer"
            + (", or leave --map-method out" if asked else ""),
            code="E-MAP-METHOD",
        )

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the map of each image's class in the size of the last maps, (N, h, w).

        Args:
            images: (N, 3, H, W) in [0, 1].
            labels: the classes, int64 (N,).

        Returns:
            float64 on the CPU; class activation maps are not rectified.
        """
        if isinstance(self._network, TappedNetwork):
            maps, gradient = gradient_of_stage(self.robust, self._network, images, labels)
            return rectified_sum(maps.cpu().double(), gradient.cpu().double()).squeeze(1)
        return _activation_maps(self.robust, self._network, images, labels)


def _network(robust: RobustModel, method: Method) -> "TappedNetwork | _Headed":
    return _headed(robust) if method == "cam" else TappedNetwork(robust)


def _activation_maps(
    robust: RobustModel, network: _Headed, images: Tensor, labels: Tensor
) -> Tensor:
    """Return the last maps weighted by how the class's score hangs on their means, (N, h, w)."""
    with torch.enable_grad():
        model = with_network(robust, network).in_precision(robust.precision)
        logits = padded(model)(images.detach())
        seen = network.seen
        assert seen is not None
        # Through a class map too: of one output a class these are the rows of the last layer.
        (weights,) = torch.autograd.grad(class_scores(logits, labels), seen.pooled)
    n = len(images)
    maps, rows = seen.maps.detach()[:n].cpu().double(), weights[:n].cpu().double()
    return (rows[:, :, None, None] * maps).sum(dim=1)


def _headed(robust: RobustModel) -> _Headed:
    size = robust.resize or robust.input_size[1:]
    images = _probe_images(robust, size)
    net = robust.net
    try:
        tap = replace(find_tap(net, (3, *size), arch=robust.info.arch), stage=-1)
        layer = classifier_layer(net)
        if tap.kind != "timm-swin":
            with torch.no_grad():
                maps, pooled = tap(net, images)
            if _is_mean(maps, pooled):
                return _Headed(net, tap, layer)
    except UsageError:
        pass
    hook = _hooked(net, images)
    if hook is None:
        raise UsageError(
            f"{robust.info.arch or type(net).__name__} does not end in the mean of maps and one "
            "linear layer",
            "leave --map-method out",
            code="E-MAP-METHOD",
        )
    return _Headed(net, hook, hook.layer)


def _probe_images(robust: RobustModel, size: tuple[int, int]) -> Tensor:
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    return images.to(robust.mean.device, robust.mean.dtype)


def _is_mean(maps: Tensor, pooled: Tensor) -> bool:
    # Of maps of one pixel every such layer is the mean, also what comes after the pooling.
    if maps.ndim != 4 or pooled.shape != maps.shape[:2] or maps.shape[2:].numel() < 2:
        return False
    return torch.allclose(maps.mean(dim=(2, 3)), pooled, rtol=1e-3, atol=1e-5)


def _hooked(net: nn.Module, images: Tensor) -> _Hook | None:
    """Find a pooling whose result is what the last linear layer makes the logits of."""
    leaves = [module for module in net.modules() if not any(module.children())]
    with torch.no_grad(), _given(leaves) as given:
        logits = logits_in(net(images))
    with torch.no_grad():
        for layer in leaves:
            if not isinstance(layer, nn.Linear) or layer not in given:
                continue
            if not torch.equal(layer(given[layer]), logits):
                continue
            # The last such: what keeps means (an average pooling before) has them earlier too.
            for pooling, maps in reversed(given.items()):
                if _is_mean(maps, given[layer]):
                    return _Hook(pooling, layer)
    return None


@contextmanager
def _given(modules: list[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """Collect what modules are given, the last of several times, in the order they are run."""
    seen: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            seen.pop(module, None)
            seen[module] = inputs[0]

    handles = [module.register_forward_pre_hook(keep) for module in modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
