"""What every attack of the registry must do: one row each."""

import inspect
import random
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.attacks import (
    ATTACKS,
    DESCRIPTIONS,
    Norm,
    apgd,
    autoattack,
    fgsm,
    pgd,
    square,
    torchattack,
    verify,
)
from robustmix.errors import IncompleteError
from robustmix.types import Model
from tests.attacks.conftest import Trained
from tests.attacks.problems import SHAPE, SIZE, keys

Run = Callable[[Model, Tensor, Tensor, float, Norm, Tensor], Tensor]


class Case(NamedTuple):
    name: str
    run: Run
    norms: tuple[Norm, ...] = ("linf", "l2")
    exact: tuple[Norm, ...] = ("linf", "l2")  # norms in which a linear optimum is reached
    per_sample: bool = True  # whether its draws depend on the sample alone


def run_fgsm(m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor) -> Tensor:
    return fgsm(m, x, y, eps=eps, norm=norm)


def run_pgd(m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor) -> Tensor:
    return pgd(m, x, y, eps=eps, step_size=eps / 4 or 0.1, steps=40, norm=norm, keys=k).best


def run_apgd(m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor) -> Tensor:
    return apgd(m, x, y, eps=eps, steps=60, norm=norm, keys=k).best


def run_square(m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor) -> Tensor:
    return square(m, x, y, eps=eps, norm=norm, queries=1200, keys=k).best


def run_autoattack(m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor) -> Tensor:
    pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    classes = m(x[:1]).shape[1]
    stages = autoattack(
        m, x, y, eps=eps, num_classes=classes, norm=norm, steps=5, queries=20, keys=k
    )
    return stages[-1].images


def run_foreign(m: Model, x: Tensor, y: Tensor, eps: float, norm: Norm, k: Tensor) -> Tensor:
    pytest.importorskip("torchattacks", reason="needs the torchattacks extra")
    name, alpha = ("PGD", eps / 4) if norm == "linf" else ("PGDL2", eps / 4)
    options: dict[str, str | int | float | bool] = {"alpha": alpha, "steps": 40}
    return torchattack(m, x, y, name=name, eps=eps, seed=3, norm=norm, options=options)


CASES = [
    Case("fgsm", run_fgsm),
    Case("pgd", run_pgd),
    Case("apgd", run_apgd),
    Case("square", run_square, exact=("linf",)),
    Case("autoattack", run_autoattack, exact=()),
    Case("torchattacks:NAME", run_foreign, per_sample=False),
]
EACH = [(case, norm) for case in CASES for norm in case.norms]
EACH_IDS = [f"{case.name}-{norm}" for case, norm in EACH]
every = pytest.mark.parametrize(("case", "norm"), EACH, ids=EACH_IDS)


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


def test_every_attack_is_registered_described_and_tested() -> None:
    assert {case.name for case in CASES} == set(ATTACKS) == set(DESCRIPTIONS)


@pytest.mark.parametrize("name", ATTACKS)
def test_knobs_are_keyword_only(name: str) -> None:
    parameters = inspect.signature(ATTACKS[name]).parameters.values()
    plain = [p.name for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert plain == ["model", "images", "labels"]


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
    found = case.run(model, images, labels, eps, norm, keys(n))
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
    model = net()
    images = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(1)).round()
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
    if not case.per_sample:
        pytest.skip("draws for the whole batch")
    # Tanh and elementwise sums: the same bits whatever the batch, unlike a matrix product.
    generator = torch.Generator().manual_seed(2)
    weights = torch.randn(5, *SHAPE, generator=generator)

    def model(images: Tensor) -> Tensor:
        return (torch.tanh(images.unsqueeze(1) - 0.5) * weights).flatten(2).sum(dim=2)

    images = torch.rand(7, *SHAPE, generator=generator)
    labels, own = model(images).argmax(dim=1), keys(7)
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
    images = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels, own = model(images).argmax(dim=1), keys(7)
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
    images = torch.rand(2, *SHAPE)
    with pytest.raises(ValueError, match="1 is in train mode"):
        case.run(model, images, torch.zeros(2).long(), 0.05, norm, keys(2))


@every
def test_trap_23_nan_logits_are_an_error_not_a_success(case: Case, norm: Norm) -> None:
    def model(images: Tensor) -> Tensor:
        logits = images.flatten(1)[:, :5] * torch.ones(5)
        return torch.where((images != 0.5).flatten(1).any(dim=1, keepdim=True), torch.nan, logits)

    images = torch.full((2, *SHAPE), 0.5)
    labels = torch.zeros(2, dtype=torch.int64)

    def attack_and_score() -> None:
        found = case.run(model, images, labels, 0.05, norm, keys(2))
        verify(model, images, labels, found, norm=norm, eps=0.05)

    with pytest.raises((IncompleteError, ValueError), match=r"NaN|broken images"):
        attack_and_score()


@pytest.mark.parametrize("eps", [-0.1, 8.0, float("nan")])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_eps_in_grey_levels_is_refused(case: Case, eps: float) -> None:
    _, images, model, labels = far(2)
    with pytest.raises(ValueError, match=r"\[0, 1\] pixel units"):
        case.run(model, images, labels, eps, "linf", keys(2))


@every
def test_same_keys_same_bits_and_other_keys_others(case: Case, norm: Norm) -> None:
    model = net()
    images = torch.rand(7, *SHAPE, generator=torch.Generator().manual_seed(1))
    labels = torch.zeros(7, dtype=torch.int64)
    first, again = (case.run(model, images, labels, 0.01, norm, keys(7)) for _ in range(2))
    assert torch.equal(first, again)
    # The corners of an linf ball are soon reached from anywhere.
    if (case.name, norm) in [("pgd", "l2"), ("apgd", "l2"), ("square", "linf"), ("square", "l2")]:
        other = case.run(model, images, labels, 0.01, norm, keys(7, trial=1))
        assert not torch.equal(first, other)


Broken = Literal["shape", "type", "range", "labels", "keys"]


@pytest.mark.parametrize("what", ["shape", "range", "labels", "keys"])
@pytest.mark.parametrize("case", CASES[1:5], ids=lambda case: case.name)
def test_a_problem_that_cannot_be_meant_is_refused(case: Case, what: Broken) -> None:
    _, images, model, labels = far(3)
    own = keys(3)
    if what == "shape":
        images = images.flatten(1)
    elif what == "range":
        images = images + 0.5
    elif what == "labels":
        labels = labels[:2]
    else:
        own = own[:2]
    with pytest.raises(ValueError, match="expected"):
        case.run(model, images, labels, 0.05, "linf", own)


def test_no_images_no_work() -> None:
    _, images, model, labels = far(3)
    for case in CASES[1:4]:
        found = case.run(model, images[:0], labels[:0], 0.05, "linf", keys(0))
        assert found.shape == (0, *SHAPE)


def test_attacks_beat_random_noise_on_a_trained_network(trained: Trained) -> None:
    """The order of strength that a broken attack would upset."""
    x, y = trained.images, trained.labels
    share = {}
    for case in CASES:
        run = case.run(trained.net, x, y, 0.15, "linf", keys(len(x)))
        share[case.name] = float((trained.net(run).argmax(dim=1) != y).float().mean())
    noise = x + 0.15 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).sign()
    share["noise"] = float((trained.net(noise.clamp(0, 1)).argmax(dim=1) != y).float().mean())
    assert share["noise"] + 0.1 < share["square"] <= share["pgd"] + 0.02
    assert share["fgsm"] <= share["pgd"] <= share["autoattack"]
    assert abs(share["pgd"] - share["apgd"]) < 0.03
