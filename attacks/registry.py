"""The one table of attacks; needs no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.attacks.attack import Attack


@dataclass(frozen=True)
class AttackRow(Row):
    """What is known of an attack before it is imported."""

    norms: tuple[str, ...] = ()
    """In which norms it works, ``linf`` or ``l2``, the usual one first; empty: those that its
    argument ``norm`` allows."""

    part_of: str = ""
    """The ensemble that runs it anyway, so that asking for all suites runs it once."""

    direction: str = ""
    """``"module:function"`` (gradient, *, norm) -> the step of length 1 that is all it does, for an
    attack of one step: a single gradient then serves every radius."""

    traced: bool = False
    """Whether it is a search of ``steps`` steps whose options, as far as it has them, are those of
    ``pgd`` and whose outcomes have ``first_step``, ``last`` and ``zero_gradient``: it is then told
    whether half or twice the steps find as much."""

    step_passes: int = 0
    """Most forward passes that a step of it makes (at most one goes back), or a query, where it has
    an option ``steps`` or ``queries``: forecasts of what it costs go by that; 0: it is not known
    before."""

    searches: str = ""
    """Its option, if it has one, that says how many searches of ``steps`` steps it makes."""

    step_gradients: str = ""
    """Its option that says how often a step goes back, where that is not once."""

    every_class: bool = False
    """Whether ``targets`` may be None though it is a number by default, and every step then goes
    back once for each class."""

    surrogate: bool = False
    """Whether its images are made on another model, its argument ``surrogate``, which the suite has
    to be given then."""

    by_name: bool = False
    """Whether it is run only where it is asked for by its name: ``all`` does not stand for it."""

    budget: tuple[str, ...] = ()
    """Options that its name stands for certain values of; who wants others says so in Python."""

    members: str = ""
    """``"module:function"`` that makes AutoAttack's members, which the suite runs one by one over
    what those before have left, so that an interrupted evaluation resumes between them."""


BOTH = ("linf", "l2")

ATTACKS: "Table[Attack[...], AttackRow]" = Table(
    "attack",
    AttackRow,
    {
        "fgsm": AttackRow(
            "robustmix.attacks.fgsm:fgsm",
            "one signed gradient step of length eps (Goodfellow et al. 2015)",
            norms=BOTH,
            direction="robustmix.attacks.ball:ascent_direction",
        ),
        "pgd": AttackRow(
            "robustmix.attacks.pgd:pgd",
            "projected gradient steps, linf or l2, restarts, targets (Madry et al. 2018)",
            norms=BOTH,
            traced=True,
        ),
        "apgd": AttackRow(
            "robustmix.attacks.apgd:apgd",
            "PGD that sets its own step size, CE or DLR (Croce & Hein 2020)",
            norms=BOTH,
            step_passes=1,
            part_of="autoattack",
        ),
        "square": AttackRow(
            "robustmix.attacks.square:square",
            "random search without gradients (Andriushchenko et al. 2020)",
            norms=BOTH,
            step_passes=1,
            part_of="autoattack",
        ),
        "fab": AttackRow(
            "robustmix.attacks.fab:fab",
            "nearest decision boundaries, targeted (Croce & Hein 2020)",
            norms=BOTH,
            step_passes=2,
            every_class=True,
            part_of="autoattack",
        ),
        "deepfool": AttackRow(
            "robustmix.attacks.deepfool:deepfool",
            "steps onto the nearest linear boundary (Moosavi-Dezfooli et al. 2016)",
            norms=BOTH,
            step_passes=1,
            step_gradients="candidates",
            by_name=True,
        ),
        "cw": AttackRow(
            "robustmix.attacks.cw:cw",
            "smallest change in l2, by Adam on a weighted sum (Carlini & Wagner 2017)",
            norms=("l2",),
            step_passes=1,
            searches="binary_search_steps",
            by_name=True,
        ),
        "mifgsm": AttackRow(
            "robustmix.attacks.mifgsm:mifgsm",
            "MI-FGSM: signed gradient steps with momentum, linf (Dong et al. 2018)",
            norms=("linf",),
            step_passes=1,
            by_name=True,
        ),
        "transfer": AttackRow(
            "robustmix.attacks.transfer:transfer",
            "images made on another model, --surrogate, by MI-FGSM or PGD (Liu et al. 2017)",
            norms=BOTH,
            step_passes=1,
            surrogate=True,
            by_name=True,
        ),
        "autoattack": AttackRow(
            "robustmix.attacks.autoattack:autoattack",
            "APGD-CE, APGD-T, FAB-T, Square over survivors; plus, rand (Croce & Hein 2020)",
            norms=BOTH,
            budget=("steps", "queries"),
            members="robustmix.attacks.autoattack:ensemble",
        ),
    },
)

PREFIX = "torchattacks:"

FAMILIES: dict[str, str] = {
    PREFIX + "NAME": "any attack of torchattacks, e.g. torchattacks:CW (optional extra)",
}
"""Names that stand for many, with a line of help each; :func:`find_attack` knows them too."""


def find_attack(name: str) -> "Attack[...]":
    """Give the attack called ``name``: one of the table, or ``torchattacks:NAME``.

    Raises:
        UsageError: there is none, or torchattacks is not installed.
        IntakeError: it is foreign and cannot be imported.
    """
    # Imported here because the table itself is read where torch must not be.
    if name.startswith(PREFIX):
        from robustmix.attacks.torchattacks_adapter import foreign_attack

        return foreign_attack(name.removeprefix(PREFIX))
    from robustmix.attacks.attack import attack_of

    return attack_of(ATTACKS.load(name))


def attack_norms(name: str) -> tuple[str, ...]:
    """Tell in which norms an attack works, the usual one first.

    Raises:
        UsageError: there is no such attack, or torchattacks is not installed.
        IntakeError: it is foreign and cannot be imported.
    """
    if name in ATTACKS and ATTACKS.row(name).norms:
        return ATTACKS.row(name).norms
    from robustmix.attacks.attack import norms_in

    return norms_in(find_attack(name))
