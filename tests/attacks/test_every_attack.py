"""What every attack of the table must do: one row each."""

import importlib
import inspect
import pkgutil
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustmix.attacks
from robustmix.attacks import (
    ATTACKS,
    Attack,
    CountingModel,
    Norm,
    attack_norms,
    draws_by_batch,
    find_attack,
    verify,
)
from robustmix.attacks.attack import norms_in
from robustmix.errors import IncompleteError
from robustmix.types import Model
from tests.attacks.conftest import Trained
from tests.attacks.problems import SHAPE, SIZE, keys


class Case(NamedTuple):
    name: str
    knobs: Mapping[str, Any] = MappingProxyType({})  # that make it strong enough, but quick
    strong: Mapping[str, Any] = MappingProxyType({})  # that make it find a linear optimum
    exact: tuple[Norm, ...] = ("linf", "l2")  # norms in which a linear optimum is reached
    random: tuple[Norm, ...] = ()  # norms in which other draws end elsewhere, however easy it is

    @property
    def attack(self) -> Attack[...]:
        return find_attack(self.name)

    @property
    def usual(self) -> Norm:
        return cast(Norm, attack_norms(self.name)[0])

    def run(
        self, m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor | None
    ) -> Tensor:
        return self.attack(m, x, y, eps=eps, norm=norm, keys=k, **self.knobs)


CASES = [
    Case("fgsm"),
    Case("pgd", {"steps": 40}, random=("l2",)),
    Case("apgd", {"steps": 60}, random=("l2",)),
    Case(
        "square", {"queries": 300}, strong={"queries": 1200}, exact=("linf",), random=("linf", "l2")
    ),
    Case("fab", {"steps": 5}, exact=()),
    Case("deepfool", {"steps": 20}, exact=()),
    Case(
        "cw",
        {"steps": 60, "binary_search_steps": 3, "initial_const": 0.1, "learning_rate": 0.1},
        exact=(),
    ),
    Case("mifgsm", exact=("linf",)),
    Case("transfer", strong={"steps": 40}),  # to the model itself, where no surrogate is given
    Case("autoattack", {"steps": 5, "queries": 20}, exact=()),
]
EACH = [(case, norm) for case in CASES for norm in attack_norms(case.name)]
EACH_IDS = [f"{case.name}-{norm}" for case, norm in EACH]
every = pytest.mark.parametrize(("case", "norm"), EACH, ids=EACH_IDS)
one_each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def five_classes(weight: Tensor, bias: float) -> Model:
    """Five-class linear model: classes 0 and 1 decide by the sign of weight . x + bias."""

    def model(images: Tensor) -> Tensor:
        margin = (images.flatten(1) * weight).sum(dim=1) + bias
        rest = torch.tensor([0.0, -13.0, -14.0, -15.0]).expand(len(images), 4)
        return torch.cat([margin.unsqueeze(1), rest], dim=1)

    return model


def far(n: int) -> tuple[Tensor, Tensor, Model, Tensor]:
    """Return weight, images, model and labels 0 that no small change reaches another side of."""
    generator = torch.Generator().manual_seed(n)
    weight = torch.randn(SIZE, generator=generator)
    images = 0.5 + 0.1 * torch.rand(n, *SHAPE, generator=generator)
    # Far enough, and no further: float32 cannot tell cross-entropies apart where they are flat.
    bias = 2.5 - float((images.flatten(1) @ weight).amin())
    return weight, images, five_classes(weight, bias), torch.zeros(n, dtype=torch.int64)


def net(seed: int = 0) -> nn.Module:
    """A trained-looking network with every kind of state that an attack could leave changed."""
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
        nn.Flatten(), nn.Linear(4 * 3 * 5, 5),
    )  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


def steady(seed: int = 2) -> Model:
    """Tanh and elementwise sums: the same bits whatever the batch, unlike a matrix product."""
    weights = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(seed))

    def model(images: Tensor) -> Tensor:
        return (torch.tanh(images.unsqueeze(1) - 0.5) * weights).flatten(2).sum(dim=2)

    return model


def random_images(n: int, seed: int = 1) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_every_attack_of_the_folder_is_in_the_table_and_tested() -> None:
    found = {}
    for module in pkgutil.iter_modules(robustmix.attacks.__path__, "robustmix.attacks."):
        for name, thing in vars(importlib.import_module(module.name)).items():
            if inspect.isfunction(thing) and hasattr(thing, "outcome"):
                found[name] = thing
    assert found == {name: ATTACKS[name] for name in ATTACKS}
    assert [case.name for case in CASES] == list(ATTACKS)
    for name, attack in found.items():
        assert getattr(robustmix.attacks, name) is attack
        assert attack.__name__ == name
        assert attack_norms(name) == norms_in(attack)


@one_each
def test_the_call_is_the_same_for_all(case: Case) -> None:
    parameters = inspect.signature(case.attack).parameters
    plain = [p.name for p in parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert plain == ["model", "images", "labels"]
    given = [n for n, p in parameters.items() if p.default is p.empty and n not in plain]
    assert given == ["eps"]
    assert parameters["norm"].default == case.usual
    assert case.usual == ("l2" if case.name == "cw" else "linf")
    assert (parameters["seed"].default, parameters["keys"].default) == (0, None)
    assert inspect.signature(case.attack).return_annotation == Tensor
    assert not draws_by_batch(case.attack)


@one_each
def test_with_nothing_else_given_it_finds_images_in_the_ball(case: Case) -> None:
    model, images = net(), random_images(200)
    first, second = model(images).topk(2, dim=1).values.unbind(1)
    images = images[(first - second).argsort()[:3]]  # soon broken: the defaults take long
    labels = model(images).argmax(dim=1)
    eps = 8 / 255 if case.usual == "linf" else 0.5
    found = case.attack(model, images, labels, eps=eps)
    assert found.dtype == torch.float32
    assert found.shape == images.shape
    assert not found.requires_grad
    verify(model, images, labels, found, norm=case.usual, eps=eps)
    assert bool((found != images).any())


@every
def test_the_outcome_is_the_call_and_its_success_is_true(case: Case, norm: Norm) -> None:
    model, images = net(), random_images(7)
    labels, eps = model(images).argmax(dim=1), 0.1 if norm == "linf" else 0.5
    counting = CountingModel(model)
    knobs: dict[str, Any] = {"eps": eps, "norm": norm, "keys": keys(7), **case.knobs}
    found = case.attack.outcome(counting, images, labels, **knobs)
    assert torch.equal(found.images, case.attack(model, images, labels, **knobs))
    checked = verify(model, images, labels, found.images, norm=norm, eps=eps)
    assert torch.equal(found.success, checked.success)
    assert int(found.success.sum()) > 0
    # Those that only give images are scored by the harness, which is no work of the attack.
    own = counting.forwards - (7 if case.name == "fgsm" else 0)
    assert float(found.forwards.sum()) == pytest.approx(own)
    assert float(found.backwards.sum()) == pytest.approx(counting.backwards)
    assert found.forwards.shape == found.backwards.shape == found.success.shape == (7,)


@every
def test_seeds_and_positions_decide_where_no_keys_are_given(case: Case, norm: Norm) -> None:
    model, images = net(), random_images(7)
    labels = torch.zeros(7, dtype=torch.int64)

    def run(seed: int, x: Tensor = images) -> Tensor:
        return case.attack(model, x, labels[: len(x)], eps=0.01, norm=norm, seed=seed, **case.knobs)

    assert torch.equal(run(0), run(0))
    assert torch.equal(run(0), case.run(model, images, labels, 0.01, norm, None))
    if norm in case.random:
        assert not torch.equal(run(0), run(1))
        twice = run(0, images[:1].expand(2, *SHAPE))
        assert not torch.equal(twice[0], twice[1])


@pytest.mark.parametrize(
    ("case", "norm"),
    [(case, norm) for case in CASES for norm in case.exact],
    ids=[f"{case.name}-{norm}" for case in CASES for norm in case.exact],
)
@pytest.mark.parametrize("n", [1, 3])
def test_trap_1_a_linear_optimum_is_reached_at_the_radius_in_pixels(
    case: Case, norm: Norm, n: int
) -> None:
    eps = 8 / 255 if norm == "linf" else 0.25
    weight, images, model, labels = far(n)
    strong = case._replace(knobs={**case.knobs, **case.strong})
    found = strong.run(model, images, labels, eps, norm, keys(n))
    dual = weight.abs().sum() if norm == "linf" else weight.norm()
    best = images.flatten(1) @ weight - eps * dual
    torch.testing.assert_close(found.flatten(1) @ weight, best, rtol=1e-5, atol=2e-5)
    change = (found - images).flatten(1)
    size = change.abs().amax(dim=1) if norm == "linf" else change.norm(dim=1)
    torch.testing.assert_close(size, torch.full((n,), eps), rtol=1e-5, atol=1e-7)


@every
def test_trap_2_eps_zero_changes_nothing(case: Case, norm: Norm) -> None:
    _, images, model, labels = far(3)
    assert torch.equal(case.run(model, images, labels, 0.0, norm, keys(3)), images)


@every
def test_ball_and_range_hold_where_pixels_touch_their_ends(case: Case, norm: Norm) -> None:
    model, images = net(), random_images(7).round()
    labels = model(images).argmax(dim=1)
    eps = 0.1 if norm == "linf" else 0.5
    found = case.run(model, images, labels, eps, norm, keys(7))
    assert float(found.amin()) >= 0
    assert float(found.amax()) <= 1
    assert bool((found != images).any())
    checked = verify(model, images, labels, found, norm=norm, eps=eps)
    assert bool(checked.success.any())


@every
def test_trap_17_a_sample_does_not_depend_on_its_batch(case: Case, norm: Norm) -> None:
    model, images, own = steady(), random_images(7, seed=2), keys(7)
    labels = model(images).argmax(dim=1)
    eps = 0.02 if norm == "linf" else 0.1
    whole = case.run(model, images, labels, eps, norm, own)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    shuffled = case.run(model, images[order], labels[order], eps, norm, own[order])
    single = [
        case.run(model, images[i : i + 1], labels[i : i + 1], eps, norm, own[i : i + 1])
        for i in range(7)
    ]
    torch.testing.assert_close(shuffled, whole[order], rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.cat(single), whole, rtol=0, atol=1e-6)


@every
def test_traps_3_and_25_nothing_of_the_caller_changes(case: Case, norm: Norm) -> None:
    model = net()
    model[0].weight.grad = torch.full_like(model[0].weight, 7.0)  # type: ignore[index]
    model[5].bias.requires_grad_(False)  # type: ignore[index]
    images, own = random_images(7), keys(7)
    labels = model(images).argmax(dim=1)
    kept = [t.clone() for t in (images, labels, own)]
    state = {name: t.clone() for name, t in model.state_dict().items()}
    flags = [p.requires_grad for p in model.parameters()]
    torch_state, plain_state = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002

    found = case.run(model, images, labels, 0.05, norm, own)

    assert not found.requires_grad
    assert not images.requires_grad
    assert all(torch.equal(a, b) for a, b in zip(kept, (images, labels, own), strict=True))
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    assert [p.requires_grad for p in model.parameters()] == flags
    grads = [p.grad for p in model.parameters()]
    assert grads[0] is not None
    assert bool((grads[0] == 7).all())
    assert grads[1:] == [None] * (len(grads) - 1)
    assert not any(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert random.getstate() == plain_state
    assert np.array_equal(np.random.get_state()[1], legacy)  # type: ignore[index] # noqa: NPY002


@every
def test_trap_4_a_model_in_train_mode_is_refused(case: Case, norm: Norm) -> None:
    model = net()
    model[1].train()  # type: ignore[index]
    with pytest.raises(ValueError, match="1 is in train mode"):
        case.run(model, random_images(2), torch.zeros(2).long(), 0.05, norm, keys(2))


@every
def test_trap_23_nan_logits_are_an_error_not_a_success(case: Case, norm: Norm) -> None:
    def model(images: Tensor) -> Tensor:
        logits = images.flatten(1)[:, :5] + torch.tensor([0.01, 0, 0, 0, 0])  # class 0 leads
        return torch.where((images != 0.5).flatten(1).any(dim=1, keepdim=True), torch.nan, logits)

    images = torch.full((2, *SHAPE), 0.5)
    labels = torch.zeros(2, dtype=torch.int64)

    def attack_and_score() -> None:
        found = case.run(model, images, labels, 0.05, norm, keys(2))
        verify(model, images, labels, found, norm=norm, eps=0.05)

    with pytest.raises((IncompleteError, ValueError), match=r"NaN|broken images"):
        attack_and_score()


@pytest.mark.parametrize("eps", [-0.1, 8.0, float("nan")])
@one_each
def test_an_eps_in_grey_levels_is_refused(case: Case, eps: float) -> None:
    _, images, model, labels = far(2)
    if case.usual == "l2" and eps > 1:
        eps = float("inf")  # as a length of many values it may be
    with pytest.raises(ValueError, match=r"\[0, 1\] pixel units"):
        case.run(model, images, labels, eps, case.usual, keys(2))


@every
def test_same_keys_same_bits_and_other_keys_others(case: Case, norm: Norm) -> None:
    model, images = net(), random_images(7)
    labels = torch.zeros(7, dtype=torch.int64)
    first, again = (case.run(model, images, labels, 0.01, norm, keys(7)) for _ in range(2))
    assert torch.equal(first, again)
    if norm in case.random:
        other = case.run(model, images, labels, 0.01, norm, keys(7, trial=1))
        assert not torch.equal(first, other)


Broken = Literal["shape", "range", "labels", "keys", "norm"]


@pytest.mark.parametrize("what", ["shape", "range", "labels", "keys", "norm"])
@one_each
def test_an_invalid_problem_is_refused(case: Case, what: Broken) -> None:
    _, images, model, labels = far(3)
    own, norm = keys(3), "l7" if what == "norm" else case.usual
    if what == "shape":
        images = images.flatten(1)
    elif what == "range":
        images = images + 0.5
    elif what == "labels":
        labels = labels[:2]
    elif what == "keys":
        own = own[:2]
    with pytest.raises(ValueError, match="expected"):
        case.run(model, images, labels, 0.05, norm, own)  # type: ignore[arg-type]


@one_each
def test_no_images_no_work(case: Case) -> None:
    _, images, model, labels = far(3)
    found = case.attack.outcome(model, images[:0], labels[:0], eps=0.05, keys=keys(0))
    assert found.images.shape == (0, *SHAPE)
    assert found.success.shape == found.forwards.shape == (0,)


def test_attacks_beat_random_noise_on_a_trained_network(trained: Trained) -> None:
    """The order of strength that a broken attack would upset."""
    x, y = trained.images, trained.labels
    share = {}
    for case in (case for case in CASES if case.usual == "linf"):
        run = case.run(trained.net, x, y, 0.15, "linf", keys(len(x)))
        share[case.name] = float((trained.net(run).argmax(dim=1) != y).float().mean())
    noise = x + 0.15 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    share["noise"] = float((trained.net(noise.clamp(0, 1)).argmax(dim=1) != y).float().mean())
    assert share["noise"] + 0.1 < share["square"] <= share["pgd"] + 0.02
    assert share["fgsm"] <= share["pgd"] <= share["autoattack"]
    assert share["fgsm"] <= share["fab"] <= share["autoattack"]
    assert share["fgsm"] <= share["deepfool"] <= share["autoattack"]
    assert share["fgsm"] <= share["mifgsm"] <= share["pgd"] + 0.02
    assert abs(share["pgd"] - share["apgd"]) < 0.03


WITHOUT_GRADIENTS = ("square",)


@one_each
def test_a_model_without_a_gradient_is_not_taken_for_a_robust_one(case: Case) -> None:
    """Following no gradient, an attack would return the clean images as its best."""
    images, (_, _, linear, labels) = random_images(3), far(3)

    @torch.no_grad()
    def blind(x: Tensor) -> Tensor:
        return linear(x)

    knobs = {"eps": 0.1, **case.knobs}
    if case.name in WITHOUT_GRADIENTS:
        assert find_attack(case.name)(blind, images, labels, **knobs).shape == images.shape
        return
    with pytest.raises(IncompleteError) as caught:
        find_attack(case.name)(blind, images, labels, **knobs)
    assert caught.value.code == "E-NO-GRADIENT"
    # The caller's own no_grad is no obstacle: gradients are taken all the same.
    with torch.no_grad():
        assert not torch.equal(find_attack("fgsm")(linear, images, labels, eps=0.1), images)
