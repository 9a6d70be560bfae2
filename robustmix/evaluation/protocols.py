"""Named protocols: which suites with which options, so that figures can be compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from robustmix.errors import UsageError, unknown_name
from robustmix.files import expanded

if TYPE_CHECKING:
    from robustmix.evaluation.suite import Suite

# Suites are imported where they are made: the names and help lines are listed without torch.


@dataclass(frozen=True, kw_only=True)
class ProtocolScene:
    """What a protocol needs to know of the images."""

    side: int = 32
    """Of the model's input, in pixels."""

    imagenet: bool = False
    saliency_file: Path | None = None
    modes: tuple[str, ...] | None = None
    """Orders of occlusion that were asked for; None: those that the protocol has."""

    @classmethod
    def of(cls, side: int, dataset: str, options: Mapping[str, object]) -> "ProtocolScene":
        """Take from the model, the data set's name and the options what protocols go by."""
        file, mode = options.get("saliency_file"), options.get("mode")
        if isinstance(mode, str):
            mode = [name.strip() for name in mode.split(",")]
        return cls(
            side=side,
            imagenet=dataset.startswith("imagenet"),
            saliency_file=expanded(str(file)) if file is not None else None,
            modes=tuple(map(str, mode)) if isinstance(mode, Sequence) else None,
        )

    @property
    def eps(self) -> tuple[Fraction, ...]:
        """The customary radius: 8/255, on ImageNet 4/255."""
        return (Fraction(4 if self.imagenet else 8, 255),)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One named protocol."""

    help: str
    suites: "Callable[[ProtocolScene], Sequence[Suite]]"
    limits: Mapping[str, int] = field(default_factory=dict)
    """Most samples of a suite; all of them where none is named."""

    nonstandard: bool = False
    """Whether it repeats a published tool, faults included, to be compared with its tables alone.
    """


TENTHS = tuple(Fraction(k, 10) for k in range(10))
TENTHS_OF_MASS = tuple(Fraction(k, 10) for k in range(1, 11))


def _attack(name: str, **options: object) -> "Suite":
    from robustmix.evaluation.suites.registry import find_suite

    return find_suite(name).with_options(**options)


def _standard(scene: ProtocolScene) -> "list[Suite]":
    from robustmix.evaluation.suites.calibration import Calibration
    from robustmix.evaluation.suites.clean import Clean
    from robustmix.evaluation.suites.corruption import Corruption
    from robustmix.evaluation.suites.occlusion import Occlusion

    return [
        Clean(),
        Calibration(),
        Corruption(),
        _attack("fgsm", eps=scene.eps),
        _attack("pgd", eps=scene.eps, steps=20),
        Occlusion(),
    ]


def _quick(scene: ProtocolScene) -> "list[Suite]":
    from robustmix.evaluation.suites.calibration import Calibration
    from robustmix.evaluation.suites.clean import Clean
    from robustmix.evaluation.suites.corruption import Corruption
    from robustmix.evaluation.suites.occlusion import Occlusion

    return [
        Clean(),
        Calibration(),
        Corruption(corruptions="main", severity=(1, 3, 5)),
        _attack("fgsm", eps=scene.eps, sweep=(), masking="off"),
        _attack("pgd", eps=scene.eps, steps=10, masking="off"),
        Occlusion(ratios=tuple(Fraction(k, 10) for k in (0, 3, 6, 9)), trials=2),
    ]


def _paper_occlusion(scene: ProtocolScene) -> "Suite":
    from robustmix.evaluation.suites.occlusion import Occlusion

    grid = 14 if scene.side % 14 == 0 else 8
    return Occlusion(
        grid=(grid, grid),
        ratios=TENTHS,
        trials=1,
        mask_scope="batch:100",
        rounding="half-even",
    )


def _published(scene: ProtocolScene, fgsm: "Suite") -> "list[Suite]":
    from robustmix.evaluation.suites.calibration import Calibration
    from robustmix.evaluation.suites.clean import Clean
    from robustmix.evaluation.suites.corruption import Corruption

    calibration = Calibration(ece_bins=(10,), paper_tool=True)
    return [Clean(), calibration, Corruption(), fgsm, _paper_occlusion(scene)]


def _paper_adautomix(scene: ProtocolScene) -> "list[Suite]":
    from robustmix.evaluation.suites.fgsm import PaperFgsm

    return _published(scene, PaperFgsm())


def _openmixup_2025(scene: ProtocolScene) -> "list[Suite]":
    return _published(scene, _attack("fgsm"))


def _hendrycks(scene: ProtocolScene) -> "list[Suite]":
    from robustmix.evaluation.suites.calibration import Calibration
    from robustmix.evaluation.suites.clean import Clean
    from robustmix.evaluation.suites.corruption import Corruption

    reference = "alexnet" if scene.imagenet else None
    return [Clean(), Calibration(), Corruption(corruptions="main", mce_reference=reference)]


def _robustbench(scene: ProtocolScene) -> "list[Suite]":
    from robustmix.evaluation.suites.clean import Clean
    from robustmix.evaluation.suites.corruption import Corruption

    return [Clean(), Corruption(corruptions="main"), _attack("autoattack", eps=scene.eps)]


def _naseer_patchdrop(scene: ProtocolScene) -> "list[Suite]":
    from robustmix.evaluation.suites.clean import Clean
    from robustmix.evaluation.suites.occlusion import Occlusion
    from robustmix.evaluation.suites.occlusion_rows import RANDOM, RANKED

    modes = scene.modes or (*RANDOM, *(RANKED if scene.saliency_file else ()))
    suite = Occlusion(grid=(14, 14), fill="black", trials=1, mode=modes)
    # An option that none of the modes has is refused, whoever sets it.
    if set(modes) - {*RANKED}:
        suite = suite.with_options(ratios=TENTHS, rounding="floor", mask_scope="batch:256")
    if set(modes) & {*RANKED}:
        suite = suite.with_options(mass=TENTHS_OF_MASS, saliency_file=scene.saliency_file)
    return [Clean(), suite]


PROTOCOLS: dict[str, Protocol] = {
    "standard": Protocol(
        help="the suites as they are defined here; FGSM and PGD-20 at 8/255 (ImageNet 4/255)",
        suites=_standard,
    ),
    "quick": Protocol(
        help="minutes instead of hours: parts of the test set chosen by the seed, for CI",
        suites=_quick,
        limits={"corruption": 100, "fgsm": 256, "pgd": 128, "occlusion": 128},
    ),
    "paper-adautomix": Protocol(
        help="the arithmetic of AdAutoMix's published scripts, faults included",
        suites=_paper_adautomix,
        nonstandard=True,
    ),
    "openmixup-2025": Protocol(
        help="OpenMixup's scripts of October 2025: pixel FGSM, their other faults kept",
        suites=_openmixup_2025,
        nonstandard=True,
    ),
    "hendrycks": Protocol(
        help="RMS calibration error, and mCE over the main 15 corruptions", suites=_hendrycks
    ),
    "robustbench": Protocol(
        help="the main 15 corruptions, and AutoAttack on 1,000 images",
        suites=_robustbench,
        limits={"autoattack": 1000},
    ),
    "naseer-patchdrop": Protocol(
        help="PatchDrop as first published: black 14x14 patches, a mask for 256 images, or with "
        "--saliency-file by shares of the saliency",
        suites=_naseer_patchdrop,
        nonstandard=True,
    ),
}
"""By the name that ``--protocol`` takes."""


class Place(NamedTuple):
    """A suite of a protocol and its place in a report."""

    suite: "Suite"
    name: str
    limit: int | None
    of: tuple[str, ...]
    preset: str | None = None


def suites_of_protocols(
    names: Sequence[str],
    scene: ProtocolScene,
    wanted: Sequence[str] | None = None,
    *,
    change: "Callable[[Suite], Suite]" = lambda suite: suite,
) -> list[Place]:
    """Give the suites of some protocols, each once, side by side where they differ.

    The first suite of a kind has the plain key ``fgsm``, unless its protocol repeats a published
    tool; what another protocol asks for in another way is ``fgsm@PROTOCOL``. What two protocols
    ask for in the same way is run once.

    Args:
        names: keys of ``PROTOCOLS``.
        scene: what they need to know of the images.
        wanted: only suites of these names; None for all.
        change: sets the options that were given; suites that are then alike are run once.

    Raises:
        UsageError: a protocol is unknown or named twice, or has none of the wanted suites.
    """
    from robustmix.evaluation.suites.registry import name_of

    if len(set(names)) < len(names):
        raise UsageError("a protocol is asked for twice", "name it once", code="E-PROTOCOL")
    places: list[Place] = []
    for protocol in names:
        if protocol not in PROTOCOLS:
            raise unknown_name("protocol", protocol, PROTOCOLS)
        limits = PROTOCOLS[protocol].limits
        chosen = [
            Place(suite, name, limits.get(name), (protocol,))
            for suite in PROTOCOLS[protocol].suites(scene)
            if (name := name_of(suite)) == "clean" or wanted is None or name in wanted
        ]
        if wanted is not None and not {place.name for place in chosen} & set(wanted):
            raise UsageError(
                f"protocol {protocol} has none of the suites {', '.join(wanted)}",
                "leave --suite out, or see `robustmix list protocols`",
                code="E-PROTOCOL",
            )
        for place in chosen:
            _add(places, place._replace(suite=change(place.suite)), scene)
    return places


def _add(places: list[Place], place: Place, scene: ProtocolScene) -> None:
    (protocol,) = place.of
    for at, other in enumerate(places):
        if (other.suite, other.limit) == (place.suite, place.limit):
            places[at] = other._replace(of=(*other.of, protocol))
            return
    taken = any(one.preset is None and one.name == place.name for one in places)
    faulty = PROTOCOLS[protocol].nonstandard and place.suite not in _standard(scene)
    places.append(place._replace(preset=protocol) if taken or faulty else place)
