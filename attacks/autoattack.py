"""The AutoAttack ensemble, built from its parts: APGD-CE, APGD-T, FAB-T, Square.

The reports call it ``autoattack-ta-equivalent``: the parameters are those of the standard
ensemble, the code is this project's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from robustmix.attacks.apgd import apgd
from robustmix.attacks.attack import attack, own_keys
from robustmix.attacks.ball import Norm, check_problem, per_sample
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.fab import ALPHA_MAX, BETA, ETA, fab
from robustmix.attacks.harness import verify
from robustmix.attacks.losses import Goal, scores, standing
from robustmix.attacks.outcome import Outcome, Stage
from robustmix.attacks.search import of_rows, with_rows
from robustmix.attacks.square import square
from robustmix.errors import UsageError
from robustmix.later import Tensor, torch
from robustmix.rng import philox
from robustmix.types import Model

AUTOATTACK = "autoattack-ta-equivalent"
"""Name in reports; ``autoattack-standard`` is kept for the authors' own code."""

Knob: TypeAlias = str | int | float | bool

MemberAttack: TypeAlias = Callable[[Model, Tensor, Tensor, Tensor], Outcome]
"""(model, images, labels, keys) -> images in the ball and what each cost. No sample's may depend on
which others come with it."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One attack of the ensemble."""

    name: str

    number: int
    """Its place in the full ensemble, which selects its random streams."""

    params: Mapping[str, Knob]
    """Everything its result depends on, beside the keys."""

    attack: MemberAttack


def ensemble(
    *,
    norm: Norm,
    eps: float,
    num_classes: int,
    steps: int = 100,
    queries: int = 5000,
) -> tuple[Member, ...]:
    """Make the four members of the standard ensemble, in order.

    Args:
        norm: norm of the ball.
        eps: its radius, in [0, 1] pixel units.
        num_classes: K; the targeted members go towards the min(9, K - 1) highest other classes.
        steps: gradient steps of APGD and FAB; the standard has 100.
        queries: of Square; the standard has 5,000.

    Raises:
        UsageError: fewer than 4 classes, which targeted DLR needs.
    """
    if num_classes < 4:
        raise UsageError(
            f"AutoAttack needs at least 4 classes for targeted DLR, got {num_classes}",
            "use the suites pgd and fgsm",
            code="E-AUTOATTACK-CLASSES",
        )
    targets = min(9, num_classes - 1)
    ball: dict[str, Knob] = {"norm": norm, "eps": eps}
    climb: dict[str, Knob] = {"steps": steps, "restarts": 1, "rho": 0.75}

    def apgd_ce(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Outcome:
        return apgd.outcome(model, images, labels, eps=eps, norm=norm, steps=steps, keys=keys)

    def apgd_t(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Outcome:
        return apgd.outcome(
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

    def fab_t(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Outcome:
        return fab.outcome(
            model,
            images,
            labels,
            eps=eps,
            norm=norm,
            steps=steps,
            targets=targets,
            stop_early=True,
            keys=keys,
        )

    def square_margin(model: Model, images: Tensor, labels: Tensor, keys: Tensor) -> Outcome:
        return square.outcome(model, images, labels, eps=eps, norm=norm, queries=queries, keys=keys)

    walk: dict[str, Knob] = {
        "steps": steps,
        "restarts": 1,
        "targets": targets,
        "alpha_max": ALPHA_MAX,
        "eta": ETA,
        "beta": BETA,
    }

    search: dict[str, Knob] = {
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
        Member(name="fab-t", number=2, params=ball | walk, attack=fab_t),
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
        ValueError: the problem is invalid.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    if broken is None:
        broken = standing(model, images, Goal("ce", labels), doubts).reached
    doubts.settle()
    keys, found = keys.to(images.device), images.clone()
    for member in members:
        rows = (~broken).nonzero().flatten()
        forwards = backwards = torch.zeros_like(keys)
        tried, broken, found = ~broken, broken.clone(), found.clone()
        if len(rows):
            own = fork_keys(keys[rows], member.number)
            centres, right = images[rows], labels[rows]
            made = member.attack(model, centres, right, own)
            checked = verify(model, centres, right, made.images, norm=norm, eps=eps)
            forwards = with_rows(made.forwards.new_zeros(len(keys)), rows, made.forwards + 1)
            backwards = with_rows(made.backwards.new_zeros(len(keys)), rows, made.backwards)
            success, kept = checked.success, of_rows(found, rows)
            kept = torch.where(per_sample(success), checked.attacked.images, kept)
            broken = with_rows(broken, rows, success)
            found = with_rows(found, rows, kept)
        yield Stage(member.name, tried, broken, found, forwards, backwards)


@attack
def autoattack(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Norm = "linf",
    steps: int = 100,
    queries: int = 5000,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Run APGD-CE, APGD-T, FAB-T and Square, each on what the ones before have left.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K) of at least 4 classes, in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        steps: gradient steps of APGD and FAB; the standard has 100.
        queries: forward passes of Square; the standard has 5,000.
        seed: what all draws follow from where there are no keys.
        keys: one 64-bit key a sample, int64 (N,).

    Returns:
        Images (N, C, H, W): those that were misclassified, the clean ones where there are none or
        they are misclassified themselves. The outcome has ``stages``, one a member.

    Raises:
        UsageError: fewer than 4 classes, which targeted DLR needs.
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Croce and Hein 2020, arXiv:2003.01690, section 5.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    logits = scores(model, images, doubts)
    doubts.settle()
    members = ensemble(
        norm=norm, eps=eps, num_classes=logits.shape[1], steps=steps, queries=queries
    )
    stages = tuple(
        cascade(
            model,
            images,
            labels,
            members=members,
            norm=norm,
            eps=eps,
            keys=own_keys(keys, seed, images),
            broken=logits.argmax(dim=1) != labels,
        )
    )
    return Outcome(
        images=stages[-1].images,
        success=stages[-1].broken,
        forwards=1 + torch.stack([stage.forwards for stage in stages]).sum(dim=0),
        backwards=torch.stack([stage.backwards for stage in stages]).sum(dim=0),
        stages=stages,
    )


def fork_keys(keys: Tensor, number: int) -> Tensor:
    """Derive keys of independent streams, int64 (N,): one set for every ``number``."""
    words = philox(keys, 2, counter_high=(1 << 31) + number)
    return (words[:, 1] << 32) | words[:, 0]
