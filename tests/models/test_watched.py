"""Pixels are judged when somebody looks, in the words of the model that looks at every call."""

import math

import pytest
import torch
from torch import Tensor, nn

from robustmix.models.watched import TOGETHER, WatchedModel
from tests.models.test_robust_model import Flat, images, wrapped


def spoilt(value: float) -> Tensor:
    x = images()
    x[1, 2, 3, 4] = value
    return x


def refusal(call: object) -> str:
    assert callable(call)
    with pytest.raises(ValueError, match=r"in \[0, 1\]") as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("value", [-2e-6, 1 + 3e-6, math.nan, math.inf])
@pytest.mark.parametrize("more", [0, 1, TOGETHER, 2 * TOGETHER + 1])
def test_what_no_model_takes_is_refused_later_in_the_same_words(value: float, more: int) -> None:
    robust = wrapped(Flat(4), allow_out_of_range=False)
    watched = WatchedModel(robust)
    assert watched(spoilt(value)).shape == (3, 4)
    for _ in range(more):  # of one grey, so that the words are about the bad ones
        watched(torch.full_like(images(1), 0.5))
    assert refusal(watched.judge) == refusal(lambda: robust(spoilt(value)))
    watched.judge()  # what was judged is not judged again


def test_logits_and_gradients_are_those_of_the_model() -> None:
    robust = wrapped(Flat(3), 2, class_map=[1, -1, 0], temperature=2.0)
    watched, x = WatchedModel(robust), images().requires_grad_()
    expected, found = robust(x), watched(x)
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(z[:, 0].sum(), x)[0] for z in (found, expected)]
    assert torch.equal(*gradients)
    watched.judge()


def test_all_else_is_refused_at_the_call() -> None:
    robust = wrapped(nn.Sequential(nn.Dropout(0.5), Flat(4)))
    watched = WatchedModel(robust)
    with pytest.raises(ValueError, match="expected images"):
        watched(images()[0])
    with pytest.raises(ValueError, match="floating-point"):
        watched(images().to(torch.uint8))
    robust.get_submodule("net.0").train()
    with pytest.raises(RuntimeError, match="train mode"):
        watched(images())


def test_a_model_that_takes_anything_and_no_images_are_not_judged() -> None:
    watched = WatchedModel(wrapped(Flat(4), allow_out_of_range=True))
    watched(images() * 7 - 3)
    watched.judge()
    watched = WatchedModel(wrapped(Flat(4)))
    assert watched(images(0)).shape == (0, 4)
    watched.judge()


def test_a_class_map_found_while_scoring_takes_part_in_gradients() -> None:
    robust = wrapped(Flat(3), 2, class_map=[1, -1, 0])
    with torch.inference_mode():
        scored = robust(images())
    x = images().requires_grad_()
    logits = robust(x)
    torch.autograd.grad(logits.sum(), x)
    assert torch.equal(logits, scored)


def test_another_class_map_is_obeyed() -> None:
    robust, x = wrapped(Flat(3), 3, class_map=[0, 1, 2]), images()
    before = robust(x)
    robust.class_map = torch.tensor([2, 0, 1])
    assert torch.equal(robust(x), before[:, [1, 2, 0]])
    assert torch.equal(robust.to("cpu")(x), before[:, [1, 2, 0]])
