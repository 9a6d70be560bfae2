"""Attacks of the optional package torchattacks, by name, under rules that keep them honest.

The package is given a stand-in for the model: pixels in, logits out, always in eval mode, without
parameters to collect gradients. Its own normalisation switch is never used, its claims of success
are not read, and the random state it seeds is put back.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import random
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from robustmix.attacks.attack import Attack, attack_of
from robustmix.attacks.ball import Norm, check_problem, lengths
from robustmix.attacks.doubts import Doubts, not_finite
from robustmix.attacks.harness import BALL_TOLERANCE
from robustmix.errors import IncompleteError, UsageError, unknown_name
from robustmix.later import Tensor, torch
from robustmix.types import Model

Knob: TypeAlias = str | int | float | bool

MINIMUM_NORM = frozenset(
    [
        "CW",
        "DeepFool",
        "EADEN",
        "EADL1",
        "FAB",
        "GN",
        "JSMA",
        "OnePixel",
        "Pixle",
        "SparseFool",
        "VANILA",
    ]
)
"""Not held to a ball: what they return counts only where it happens to lie in it."""

L2_ONLY = frozenset(("PGDL2", "PGDRSL2"))

_OURS = ("eps", "max_epsilon", "seed", "norm")

REFUSED = {
    "AutoAttack": "it runs a tenth of the steps and seeds by the clock; use autoattack",
    "LGV": "it trains models of its own",
    "MultiAttack": "it wraps other attacks; name these",
}


def torchattack(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    name: str,
    eps: float,
    norm: Norm = "linf",
    seed: int = 0,
    options: Mapping[str, Knob] | None = None,
    targets: Tensor | None = None,
) -> Tensor:
    """Run an attack of torchattacks.

    Attacks that draw random numbers draw them for the whole batch from one seed: their results
    depend on which samples come together.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode. Probes outside [0, 1],
            which some attacks make on their way, are clipped before it sees them.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        name: class of torchattacks, e.g. ``PGD``.
        eps: radius of the ball, in [0, 1] pixel units.
        norm: norm of the ball.
        seed: what the attack's random numbers follow from.
        options: further keyword arguments of the class, e.g. ``{"steps": 20}``.
        targets: classes to move towards, int64 (N,), for attacks that can.

    Returns:
        Images in the ball and in [0, 1], same shape as ``images``. Where an attack without a
        radius ended outside the ball, the clean image.

    Raises:
        UsageError: torchattacks is not installed, or the attack or an option does not exist.
        IncompleteError: an attack with a radius left its ball (``E-ATTACK-BALL``).
        ValueError: the problem is invalid.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=None, doubts=doubts)
    kind = _find(name)
    knobs = _knobs(kind, name, norm=norm, eps=eps, seed=seed, options=options or {})
    if not len(images) or eps == 0:  # some attacks divide by either
        doubts.settle()
        return images.clone()
    from robustmix.attacks.stand_in import StandIn

    stand_in = StandIn(model, images, doubts)
    with _preserved(images.device, seed), _silence():
        attack = kind(stand_in, **knobs)
        if targets is not None:
            if "targeted" not in attack.supported_mode:
                raise UsageError(f"torchattacks:{name} has no targeted form", code="E-TARGETED")
            attack.set_mode_targeted_by_label(quiet=True)
        found = attack(images.detach().clone(), labels if targets is None else targets)
    inside = _inside(name, images, found.detach(), norm=norm, eps=eps, doubts=doubts)
    doubts.settle()
    return inside


def foreign_attack(name: str) -> Attack[...]:
    """Make an attack of one of torchattacks, its further arguments those of the class.

    Args:
        name: class of torchattacks, e.g. ``PGD``; the attack is called ``torchattacks:PGD``.

    Raises:
        UsageError: torchattacks is not installed, or it has no such attack.
    """
    kind = _find(name)

    def run(
        model: Model,
        images: Tensor,
        labels: Tensor,
        *,
        eps: float,
        norm: Norm = "linf",
        seed: int = 0,
        **options: Knob,
    ) -> Tensor:
        return torchattack(
            model, images, labels, name=name, eps=eps, norm=norm, seed=seed, options=options
        )

    return attack_of(_dressed(run, kind, name))


def _dressed(run: Any, kind: Any, name: str) -> Any:
    """Give a function the name, the documentation and the arguments of an attack's class."""
    own = inspect.signature(kind).parameters
    free = [one for key, one in own.items() if key not in ("model", *_OURS)]
    plain = inspect.signature(run).parameters
    common = [one for one in plain.values() if one.kind is not one.VAR_KEYWORD]
    norms = _norms(name, own)
    # Where no norm is asked for, it is one that the attack has.
    run.__kwdefaults__ = run.__kwdefaults__ | {"norm": norms[0]}
    common = [one.replace(default=norms[0]) if one.name == "norm" else one for one in common]
    run.__signature__ = inspect.Signature(
        common + [one.replace(kind=one.KEYWORD_ONLY) for one in free], return_annotation=Tensor
    )
    run.__name__ = run.__qualname__ = f"torchattacks:{name}"
    run.__annotations__ = run.__annotations__ | {"norm": Literal[norms]}
    run.__doc__ = kind.__doc__
    return run


def _norms(name: str, accepted: Mapping[str, Any]) -> tuple[Norm, ...]:
    """Tell in which norms an attack of the package works."""
    if "norm" in accepted or name in MINIMUM_NORM:
        return ("linf", "l2")
    return ("l2",) if name in L2_ONLY else ("linf",)


def require_torchattacks() -> None:
    """Raise unless the optional package is installed.

    Raises:
        UsageError: it is not (``E-NEEDS-TORCHATTACKS``).
    """
    if importlib.util.find_spec("torchattacks") is None:
        raise UsageError(
            "torchattacks is not installed",
            "python -m pip install 'robustmix[torchattacks]'",
            code="E-NEEDS-TORCHATTACKS",
        )


def _find(name: str) -> Any:
    require_torchattacks()
    package = importlib.import_module("torchattacks")
    if name in REFUSED:
        raise UsageError(f"torchattacks:{name} is not offered: {REFUSED[name]}", code="E-ATTACK")
    known = [each for each in package.__all__ if each not in REFUSED]
    if name not in known:
        raise unknown_name("torchattacks attack", name, known, code="E-UNKNOWN-ATTACK")
    return getattr(package, name)


def _knobs(
    kind: Any, name: str, *, norm: Norm, eps: float, seed: int, options: Mapping[str, Knob]
) -> dict[str, Knob]:
    """Choose the keyword arguments of an attack's class."""
    accepted = set(inspect.signature(kind).parameters) - {"model"}
    ours: dict[str, Knob] = {"eps": eps, "max_epsilon": eps, "seed": seed}
    ours["norm"] = {"linf": "Linf", "l2": "L2"}[norm]
    for option in options:
        if option in ours or option not in accepted:
            free = sorted(accepted - set(ours))
            raise unknown_name(f"option of torchattacks:{name}", option, free, code="E-OPTION")
    possible = _norms(name, inspect.signature(kind).parameters)
    if norm not in possible:
        raise UsageError(
            f"torchattacks:{name} is an {possible[0]} attack, not {norm}", code="E-NORM"
        )
    return {key: value for key, value in ours.items() if key in accepted} | dict(options)


def _inside(
    name: str, images: Tensor, found: Tensor, *, norm: Norm, eps: float, doubts: Doubts
) -> Tensor:
    """Clip the result; what an attack without a radius left outside becomes clean."""

    def broken() -> IncompleteError:
        text = f"torchattacks:{name} returned broken images"
        return IncompleteError(text, code="E-ATTACK-BALL")

    if found.shape != images.shape:
        raise broken()
    doubts.note(not_finite(found), broken)
    clipped = found.clamp(0, 1)
    beyond = lengths(clipped - images, norm=norm) - eps
    outside = beyond > BALL_TOLERANCE
    if name in MINIMUM_NORM:
        return torch.where(outside.view(-1, 1, 1, 1), images, clipped)
    left = torch.maximum(beyond.amax(), (found - clipped).abs().amax())

    def left_ball() -> IncompleteError:
        text = f"torchattacks:{name} left its ball by {float(left):.2g}"
        return IncompleteError(text, code="E-ATTACK-BALL")

    doubts.note(left > BALL_TOLERANCE, left_ball)
    return clipped


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the package's prints off stdout, which may carry JSON, and its deprecations away."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def _preserved(device: torch.device, seed: int) -> Iterator[None]:
    """Seed every global generator the package may use and put all back afterwards."""
    devices = [device] if device.type == "cuda" else []
    plain, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - it is restored
    try:
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - the package draws from it
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(legacy)  # noqa: NPY002
