"""The AutoAttack ensemble, built from its parts: APGD-CE, APGD-T, FAB-T, Square.

The reports call it ``autoattack-ta-equivalent``: the parameters are those of the standard
ensemble, the code is not (APGD and Square are this project's, FAB is torchattacks').
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from torch import Tensor

from robustmix.attacks.apgd import apgd
from robustmix.attacks.ball import Norm, check_problem
from robustmix.attacks.harness import CountingModel, verify
from robustmix.attacks.losses import Goal, standing
from robustmix.attacks.square import square
from robustmix.attacks.torchattacks_adapter import Option, require_torchattacks, torchattack
from robustmix.errors import UsageError
from robustmix.rng import philox
from robustmix.types import Model

AUTOATTACK = "autoattack-ta-equivalent"
"""Name in reports; ``autoattack-standard`` is kept for the authors' own code."""

MemberAttack: TypeAlias = Callable[[Model, Tensor, Tensor, Tensor], Tensor]
"""(model, images, labels, keys) -> images in the ball."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One attack of the ensemble."""

    name: str

    number: int
    """Its place in the full ensemble, which selects its random streams."""

    params: Mapping[str, Option]
    """Everything its result depends on, beside the keys."""

    attack: MemberAttack


class Stage(NamedTuple):
    """Where the ensemble stands after one of its members."""

    member: str

    tried: Tensor
    """bool (N,): the samples that the member attacked, those still classified correctly."""

    broken: Tensor
    """bool (N,): the samples misclassified by now, by the harness's own scoring."""

    images: Tensor
    """(N, C, H, W): the image that broke each sample; the clean one for all others."""

    forwards: int
    """Forward passes of single images that the member spent, the harness's scoring included."""

    backwards: int


def ensemble(
    *,
    norm: Norm,
    eps: float,
    num_classes: int,
    steps: int = 100,
    queries: int = 5000,
) -> tuple[Member, ...]:
    """Return the four members of the standard ensemble, in order.

    Args:
        norm: norm of the ball.
        eps: its radius, in [0, 1] pixel units.
        num_classes: K; the targeted members go towards the min(9, K - 1) highest other classes.
        steps: gradient steps of APGD and FAB; the standard has 100.
        queries: of Square; the standard has 5,000.

    Raises:
        UsageError: fewer than 4 classes, which targeted DLR needs, or no torchattacks.
    """
    if num_classes < 4:
        raise UsageError(
            f"AutoAttack needs at least 4 classes for targeted DLR, got {num_classes}",
            "use the suites pgd and fgsm",
            code="E-AUTOATTACK-CLASSES",
        )
    require_torchattacks()
    targets = min(9, num_classes - 1)
    ball: dict[str, Option] = {"norm": norm, "eps": eps}
    climb: dict[str, Option] = {"steps": steps, "restarts": 1, "rho": 0.75}

    def apgd_ce(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        return apgd(model, images, labels, eps=eps, norm=norm, steps=steps, keys=keys).best

    def apgd_t(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        found = apgd(
            model,
            images,
            labels,
            eps=eps,
            norm=norm,
            steps=steps,
            loss="dlr",
            targets=targets,
            keys=keys,
        )
        return found.best

    fab: dict[str, Option] = {
        "steps": steps,
        "n_restarts": 1,
        "multi_targeted": True,
        "n_classes": targets + 1,  # the package takes one target fewer than this
        "alpha_max": 0.1,
        "eta": 1.05,
        "beta": 0.9,
    }

    def fab_t(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        # With one restart FAB starts at the image and draws nothing: the seed is a formality.
        return torchattack(
            model, images, labels, name="FAB", eps=eps, norm=norm, seed=0, options=fab
        )

    def square_margin(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Tensor:
        return square(model, images, labels, eps=eps, norm=norm, queries=queries, keys=keys).best

    search: dict[str, Option] = {
        "queries": queries,
        "p_init": 0.8,
        "loss": "margin",
        "reschedule": False,
        "restarts": 1,
    }
    return (
        Member(name="apgd-ce", number=0, params=ball | climb | {"loss": "ce"}, attack=apgd_ce),
        Member(
            name="apgd-t",
            number=1,
            params=ball | climb | {"loss": "dlr", "targets": targets},
            attack=apgd_t,
        ),
        Member(name="fab-t", number=2, params=ball | fab | {"targets": targets}, attack=fab_t),
        Member(name="square", number=3, params=ball | search, attack=square_margin),
    )


def cascade(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    members: Sequence[Member],
    norm: Norm,
    eps: float,
    keys: Tensor,
    broken: Tensor | None = None,
) -> Iterator[Stage]:
    """Run attacks one after another, each on what the ones before have left.

    Nothing is remembered between stages but ``broken``: to go on after a finished stage, pass its
    ``broken`` and the members that remain; the result is the same as without the break.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        members: the attacks, e.g. of :func:`ensemble`.
        norm: the norm in which results are checked.
        eps: the radius in which results are checked.
        keys: one 64-bit key a sample, int64 (N,); each member derives its own from it.
        broken: samples that are not to be attacked any more, bool (N,); None: those that are
            misclassified as they are.

    Yields:
        One stage a member; members that find no survivors are passed by without work.

    Raises:
        IncompleteError: a member left the ball, or the model returned NaN.
        ValueError: a problem that cannot be meant.
    """
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys)
    if broken is None:
        broken = standing(model, images, Goal("ce", labels)).reached
    found = images.clone()
    for member in members:
        rows = (~broken).nonzero().flatten()
        counting = CountingModel(model)
        tried, broken, found = ~broken, broken.clone(), found.clone()
        if len(rows):
            own = fork_keys(keys.to(images.device)[rows], member.number)
            centres, right = images[rows], labels[rows]
            raw = member.attack(counting, centres, right, own)
            checked = verify(counting, centres, right, raw, norm=norm, eps=eps)
            won = rows[checked.success]
            broken[won] = True
            found[won] = checked.attacked.images[checked.success]
        yield Stage(member.name, tried, broken, found, counting.forwards, counting.backwards)


def autoattack(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    num_classes: int,
    norm: Norm = "linf",
    steps: int = 100,
    queries: int = 5000,
    keys: Tensor,
) -> tuple[Stage, ...]:
    """Run the whole ensemble.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        num_classes: K, at least 4.
        norm: ``linf`` or ``l2``.
        steps: gradient steps of APGD and FAB; the standard has 100.
        queries: of Square; the standard has 5,000.
        keys: one 64-bit key a sample, int64 (N,).

    Returns:
        One stage a member; the last one's ``images`` and ``broken`` are the result.

    Reference:
        Croce and Hein 2020, arXiv:2003.01690, section 5.
    """
    members = ensemble(norm=norm, eps=eps, num_classes=num_classes, steps=steps, queries=queries)
    return tuple(cascade(model, images, labels, members=members, norm=norm, eps=eps, keys=keys))


def fork_keys(keys: Tensor, number: int) -> Tensor:
    """Return keys of independent streams, int64 (N,): one set for every ``number``."""
    words = philox(keys, 2, counter_high=(1 << 31) + number)
    return (words[:, 1] << 32) | words[:, 0]
