import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustmix.errors import IntakeError
from robustmix.models.registry import build_model
from robustmix.models.robust_model import RobustModel

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SIZE = (3, 5, 7)


class Flat(nn.Module):
    """A linear classifier whose gradient is its weight."""

    def __init__(self, outputs: int, size: tuple[int, int, int] = SIZE) -> None:
        super().__init__()
        self.fc = nn.Linear(math.prod(size), outputs)
        generator = torch.Generator().manual_seed(0)
        nn.init.normal_(self.fc.weight, generator=generator)
        nn.init.normal_(self.fc.bias, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.flatten(1))
        return out


def images(n: int = 3, size: tuple[int, int, int] = SIZE) -> Tensor:
    return torch.rand(n, *size, generator=torch.Generator().manual_seed(1))


def wrapped(net: nn.Module, outputs: int = 4, **options: object) -> RobustModel:
    return RobustModel(
        net,
        mean=MEAN,
        std=STD,
        num_classes=outputs,
        **{"input_size": SIZE, **options},  # type: ignore[arg-type]
    )


def test_normalisation_by_hand() -> None:
    net = Flat(4)
    x = images()
    channels = [(x[:, c] - MEAN[c]) / STD[c] for c in range(3)]
    torch.testing.assert_close(wrapped(net)(x), net(torch.stack(channels, dim=1)))


def test_image_gradient_of_a_linear_model_is_weight_over_std() -> None:
    net = Flat(4)
    x = images().requires_grad_()
    (grad,) = torch.autograd.grad(wrapped(net)(x)[:, 2].sum(), x)
    expected = net.fc.weight[2].view(SIZE) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(grad, expected.expand_as(grad))


def test_image_gradient_of_a_deep_model_chains_by_hand() -> None:
    net = build_model("resnet8", num_classes=4, input_size=(3, 8, 8), init="torch").eval()
    x = images(2, (3, 8, 8))
    inner = ((x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)).detach()
    inner.requires_grad_()
    labels = torch.tensor([1, 3])
    (by_net,) = torch.autograd.grad(F.cross_entropy(net(inner), labels), inner)
    x.requires_grad_()
    model = wrapped(net, input_size=(3, 8, 8))
    (grad,) = torch.autograd.grad(F.cross_entropy(model(x), labels), x)
    torch.testing.assert_close(grad, by_net / torch.tensor(STD).view(3, 1, 1))


def test_parameters_are_frozen_and_mode_is_eval() -> None:
    model = wrapped(nn.Sequential(nn.Dropout(0.5), Flat(4)).train())
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.modules())
    assert torch.equal(model(images()), model(images()))


@pytest.mark.parametrize("part", ["", "net", "net.0"])
def test_train_mode_of_any_part_is_refused(part: str) -> None:
    model = wrapped(nn.Sequential(nn.BatchNorm2d(3), Flat(4)))
    before = model(images())
    model.get_submodule(part).train()
    with pytest.raises(RuntimeError, match="train mode"):
        model(images())
    assert torch.equal(model.eval()(images()), before)


@pytest.mark.parametrize("value", [-2e-6, 1 + 3e-6, math.nan, math.inf])
def test_pixels_outside_the_range_are_refused(value: float) -> None:
    x = images()
    x[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        wrapped(Flat(4))(x)
    assert wrapped(Flat(4), allow_out_of_range=True)(x).shape == (3, 4)


def test_rounding_at_the_ends_of_the_range_is_accepted() -> None:
    x = images()
    x[0, 0, 0, 0], x[0, 0, 0, 1] = -5e-7, 1 + 5e-7
    assert wrapped(Flat(4))(x).shape == (3, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.rand(2, 3, 7, 5), r"expected images \(N, 3, 5, 7\), got \(2, 3, 7, 5\)"),
        (torch.rand(3, 5, 7), "expected images"),
        (torch.zeros(2, 3, 5, 7, dtype=torch.uint8), "floating-point"),
    ],
)
def test_wrong_images_are_refused(given: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrapped(Flat(4))(given)


def test_wrong_outputs_are_refused() -> None:
    with pytest.raises(IntakeError, match=r"expected logits \(3, 5\), the model gave \(3, 4\)"):
        wrapped(Flat(4), outputs=5)(images())
    with pytest.raises(IntakeError, match=r"the model gave \(3, 3, 5, 7\)"):
        wrapped(nn.Identity())(images())


def test_an_empty_batch_gives_no_rows() -> None:
    assert wrapped(Flat(4))(images(0)).shape == (0, 4)


def test_logits_are_float32() -> None:
    model = wrapped(Flat(4)).bfloat16()
    assert model(images()).dtype == torch.float32


def test_permutation_of_classes_is_exact() -> None:
    net = Flat(4)
    plain = wrapped(net)(images())
    mapped = wrapped(net, class_map=[2, 0, 3, 1])(images())
    assert torch.equal(mapped[:, [2, 0, 3, 1]], plain)


def test_many_outputs_of_one_label_add_their_probabilities() -> None:
    net = Flat(6)
    plain = wrapped(net, outputs=6)(images()).double()
    mapped = wrapped(net, outputs=2, class_map=[1, -1, 0, 1, 1, 0])(images())
    expected = torch.stack([plain[:, [2, 5]].logsumexp(1), plain[:, [0, 3, 4]].logsumexp(1)], dim=1)
    torch.testing.assert_close(mapped.double(), expected, rtol=1e-5, atol=1e-5)


def test_class_map_is_differentiable_and_survives_large_logits() -> None:
    net = Flat(3)
    with torch.no_grad():
        net.fc.bias.copy_(torch.tensor([500.0, -500.0, -501.0]))
    model = wrapped(net, outputs=2, class_map=[0, 1, 1])
    x = images().requires_grad_()
    out = model(x)
    assert bool(out.isfinite().all())
    (grad,) = torch.autograd.grad(out[:, 1].sum(), x)
    y = x.detach().requires_grad_()
    (expected,) = torch.autograd.grad(wrapped(net, 3)(y)[:, 1:].logsumexp(1).sum(), y)
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ([0, 1, 2, 4], "labels from -1 to 3"),
        ([0, 1, 2, -2], "labels from -1 to 3"),
        ([0, 1, 1, 3], "leaves label 2 without"),
        ([], "class map"),
    ],
)
def test_impossible_class_maps_are_refused(class_map: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrapped(Flat(4), class_map=class_map)


def test_impossible_normalisation_is_refused() -> None:
    with pytest.raises(ValueError, match="3 positive stds"):
        RobustModel(Flat(4), mean=MEAN, std=(1, 0, 1), num_classes=4, input_size=SIZE)


@pytest.mark.parametrize("size", [(4, 6), (11, 13)])
def test_resize_is_bicubic_antialiased_clamped_and_differentiable(size: tuple[int, int]) -> None:
    net = Flat(4, (3, *size))
    model = wrapped(net, resize=size)
    x = images().round().requires_grad_()  # black and white: enlarging it overshoots
    free = F.interpolate(x, size, mode="bicubic", antialias=True)
    assert float(free.detach().max()) > 1.01
    resized = free.clamp(0, 1)
    expected = net((resized - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    torch.testing.assert_close(model(x), expected)
    (grad,) = torch.autograd.grad(model(x).sum(), x)
    assert bool(grad.any())


def test_resize_to_the_same_size_is_the_identity() -> None:
    net = Flat(4)
    assert torch.equal(wrapped(net, resize=(5, 7))(images()), wrapped(net)(images()))


def test_info_of_a_bare_module_is_filled_in() -> None:
    info = wrapped(Flat(4)).info
    assert (info.source, info.arch, info.format) == ("Flat", "Flat", "module")
    assert info.params == 4 * math.prod(SIZE) + 4
