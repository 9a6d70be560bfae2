"""The one table of suites; attacks are suites too, each by its name in the table of attacks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robustmix.attacks.registry import ATTACKS, PREFIX
from robustmix.errors import IntakeError, unknown_name
from robustmix.report.schema import OriginPart
from robustmix.tables import Row, Table

if TYPE_CHECKING:
    from robustmix.evaluation.suite import Prepared, Suite

_HERE = "robustmix.evaluation.suites"

SUITES: "Table[type[Suite], Row]" = Table(
    "suite",
    Row,
    {
        "clean": Row(
            f"{_HERE}.clean:Clean",
            "accuracy, NLL, Brier and per-class accuracy on the unchanged test images",
        ),
        "calibration": Row(
            f"{_HERE}.calibration:Calibration",
            "ECE and its relatives, reliability tables, temperature scaling",
        ),
        "corruption": Row(
            f"{_HERE}.corruption:Corruption",
            "accuracy under common corruptions (CIFAR-C files or generated)",
        ),
        "localisation": Row(
            f"{_HERE}.localisation:Localisation",
            "whether maps of the true class find the object: MaxBoxAcc, MaxBoxAccV2, PxAP",
        ),
        "masking": Row(
            f"{_HERE}.masking:Masking",
            "whether the attacks' numbers can be believed: 16 checks for hidden gradients",
        ),
        "occlusion": Row(
            f"{_HERE}.occlusion:Occlusion",
            "accuracy as patches are masked: random, salient first or last, the object or not",
        ),
        "agreement": Row(
            f"{_HERE}.agreement:Agreement",
            "whether other models make the same mistakes, and are fooled by the same images",
        ),
        "ood": Row(
            f"{_HERE}.ood:Ood",
            "how well MSP, largest logit and energy tell out-of-distribution images",
        ),
        "perturbation": Row(
            f"{_HERE}.perturbation:Perturbation",
            "flip probability and top-5 distance on sequences (ImageNet-P, CIFAR-P)",
        ),
        "shift": Row(
            f"{_HERE}.shift:Shift",
            "accuracy and calibration on shift sets: ImageNet-A, -R, -V2, CIFAR-10.1, C-bar, ...",
        ),
        "shuffle": Row(f"{_HERE}.shuffle:Shuffle", "accuracy as pieces of the image change places"),
    },
)

BEFORE_ATTACKS = ("clean", "calibration", "corruption", "masking")
"""All others compare with ``clean``; ``masking`` says of the attacks whether to believe them."""


BY_FILES = ("agreement", "localisation", "ood", "perturbation", "shift")
"""Suites that read files beside the data set and the model, which a user must have; ``all`` does
not stand for them."""


def suite_rows() -> dict[str, Row]:
    """Give every suite with its line of help, in the order they run: attacks in the middle."""
    rows, attacks = SUITES.rows(), ATTACKS.rows()
    first = {name: rows.pop(name) for name in BEFORE_ATTACKS}
    return first | dict(attacks) | rows


def suite_names() -> list[str]:
    """Name every suite in the order they run; imports nothing."""
    rest = [name for name in SUITES if name not in BEFORE_ATTACKS]
    return [*BEFORE_ATTACKS, *ATTACKS, *rest]


def names_of_all() -> list[str]:
    """Name what ``all`` stands for.

    That is every suite but attacks that are part of another attack or asked for by name alone, and
    those of ``BY_FILES``.
    """
    rows = {name: ATTACKS.row(name) for name in ATTACKS}
    left = {name for name, row in rows.items() if row.part_of or row.by_name} | {*BY_FILES}
    return [name for name in suite_names() if name not in left]


def find_suite(name: str) -> "Suite":
    """Give a suite with its defaults by its name; ``torchattacks:NAME`` included.

    Raises:
        UsageError: there is none of this name.
    """
    if name in SUITES:
        return SUITES[name]()
    if name in ATTACKS or name.startswith(PREFIX):
        from robustmix.evaluation.suites.attack import Attack

        return Attack(attack=name)
    raise unknown_name("suite", name, [*suite_names(), "all"])


def name_of(suite: "Suite") -> str:
    """Name a suite as the table does; attacks bear the name of the attack."""
    own = getattr(suite, "attack", "")
    if own:
        return str(own)
    kind = type(suite)
    target = f"{kind.__module__}:{kind.__qualname__}"
    for name in SUITES:
        if SUITES.target(name) in (kind, target):
            return name
    # One that is not in the table is a variant of one that is, as a published tool's FGSM.
    return kind.called or kind.__name__.lower()


def read_suite(
    key: str, params: Mapping[str, Any], origins: "list[OriginPart] | None" = None
) -> "Prepared":
    """Read back a suite from what a report records of it.

    Args:
        key: its name in the report, ``fgsm@quick``.
        params: its recorded parameters.
        origins: where it came from, for the message where that is not installed.

    Raises:
        IntakeError: it is unknown here, or the parameters are not its own.
    """
    name = key.partition("@")[0]
    try:
        if name in SUITES:
            return SUITES[name].read(params)
        if name in ATTACKS or name.startswith(PREFIX):
            from robustmix.evaluation.suites.attack import recorded_attack

            return recorded_attack(name, params)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise IntakeError(
            f"the recorded parameters of suite {key} are damaged ({type(error).__name__})",
            "evaluate again",
        ) from None
    if origins:
        raise IntakeError(
            f"suite {key} came from {origins[0].module} {origins[0].version}, which is not here",
            "install it, or import its file with --import",
            code="E-PLUGIN-ABSENT",
        )
    raise IntakeError(
        f"the report has a suite this version does not know: {key}",
        "update robustmix",
        code="E-SUITE-UNKNOWN",
    )
