"""Transfer: what is made on one network, and what another makes of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from robustmix.attacks import CountingModel, Norm, mifgsm, pgd, transfer
from robustmix.errors import IncompleteError
from tests.attacks.conftest import Trained
from tests.attacks.problems import SHAPE, SIZE, keys, known, linear


def blind(model: Any) -> Any:
    """Return the model without gradients: nothing of it may be used but its answers."""

    def answers(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = model(images)
            return logits

    return answers


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_surrogate_moves_a_linear_model_by_the_product_of_weights(norm: Norm) -> None:
    rng = torch.Generator().manual_seed(0)
    own, other = (torch.randn(SIZE, generator=rng) for _ in range(2))
    images = 0.5 + 0.1 * torch.rand(5, *SHAPE, generator=rng)
    labels, eps = torch.zeros(5, dtype=torch.int64), 0.05
    found = transfer(
        blind(linear(own)), images, labels, eps=eps, norm=norm, surrogate=linear(other), steps=60
    )
    moved = (found - images).flatten(1) @ own
    direction = other.sign() if norm == "linf" else other / other.norm()
    expected = -eps * (own @ direction)
    torch.testing.assert_close(moved, expected.expand(5), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("source", ["mifgsm", "pgd", None])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_is_the_last_iterate_of_the_attack_on_the_surrogate(
    norm: Norm, source: Any, trained: Trained
) -> None:
    x, y = trained.images[:50], trained.labels[:50]
    model = linear_of(x)
    knobs: dict[str, Any] = {"eps": 0.15 if norm == "linf" else 1.0, "keys": keys(50)}
    more: dict[str, Any] = {"norm": norm, "surrogate": trained.net, "source_attack": source}
    if (norm, source) == ("l2", "mifgsm"):
        with pytest.raises(ValueError, match="expected norm linf"):
            transfer(model, x, y, steps=4, **knobs, **more)
        return
    asked, attacked = CountingModel(blind(model)), CountingModel(trained.net)
    found = transfer.outcome(asked, x, y, steps=4, **knobs, **more | {"surrogate": attacked})
    by_pgd = source == "pgd" or norm == "l2"
    maker: Any = pgd if by_pgd else mifgsm
    made = maker.outcome(trained.net, x, y, norm=norm, steps=4, **knobs)
    assert torch.equal(found.images, known(made.last))
    assert torch.equal(found.success, model(found.images).argmax(dim=1) != y)
    assert asked.forwards == 50
    assert int(found.forwards.sum()) == asked.forwards + attacked.forwards
    assert int(found.backwards.sum()) == attacked.backwards


def test_the_last_iterate_goes_on_though_the_surrogate_is_fooled_before() -> None:
    def hill(images: Tensor) -> Tensor:
        x = images.flatten(1)[:, 0]
        return torch.stack([torch.zeros_like(x), 0.2 - 100 * (x - 0.6) ** 2], dim=1)

    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    found = transfer(hill, images, labels, eps=0.2, steps=2, surrogate=hill)
    assert float(found[0, 0, 0, 0]) == pytest.approx(0.7)
    assert float(mifgsm(hill, images, labels, eps=0.2, steps=2)[0, 0, 0, 0]) == pytest.approx(0.6)


def linear_of(images: Tensor) -> Any:
    """Return some model of ten classes."""
    weights = torch.randn(10, images[0].numel(), generator=torch.Generator().manual_seed(1))
    return lambda x: x.flatten(1) @ weights.T


def test_a_surrogate_without_gradients_or_in_train_mode_is_refused(trained: Trained) -> None:
    x, y = trained.images[:3], trained.labels[:3]
    with pytest.raises(IncompleteError) as caught:
        transfer(trained.net, x, y, eps=0.1, surrogate=blind(trained.net))
    assert caught.value.code == "E-NO-GRADIENT"
    other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10))
    with pytest.raises(ValueError, match="in train mode"):
        transfer(trained.net, x, y, eps=0.1, surrogate=other)


@pytest.mark.parametrize(
    ("knobs", "match"),
    [({"steps": 0}, "expected steps >= 1"), ({"source_attack": "fgsm"}, "expected source_attack")],
)
def test_invalid_options_are_refused(knobs: dict[str, Any], match: str, trained: Trained) -> None:
    with pytest.raises(ValueError, match=match):
        transfer(trained.net, trained.images[:1], trained.labels[:1], eps=0.1, **knobs)
