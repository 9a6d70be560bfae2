"""The AutoAttack ensembles, built from their parts: APGD-CE, APGD-T, FAB-T, Square, and others.

The reports call it ``autoattack-ta-equivalent``: the parameters are those of the standard
ensemble, the code is this project's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

from robustmix.attacks.apgd import apgd
from robustmix.attacks.attack import Attack, attack, own_keys
from robustmix.attacks.ball import Norm, check_problem, per_sample
from robustmix.attacks.doubts import Doubts
from robustmix.attacks.expectation import Looks
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

Version: TypeAlias = Literal["standard", "plus", "rand"]

MEMBERS: Mapping[Version, tuple[str, ...]] = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "plus": ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"),
    "rand": ("apgd-ce", "apgd-dlr"),
}

RESTARTS: Mapping[Version, int] = {"standard": 1, "plus": 5, "rand": 1}
"""Of APGD and FAB without targets."""

EOT = 20
"""Passes that a gradient is the mean of in version ``rand``."""

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
    version: Version = "standard",
) -> tuple[Member, ...]:
    """Make the members of a version of the ensemble, in order.

    Args:
        norm: norm of the ball.
        eps: its radius, in [0, 1] pixel units.
        num_classes: K; the targeted members go towards the min(9, K - 1) highest other classes.
        steps: gradient steps of APGD and FAB; all versions have 100.
        queries: of Square; all versions that have it have 5,000.
        version: ``standard``; ``plus``, with untargeted DLR and FAB too and five restarts of what
            is untargeted; ``rand``, of random networks, with the mean of 20 passes for a gradient.

    Raises:
        UsageError: fewer classes than DLR needs: 4 where it is targeted, else 3.
        ValueError: there is no such version.
    """
    if version not in MEMBERS:
        raise ValueError(f"expected version {', '.join(MEMBERS)}, got {version!r}")
    least = 4 if "apgd-t" in MEMBERS[version] else 3
    if num_classes < least:
        raise UsageError(
            f"AutoAttack needs at least {least} classes for {'targeted ' * (least > 3)}DLR, got "
            f"{num_classes}",
            "use the suites pgd and fgsm",
            code="E-AUTOATTACK-CLASSES",
        )
    restarts, one = RESTARTS[version], {"steps": steps, "restarts": 1}
    several = {"steps": steps, "restarts": restarts}
    looks: dict[str, Any] = {"eot": EOT} if version == "rand" else {}
    targets = {"targets": min(9, num_classes - 1)}
    climb: dict[str, Knob] = {"rho": 0.75}
    walk: dict[str, Knob] = {"alpha_max": ALPHA_MAX, "eta": ETA, "beta": BETA}
    search: dict[str, Knob] = {
        "p_init": 0.8, "loss": "margin", "reschedule": False, "restarts": 1
    }  # fmt: skip
    # What each is called with, and what is said of it beside that.
    known: dict[str, tuple[Attack[...], dict[str, Any], dict[str, Knob]]] = {
        "apgd-ce": (apgd, several | looks | {"loss": "ce"}, climb),
        "apgd-t": (apgd, one | {"loss": "dlr"} | targets, climb),
        "fab-t": (fab, one | targets, walk),
        "square": (square, {"queries": queries}, search),
        "apgd-dlr": (apgd, several | looks | {"loss": "dlr"}, climb),
        "fab": (fab, several | {"targets": None}, walk | {"untargeted": True}),
    }
    ball: dict[str, Knob] = {"norm": norm, "eps": eps}
    members = []
    for name in MEMBERS[version]:
        member, given, said = known[name]
        early = {"stop_early": True} if member is fab else {}
        members.append(
            Member(
                name=name,
                number=list(known).index(name),
                params=ball | {key: knob for key, knob in given.items() if knob is not None} | said,
                attack=partial(_call, member, ball | given | early),
            )
        )
    return tuple(members)


def _call(
    member: Attack[...],
    given: Mapping[str, Any],
    model: Model,
    images: Tensor,
    labels: Tensor,
    keys: Tensor,
) -> Outcome:
    return member.outcome(model, images, labels, keys=keys, **given)


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
    version: Version = "standard",
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """Run APGD-CE, APGD-T, FAB-T and Square, each on what the ones before have left.

    So does the standard version; ``plus`` and ``rand`` have other members.

    Args:
        model: images (N, C, H, W) in [0, 1] -> logits (N, K), in eval mode.
        images: clean images, (N, C, H, W) in [0, 1].
        labels: true classes, int64 (N,).
        eps: radius of the ball, in [0, 1] pixel units (8/255, not 8).
        norm: ``linf`` or ``l2``.
        steps: gradient steps of APGD and FAB; the standard has 100.
        queries: forward passes of Square; the standard has 5,000.
        version: standard; plus: stronger and dearer by untargeted DLR and FAB and five restarts;
            rand: APGD with CE and DLR for networks whose answers are random, each gradient the
            mean of 20 passes.
        seed: what all draws follow from where there are no keys.
        keys: one 64-bit key a sample, int64 (N,).

    Returns:
        Images (N, C, H, W): those that were misclassified, the clean ones where there are none or
        they are misclassified themselves. The outcome has ``stages``, one a member.

    Raises:
        UsageError: fewer than 4 classes, which targeted DLR needs, or 3 in version ``rand``.
        ValueError: an argument is invalid.
        IncompleteError: the model returned NaN or infinite logits, or gives no gradient.

    Reference:
        Croce and Hein 2020, arXiv:2003.01690, section 5.
    """
    doubts = Doubts()
    check_problem(model, images, labels, norm=norm, eps=eps, keys=keys, doubts=doubts)
    keys = own_keys(keys, seed, images)
    with Looks(EOT if version == "rand" else 1, keys).drawing(images.device):
        logits = scores(model, images, doubts)
        doubts.settle()
        members = ensemble(
            norm=norm,
            eps=eps,
            num_classes=logits.shape[1],
            steps=steps,
            queries=queries,
            version=version,
        )
        stages = tuple(
            cascade(
                model,
                images,
                labels,
                members=members,
                norm=norm,
                eps=eps,
                keys=keys,
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
