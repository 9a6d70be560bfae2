import importlib.util
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.attacks import CountingModel, Norm, pgd, torchattack, verify
from robustmix.attacks.torchattacks_adapter import L2_ONLY, MINIMUM_NORM, REFUSED
from robustmix.errors import IncompleteError, RobustmixError, UsageError
from tests.attacks.conftest import Trained
from tests.attacks.problems import known

torchattacks = pytest.importorskip("torchattacks", reason="needs the torchattacks extra")

OFFERED = [name for name in torchattacks.__all__ if name not in REFUSED]
EPS = 0.05


def net() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 36, 10))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def problem(n: int = 4) -> tuple[nn.Module, Tensor, Tensor]:
    model = net()
    images = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return model, images, model(images).argmax(dim=1)


@pytest.mark.parametrize("name", OFFERED)
def test_every_attack_of_the_zoo_keeps_the_rules(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model, images, labels = problem()
    norm: Norm = "l2" if name in L2_ONLY else "linf"

    def strict(x: Tensor) -> Tensor:  # as RobustModel: no pixels outside [0, 1]
        assert 0 <= float(x.detach().amin()) <= float(x.detach().amax()) <= 1
        return model(x)  # type: ignore[no-any-return]

    states = torch.get_rng_state(), random.getstate()
    legacy = np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002

    def run(seed: int) -> Tensor:
        return torchattack(strict, images, labels, name=name, eps=EPS, seed=seed, norm=norm)

    found = run(1)
    assert torch.equal(found, run(1))
    verify(model, images, labels, found, norm=norm, eps=EPS)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], legacy)  # type: ignore[index] # noqa: NPY002
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.modules())
    assert capsys.readouterr().out == ""


def test_the_seed_decides_and_the_global_stream_does_not() -> None:
    model, images, labels = problem()

    def run(seed: int) -> Tensor:
        options: dict[str, str | int | float | bool] = {"steps": 1}
        return torchattack(model, images, labels, name="PGD", eps=EPS, seed=seed, options=options)

    first = run(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert torch.equal(run(1), first)
    assert not torch.equal(run(2), first)


def test_pgd_through_the_adapter_is_the_native_one(trained: Trained) -> None:
    x, y = trained.images, trained.labels
    options: dict[str, str | int | float | bool] = {
        "alpha": 0.03, "steps": 7, "random_start": False,
    }  # fmt: skip
    counting = CountingModel(trained.net)
    theirs = torchattack(counting, x, y, name="PGD", eps=0.1, seed=0, options=options)
    assert (counting.forwards, counting.backwards) == (7 * len(x), 7 * len(x))
    ours = pgd.outcome(trained.net, x, y, eps=0.1, step_size=0.03, steps=7, random_start=False)
    same = (theirs - known(ours.last)).abs().flatten(1).amax(dim=1) < 1e-6
    assert float(same.float().mean()) >= 0.99


def test_trap_27_minimum_norm_examples_outside_the_ball_do_not_count(trained: Trained) -> None:
    x, y = trained.images[:8], trained.labels[:8]
    options: dict[str, str | int | float | bool] = {"steps": 10}

    def run(eps: float) -> Tensor:
        return torchattack(
            trained.net, x, y, name="DeepFool", eps=eps, seed=0, norm="l2", options=options
        )

    wide, narrow = run(100.0), run(0.4)
    sizes = (wide - x).flatten(1).norm(dim=1)
    kept = sizes <= 0.4
    assert bool(kept.any())
    assert not bool(kept.all())
    assert torch.equal(narrow[kept], wide[kept])
    assert torch.equal(narrow[~kept], x[~kept])
    success = verify(trained.net, x, y, narrow, norm="l2", eps=0.4).success
    assert not success[~kept].any()
    assert "FAB" in MINIMUM_NORM
    assert "CW" in MINIMUM_NORM


def test_an_attack_with_a_radius_that_leaves_its_ball_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images, labels = problem()
    for shift in (0.2, float("nan")):
        monkeypatch.setattr(torchattacks.PGD, "forward", lambda self, x, y, by=shift: x + by)
        with pytest.raises(IncompleteError, match=r"left its ball|broken images") as caught:
            torchattack(model, images, labels, name="PGD", eps=EPS, seed=0)
        assert caught.value.code == "E-ATTACK-BALL"


def test_targets_are_reached(trained: Trained) -> None:
    x, y = trained.images[:30], trained.labels[:30]
    targets = (y + 1) % 10
    found = torchattack(
        trained.net, x, y, name="PGD", eps=0.4, seed=0, options={"alpha": 0.05, "steps": 30},
        targets=targets,
    )  # fmt: skip
    assert float((trained.net(found).argmax(dim=1) == targets).float().mean()) > 0.8
    with pytest.raises(UsageError, match="no targeted form"):
        torchattack(trained.net, x, y, name="DeepFool", eps=0.4, seed=0, targets=targets)


@pytest.mark.parametrize(
    ("name", "options", "norm", "text", "code"),
    [
        ("PDG", {}, "linf", "did you mean 'PGD'", "E-UNKNOWN-ATTACK"),
        ("AutoAttack", {}, "linf", "use autoattack", "E-ATTACK"),
        ("MultiAttack", {}, "linf", "wraps other attacks", "E-ATTACK"),
        ("PGD", {"step": 3}, "linf", "did you mean 'steps'", "E-OPTION"),
        ("PGD", {"eps": 3.0}, "linf", "unknown option", "E-OPTION"),
        ("APGD", {"seed": 3}, "linf", "unknown option", "E-OPTION"),
        ("PGD", {}, "l2", "is an linf attack, not l2", "E-NORM"),
        ("PGDL2", {}, "linf", "is an l2 attack, not linf", "E-NORM"),
    ],
)
def test_mistakes_are_explained(
    name: str, options: dict[str, str | int | float | bool], norm: Norm, text: str, code: str
) -> None:
    model, images, labels = problem()
    with pytest.raises(RobustmixError, match=text) as caught:
        torchattack(model, images, labels, name=name, eps=EPS, seed=0, norm=norm, options=options)
    assert caught.value.code == code


def test_without_the_package_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, images, labels = problem()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"robustmix\[torchattacks\]") as caught:
        torchattack(model, images, labels, name="PGD", eps=EPS, seed=0)
    assert caught.value.code == "E-NEEDS-TORCHATTACKS"


def test_a_missing_gradient_is_told() -> None:
    """Logits that do not depend on the images: the clean images would look like a failed attack."""
    images = torch.rand(2, 3, 4, 4)
    constant = nn.Parameter(torch.ones(4))

    def model(x: Tensor) -> Tensor:
        return constant.expand(len(x), 4) * 2

    with pytest.raises(IncompleteError) as caught:
        torchattack(model, images, torch.zeros(2).long(), name="FGSM", eps=EPS, seed=0)
    assert caught.value.code == "E-NO-GRADIENT"
    assert constant.grad is None
