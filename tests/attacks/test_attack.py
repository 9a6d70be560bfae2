"""What an attack is: functions that become one, their options, and the table that names them."""

import inspect
import math
from functools import partial
from typing import Literal, get_type_hints

import pytest
import torch
from torch import Tensor

from robustmix.attacks import (
    ATTACKS,
    FAMILIES,
    CountingModel,
    Outcome,
    attack,
    attack_norms,
    attack_of,
    draws_by_batch,
    find_attack,
    options_of,
    pgd,
)
from robustmix.attacks.attack import arguments_in, norms_in
from robustmix.errors import IncompleteError, UsageError
from robustmix.rng import sample_keys
from robustmix.types import Model
from tests.attacks.problems import keys, problem


def darker(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    share: float = 1.0,
    looks: int = 0,
    how: Literal["all", "some"] = "all",
    note: str | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Take as much light away as is allowed.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K).
        images: clean images.
        labels: true classes.
        eps: radius of the ball.
        share: of the radius
            that is taken.
        looks: at the model: ``0`` for none.
        how: many of them.

    Returns:
        Images.
    """
    for _ in range(looks):
        model(images)
    found: Tensor = (images - eps * share).clamp(0, 1).requires_grad_()
    return found


def seeded(
    model: Model, images: Tensor, labels: Tensor, *, eps: float, norm: str = "l2", seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=generator)
    lengths: Tensor = noise.flatten(1).norm(dim=1)
    return images + eps * noise / lengths.view(-1, 1, 1, 1) / 2


def test_a_plain_function_becomes_an_attack_that_takes_what_all_take() -> None:
    _, images, model, labels = problem(3)
    made = attack_of(darker)
    found = made(model, images, labels, eps=0.1, seed=4, keys=keys(3), norm="linf")  # type: ignore[call-arg]
    assert torch.equal(found, images - 0.1)
    assert not found.requires_grad
    counting = CountingModel(model)
    outcome = made.outcome(counting, images, labels, eps=0.1, looks=2)
    assert torch.equal(outcome.images, images - 0.1)
    assert torch.equal(outcome.success, model(images - 0.1).argmax(dim=1) != labels)
    assert outcome.forwards.tolist() == [2.0] * 3  # not the harness's look
    assert counting.forwards == 3 * 3
    assert outcome.backwards.tolist() == [0.0] * 3
    assert outcome.loss is None
    assert outcome.stages == ()
    assert inspect.signature(made) == inspect.signature(darker)
    assert made.__name__ == "darker"
    assert attack_of(made) is made
    assert attack_of(pgd) is pgd
    with pytest.raises(TypeError, match="sharpness"):
        made(model, images, labels, eps=0.1, sharpness=3)  # type: ignore[call-arg]


def test_success_is_the_harnesss_not_the_functions() -> None:
    """A class that flips half way down: the images of radius 0.2 win, those of 0.1 do not."""

    def model(images: Tensor) -> Tensor:
        light = images.flatten(1).mean(dim=1)
        return torch.stack([light, torch.full_like(light, 0.35)], dim=1)

    images, labels = torch.full((2, 2, 3, 5), 0.5), torch.tensor([0, 1])
    made = attack_of(darker)
    assert made.outcome(model, images, labels, eps=0.1).success.tolist() == [False, True]
    assert made.outcome(model, images, labels, eps=0.2).success.tolist() == [True, False]


def test_what_leaves_the_ball_or_is_no_image_is_refused() -> None:
    _, images, model, labels = problem(3)
    with pytest.raises(IncompleteError, match="left its ball"):
        attack_of(darker).outcome(model, images, labels, eps=0.1, share=1.5)

    def claims(model: Model, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
        return images, labels  # type: ignore[return-value]

    with pytest.raises(IncompleteError, match="claims returned tuple, not images") as caught:
        attack_of(claims)(model, images, labels, eps=0.1)
    assert caught.value.code == "E-ATTACK-RESULT"


def test_without_keys_of_its_own_the_first_key_is_the_seed() -> None:
    _, images, model, labels = problem(3)
    made = attack_of(seeded)
    assert draws_by_batch(made)
    assert not draws_by_batch(attack_of(darker))
    assert not draws_by_batch(pgd)
    own = sample_keys(0, "suite", "condition", 0, ["a", "b", "c"])
    found = made(model, images, labels, eps=0.1, keys=own)  # type: ignore[call-arg]
    assert torch.equal(found, seeded(model, images, labels, eps=0.1, seed=int(own[0]) % 2**31))
    assert torch.equal(
        made(model, images, labels, eps=0.1, seed=7), seeded(model, images, labels, eps=0.1, seed=7)
    )


def test_the_norm_is_the_one_the_signature_names() -> None:
    _, images, model, labels = problem(3)
    # In linf, which is checked where nothing else is said, this would be too far.
    far = attack_of(seeded).outcome(model, images, labels, eps=0.5)
    assert torch.allclose((far.images - images).flatten(1).norm(dim=1), torch.tensor(0.25))
    assert norms_in(attack_of(seeded)) == ("l2",)
    assert norms_in(attack_of(darker)) == ("linf",)
    assert norms_in(pgd) == ("linf", "l2")


def test_a_search_becomes_an_attack_with_its_signature_and_documentation() -> None:
    calls = []

    @attack
    def both(model: Model, images: Tensor, labels: Tensor, *, eps: float) -> Outcome:
        """Do it."""
        calls.append(eps)
        none = torch.zeros(len(images), dtype=torch.int64)
        return Outcome(images=images + eps, success=none > 0, forwards=none, backwards=none)

    _, images, model, labels = problem(2)
    assert torch.equal(both(model, images, labels, eps=0.1), images + 0.1)
    assert torch.equal(both.outcome(model, images, labels, eps=0.2).images, images + 0.2)
    assert calls == [0.1, 0.2]
    assert both.__doc__ == "Do it."
    assert inspect.signature(both).return_annotation == Tensor
    assert get_type_hints(both)["eps"] is float
    assert inspect.signature(both.outcome).return_annotation is Outcome


def test_options_are_read_off_signature_and_docstring() -> None:
    share, looks, how, note = options_of(attack_of(darker))
    assert (share.name, share.hint, share.default) == ("share", float, 1.0)
    assert share.help == "of the radius that is taken."
    assert (looks.hint, looks.default, looks.help) == (int, 0, "at the model: 0 for none.")
    assert (how.hint, how.default, how.help) == (Literal["all", "some"], "all", "many of them.")
    assert (note.hint, note.default, note.help) == (str, None, "")


def test_partials_and_objects_that_can_be_called_are_functions_too() -> None:
    _, images, model, labels = problem(3)
    half = attack_of(partial(darker, share=0.5))
    assert torch.equal(half(model, images, labels, eps=0.1), images - 0.05)
    found = {option.name: (option.hint, option.default) for option in options_of(half)}
    assert found["share"] == (float, 0.5)

    class Darker:
        def __call__(
            self, model: Model, images: Tensor, labels: Tensor, *, eps: float, share: float = 1.0
        ) -> Tensor:
            return images - eps * share

    made = attack_of(Darker())
    assert torch.equal(made(model, images, labels, eps=0.1), images - 0.1)
    assert [(option.name, option.hint) for option in options_of(made)] == [("share", float)]


@pytest.mark.parametrize("name", ATTACKS)
def test_every_own_option_is_explained(name: str) -> None:
    for option in options_of(find_attack(name)):
        assert len(option.help) > 20, option
        assert not {"`", "\n"} & set(option.help)


def test_options_of_pgd_are_these() -> None:
    found = {option.name: (option.hint, option.default) for option in options_of(pgd)}
    assert found == {
        "steps": (int, 20),
        "step_size": (float, None),
        "restarts": (int, 1),
        "random_start": (bool, True),
        "loss": (Literal["ce", "margin", "dlr"], "ce"),
        "targets": (int, None),  # a tensor is nothing that a flag can give
        "stop_early": (bool, False),
        "eot": (int, 1),
    }


def test_an_argument_that_nobody_gives_is_an_error_not_a_crash_later() -> None:
    def needs(model: Model, images: Tensor, labels: Tensor, *, eps: float, power: int) -> Tensor:
        return images

    with pytest.raises(UsageError, match="needs power, which nobody gives it") as caught:
        options_of(attack_of(needs))
    assert caught.value.code == "E-ATTACK-SIGNATURE"

    def unreadable(
        model: Model,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        power: "Nowhere | None" = None,  # type: ignore[name-defined] # noqa: F821
    ) -> Tensor:
        return images

    with pytest.raises(UsageError, match="'Nowhere' is not defined"):
        options_of(attack_of(unreadable))


def test_arguments_are_read_to_their_end_and_no_further() -> None:
    text = """Do.

    Arguments:
        one (int): first: of all. (Default: 3)

        two : second
            line `x`.

    Shape:
        three: not an argument.
    """
    assert arguments_in(text) == {"one": "first: of all. (Default: 3)", "two": "second line `x`."}
    assert arguments_in("") == {}


def test_a_registered_function_is_found_and_unknown_names_are_not() -> None:
    _, images, model, labels = problem(3)
    with ATTACKS.temporary():
        ATTACKS.register("darker", darker)
        assert ATTACKS.row("darker").help == "Take as much light away as is allowed."
        assert attack_norms("darker") == ("linf",)
        found = find_attack("darker").outcome(model, images, labels, eps=0.1, keys=keys(3))
        assert torch.equal(found.images, images - 0.1)
        ATTACKS.register("seeded", seeded, norms=("l2", "linf"))
        assert attack_norms("seeded") == ("l2", "linf")
    with pytest.raises(UsageError, match="unknown attack 'darker'") as caught:
        find_attack("darker")
    assert caught.value.code == "E-UNKNOWN-ATTACK"


def test_one_of_torchattacks_has_the_same_call() -> None:
    pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    assert list(FAMILIES) == ["torchattacks:NAME"]
    made = find_attack("torchattacks:PGD")
    assert made.__name__ == "torchattacks:PGD"
    assert attack_norms("torchattacks:PGD") == ("linf",)
    assert attack_norms("torchattacks:PGDL2") == ("l2",)
    assert attack_norms("torchattacks:CW") == ("linf", "l2")
    assert draws_by_batch(made)
    options = {option.name: option for option in options_of(made)}
    assert {"alpha", "steps", "random_start"} == set(options)
    assert (options["steps"].hint, options["steps"].default) == (int, 10)
    weight, images, model, labels = problem(3)
    counting = CountingModel(model)
    found = made.outcome(counting, images, labels, eps=0.1, alpha=0.05, steps=6, keys=keys(3))
    assert found.forwards.tolist() == found.backwards.tolist() == [6.0] * 3
    toward = torch.where(labels == 0, -1.0, 1.0)
    best = images.flatten(1) @ weight + toward * 0.1 * weight.abs().sum()
    torch.testing.assert_close(found.images.flatten(1) @ weight, best, rtol=1e-5, atol=1e-5)
    l2 = find_attack("torchattacks:PGDL2").outcome(model, images, labels, eps=0.1, keys=keys(3))
    length = (l2.images - images).flatten(1).norm(dim=1)
    assert float(length.amax()) <= 0.1 + 1e-6
    assert not math.isclose(float(length.amin()), 0)
    with pytest.raises(UsageError, match="did you mean 'PGD'"):
        find_attack("torchattacks:PDG")
