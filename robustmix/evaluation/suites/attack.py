"""Suites of attacks: any entry of the table of attacks by its name, ``torchattacks:NAME`` too."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import Any, ClassVar, Self, cast, get_args

from robustmix.attacks import ATTACKS, AttackRow, Norm, attack_norms, find_attack
from robustmix.attacks import Attack as AnyAttack
from robustmix.attacks import Option as AttackOption
from robustmix.attacks import options_of as attack_options
from robustmix.attacks.attack import is_plain
from robustmix.attacks.autoattack import AUTOATTACK, EOT, RESTARTS
from robustmix.attacks.pgd import STEPS_TO_EDGE
from robustmix.attacks.registry import PREFIX
from robustmix.attacks.transfer import SOURCES
from robustmix.errors import UsageError, unknown_name
from robustmix.evaluation.options import Option, coerced, option, options_of
from robustmix.evaluation.params import exact_name, read_params
from robustmix.evaluation.suite import Prepared, Scene, Suite
from robustmix.evaluation.suites.attack_ensemble import STANDARD, Ensemble, members_of
from robustmix.evaluation.suites.attack_rows import (
    SWEEPS,
    check_threat,
    headline_radius,
    parse_eps,
    parse_length,
)
from robustmix.evaluation.suites.attack_search import Search
from robustmix.evaluation.suites.attack_transfer import Transferred
from robustmix.evaluation.suites.attack_work import TARGETS, EachRadius, OneStep, PreparedAttack
from robustmix.evaluation.suites.fgsm import PaperFgsm
from robustmix.evaluation.suites.masking import Masking
from robustmix.evaluation.suites.surrogate import open_surrogate
from robustmix.later import torch

LIMIT = 1000
"""Most samples where no limit is asked for, of attacks that take long or may."""

BATCH = 32
"""Samples that come together where an attack is a function of whole batches."""

MOST = 1_000_000
"""Largest number of steps, restarts, queries or targets; steps are recorded in 32 bits."""

COUNTS = (
    "steps", "restarts", "queries", "targets", "eot", "candidates", "binary_search_steps"
)  # fmt: skip
"""Options of attacks that count something, by their usual names."""

NOT_ASKED = ("stop_early",)
"""Options of attacks that change what is recorded of a search, but not what it finds."""

ALIASES = {"cw": "margin"}
"""Of Carlini and Wagner's loss, the name ``cw`` is usual too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Attack(Suite):
    """What an attack leaves of the accuracy, at one radius or several."""

    recorded: ClassVar[type[Prepared]] = EachRadius
    hidden: ClassVar[tuple[str, ...]] = ("attack", "sweep", "own")
    """Fields that are no options: which attack it is, and what stands for its own options."""

    attack: str
    """Its name in the table of attacks, or ``torchattacks:NAME``."""

    norm: Norm | None = option(None, parse=str, form="linf|l2", shown="linf")
    """Norm of the ball: linf bounds each value's change, l2 the Euclidean length of all."""

    eps: tuple[Fraction, ...] | None = option(
        None, parse=parse_eps, form="8/255[,4/255,...]", shown="8/255, in l2 1/2"
    )
    """Radius of the ball in [0, 1] pixel units; of several, which make a curve, the first is the
    headline's."""

    masking: str = option("auto", form="auto|off")
    """auto: check once a run whether attacks are fooled by hidden gradients; off: do not."""

    sweep: tuple[Fraction, ...] | None = None
    """Radii of the curve where ``eps`` is one; None: those that are usual for the attack."""

    own: Mapping[str, Any] = field(default_factory=dict)
    """The attack's own options that were given, by their names."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.norm, self.eps, self.sweep) != (None, None, None):
            check_threat(self.chosen_norm, (*(self.eps or ()), *(self.sweep or ())))
            headline_radius(self.chosen_norm, self.eps)
        if self.masking not in ("auto", "off"):
            raise unknown_name("masking", self.masking, ("auto", "off"), code="E-MASKING")
        if self.own:
            object.__setattr__(self, "own", checked_options(self.attack, self.own))
            if self.own.get("step_size") is not None:
                check_threat(self.chosen_norm, [self.own["step_size"]], what="the step size")

    def __eq__(self, other: object) -> bool:
        """Tell whether both attack alike: a default may be given or left out."""
        if not isinstance(other, Attack):
            return NotImplemented
        return self.attack == other.attack and self._meant() == other._meant()

    def __hash__(self) -> int:
        """Hash what equal suites have in common."""
        return hash((self.attack, self.masking))

    def _meant(self) -> tuple[Any, ...]:
        return self.chosen_norm, self.radius, self.radii, self.masking, self.resolved()

    @property
    def chosen_norm(self) -> Norm:
        """The norm that was asked for, else the attack's usual one."""
        return self.norm or cast(Norm, attack_norms(self.attack)[0])

    @property
    def radius(self) -> Fraction:
        """The radius that the headline is of."""
        return headline_radius(self.chosen_norm, self.eps)

    @property
    def radii(self) -> tuple[Fraction, ...]:
        """Every radius, rising from 0."""
        listed = self.eps if self.eps and len(self.eps) > 1 else self.sweep
        if listed is None:
            listed = SWEEPS[self.chosen_norm] if facts_of(self.attack).direction else ()
        return tuple(sorted({Fraction(0), self.radius, *listed}))

    @property
    def default_limit(self) -> int | None:
        """Most samples where no limit is asked for: all of attacks whose cost is known and low."""
        facts = facts_of(self.attack)
        return None if facts.direction or facts.traced else LIMIT

    def options(self) -> tuple[Option, ...]:
        """List the options that all attacks have, then the attack's own."""
        common = [one for one in options_of(type(self)) if one.name not in self.hidden]
        budget = facts_of(self.attack).budget
        return (*common, *(one for one in own_options(self.attack) if one.name not in budget))

    def with_options(self, **options: Any) -> Self:
        """Give the suite with some options replaced, the attack's own among them."""
        names = {one.name for one in fields(self)}
        given = {name: value for name, value in options.items() if name in names}
        own = {name: value for name, value in options.items() if name not in names}
        return replace(self, **{"own": {**self.own, **own}, **given})

    def wants(self) -> dict[str, Suite]:
        """Want the masking checks at the same radius, unless they are switched off."""
        if self.masking == "off":
            return {}
        return {"masking": Masking(norm=self.chosen_norm, eps=(self.radius,))}

    def resolved(self) -> dict[str, Any]:
        """Give the attack's own options, by the attack's names for them.

        Those of torchattacks' attacks that were not given are the package's, whose version is in
        every report.
        """
        known = {one.name: one.default for one in attack_options(find_attack(self.attack))}
        given = dict(self.own)
        if given.pop("targeted", False):
            given["targets"] = given.get("targets") or TARGETS
        if given.pop("untargeted", False):
            given["targets"] = None
        if "step_size" in given and "step_size" not in known:
            given["alpha"] = float(given.pop("step_size"))
        defaults = {} if self.attack.startswith(PREFIX) else known
        # One pass a look is what there was before there were several.
        left = {*NOT_ASKED} | ({"eot"} if (defaults | given).get("eot") == 1 else set())
        return {name: v for name, v in (defaults | given).items() if name not in left}

    def prepare(self, scene: Scene) -> PreparedAttack:
        """Decide how the attack is run, by what its row in the table says it can do.

        Raises:
            UsageError: it does not work in the norm or with so few classes, needs a package, or is
                not what its row says.
        """
        norm, facts, options = self.chosen_norm, facts_of(self.attack), self.resolved()
        possible = attack_norms(self.attack)
        if norm not in possible:
            raise UsageError(
                f"{self.attack} is an attack in {' and '.join(possible)}, not {norm}",
                f"write --norm {possible[0]}, or leave it out",
                code="E-NORM",
            )
        check_classes(options, scene.robust.num_classes)
        if facts.direction:
            return OneStep(attack=self.attack, norm=norm, eps=self.radius, sweep=self.radii)
        if facts.traced:
            return self._search(norm, options)
        if facts.members:
            return self._ensemble(norm, options, scene.robust.num_classes)
        attack = find_attack(self.attack)
        keyed = "keys" in inspect.signature(attack).parameters
        given = options.pop("surrogate", None) if facts.surrogate else None
        made = EachRadius(
            attack=self.attack,
            norm=norm,
            eps=self.radius,
            sweep=self.radii if len(self.radii) > 2 else None,
            options={n: float(v) if isinstance(v, Fraction) else v for n, v in options.items()},
            seed="of the run, one key a sample"
            if keyed
            else "of the run and the first sample of each batch",
            batch=BATCH if is_plain(attack) or options.get("eot", 1) != 1 else None,
        )
        if facts.surrogate:
            made = self._transferred(made, given, scene)
        if not is_plain(attack) and ATTACKS.origin(self.attack) is None:
            check_call(attack, made)
        return made

    def _transferred(self, made: EachRadius, given: Any, scene: Scene) -> Transferred:
        """Open the surrogate.

        Raises:
            UsageError: there is none, it is of another task, or the attack on it has another norm.
        """
        from robustmix.models.checks import state_hash

        if given is None:
            raise UsageError(
                f"{self.attack} makes its images on another model, and none is given",
                "add --surrogate CKPT, or timm:NAME",
                code="E-SURROGATE",
            )
        options = dict(made.options)
        if "source_attack" in options:
            source = options["source_attack"] = options["source_attack"] or SOURCES[made.norm]
            if made.norm not in attack_norms(source):
                raise UsageError(
                    f"{source} is an attack in {attack_norms(source)[0]}, not {made.norm}",
                    "write --source-attack pgd, or another --norm",
                    code="E-NORM",
                )
        other = open_surrogate(given, scene)
        info, tested = other.info, other.info.test_transform
        values = {one.name: getattr(made, one.name) for one in fields(made)}
        return Transferred(
            **values | {"options": options},
            surrogate=info.arch if info.source == info.arch else f"{info.arch} ({info.source})",
            surrogate_sha256=state_hash(other),
            tested_otherwise=None if tested == scene.robust.info.test_transform else tested,
            network=other,
        )

    def _search(self, norm: Norm, options: dict[str, Any]) -> Search:
        if "steps" not in options:
            raise UsageError(
                f"the attack {self.attack} has no option steps, which one that is traced needs",
                "register it without traced=True",
                code="E-ATTACK-SIGNATURE",
            )
        steps, sizes = options.pop("steps"), "step_size" in options
        size, targets = options.pop("step_size", None), options.pop("targets", None) or 0
        exact = None if size is None else coerced(Fraction, size)
        return Search(
            attack=self.attack,
            norm=norm,
            eps=self.radius,
            sweep=self.radii,
            steps=steps,
            step_size=exact,
            step_sizes={
                # Exact, where the attack itself would divide floats.
                exact_name(eps): exact or eps / STEPS_TO_EDGE[norm]
                for eps in self.radii[1:]
            }
            if sizes
            else {},
            restarts=options.pop("restarts", 1),
            loss=options.pop("loss", "its own"),
            targeted=bool(targets),
            targets=targets,
            random_start=options.pop("random_start", False),
            eot=(eot := options.pop("eot", 1)),
            batch=None if eot == 1 else BATCH,
            options=options or None,
        )

    def _ensemble(self, norm: Norm, options: Mapping[str, Any], num_classes: int) -> Ensemble:
        usual, version = replace(self, own={}).resolved(), options.get("version", STANDARD)
        whole = all(options[name] == usual[name] for name in facts_of(self.attack).budget)
        called = AUTOATTACK if version == STANDARD else f"autoattack-{version}-ta-equivalent"
        made = Ensemble(
            attack=called if whole else f"{called}-shortened",
            entry_name=self.attack,
            norm=norm,
            eps=self.radius,
            members=(),
            version=version,
            steps=options["steps"],
            queries=options["queries"],
            restarts=RESTARTS.get(version, 1),
        )
        if version == "rand":
            # It has neither Square nor targets.
            made = replace(made, eot=EOT, batch=BATCH, queries=0, targets="none")
        return replace(made, members=tuple(m.name for m in members_of(made, num_classes)))


def facts_of(name: str) -> AttackRow:
    """Give the row of an attack; those of torchattacks have an empty one."""
    return ATTACKS.row(name) if name in ATTACKS else AttackRow("")


def recorded_attack(name: str, params: Mapping[str, Any]) -> Prepared:
    """Read back the recorded parameters of an attack's suite.

    Args:
        name: of the suite, without a protocol behind it.
        params: what the report records.

    Raises:
        KeyError, TypeError, ValueError: they are not this suite's.
    """
    if params.get("space") == "normalised":
        return PaperFgsm.read(params)
    facts = facts_of(name)
    ways: list[tuple[object, type[PreparedAttack]]] = [
        (facts.direction, OneStep), (facts.traced, Search), (facts.members, Ensemble),
        (facts.surrogate, Transferred),
    ]  # fmt: skip
    return read_params(next((kind for is_so, kind in ways if is_so), EachRadius), params)


def own_options(name: str) -> tuple[Option, ...]:
    """List an attack's own options as a suite's.

    Raises:
        UsageError: one is called as an option that all attacks have.
    """
    attack = find_attack(name)
    found = {one.name: _as_option(one, name) for one in attack_options(attack)}
    for option_name in NOT_ASKED:
        found.pop(option_name, None)
    clash = sorted(found.keys() & {one.name for one in fields(Attack)})
    if clash:
        raise UsageError(
            f"the attack {name} has an option {clash[0]}, which all attacks have",
            "call it otherwise",
            code="E-ATTACK-SIGNATURE",
        )
    if "targets" in found and found["targets"].default is None:
        told = f"Go towards each of the {TARGETS} highest other classes; any wrong class counts."
        found["targeted"] = Option(name="targeted", hint=bool, default=False, help=told)
    if facts_of(name).every_class:
        told = "Go towards the nearest class at each step, at a backward pass for every class."
        found["untargeted"] = Option(name="untargeted", hint=bool, default=False, help=told)
    if facts_of(name).surrogate:
        found["surrogate"] = next(o for o in options_of(Masking) if o.name == "surrogate")
    if "alpha" in found and "step_size" not in found and name.startswith(PREFIX):
        found["step_size"] = replace(found["alpha"], name="step_size", **_LENGTH)
    return tuple(found.values())


_LENGTH: dict[str, Any] = {"hint": Fraction, "parse": parse_length, "form": "2/255"}


def _as_option(one: AttackOption, attack: str) -> Option:
    made = Option(
        name=one.name, hint=one.hint, default=one.default, help=one.help[:1].upper() + one.help[1:]
    )
    choices = get_args(one.hint)
    if one.name == "step_size":
        return replace(made, **_LENGTH)
    if one.name == "loss" and "margin" in choices:
        return replace(made, parse=_loss_parser(choices), form="|".join(choices))
    if one.hint is int and attack.startswith(PREFIX):
        # The package annotates nothing: a default of 1 may stand for any number.
        return replace(made, hint=int | float, form="N")
    return made


def _loss_parser(choices: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        loss = ALIASES.get(text, text)
        if loss not in choices:
            raise unknown_name("loss", text, [*choices, *ALIASES], code="E-LOSS")
        return loss

    return parse


def checked_options(attack: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Give an attack's own options as values of their types.

    Raises:
        UsageError: the attack has no such option, or a value is invalid.
    """
    known = {one.name: one for one in own_options(attack)}
    for name in given:
        if name not in known:
            raise unknown_name(f"option of {attack}", name, known, code="E-OPTION")
    values: dict[str, Any] = {
        name: None if value is None else known[name].value(value) for name, value in given.items()
    }
    for name in COUNTS:
        if (count := values.get(name)) is None:
            continue
        flag = known[name].flag
        if count < 1:
            raise UsageError(f"expected {flag} >= 1, got {count}", code="E-STEPS")
        if count > MOST:
            raise UsageError(f"expected {flag} <= {MOST}, got {count}", code="E-STEPS")
    if values.get("step_size") is not None and values["step_size"] <= 0:
        raise UsageError("the step size is positive", "write 2/255", code="E-STEP-SIZE")
    if values.get("untargeted") and values.get("targets") is not None:
        raise UsageError(
            "an untargeted search has no targets",
            "drop --targets or --untargeted",
            code="E-TARGETED",
        )
    if values.get("restarts", 1) > 1 and values.get("random_start") is False:
        raise UsageError(
            "restarts without a random start repeat the same search",
            "drop --restarts or --no-random-start",
            code="E-RESTARTS",
        )
    return values


def check_call(attack: AnyAttack[...], made: EachRadius) -> None:
    """Call an attack on no images, which refuses options that are none before there is any work.

    Raises:
        UsageError: an option is outside what the attack takes.
    """
    nothing = torch.zeros(0, 3, 1, 1)
    labels = torch.zeros(0, dtype=torch.int64)
    try:
        attack(
            lambda images: images.new_zeros(len(images), 10), nothing, labels,
            eps=float(made.eps), norm=made.norm, keys=labels, **made.options,
        )  # fmt: skip
    except ValueError as error:
        raise UsageError(
            f"{made.attack}: {error}",
            f"robustmix eval --help {made.attack} says what its options are",
            code="E-OPTION-VALUE",
        ) from None


def check_classes(options: Mapping[str, Any], num_classes: int) -> None:
    """Refuse a loss that needs more classes than there are.

    Raises:
        UsageError: DLR with fewer than 3 classes, targeted with fewer than 4.
    """
    targeted = bool(options.get("targets"))
    least = 4 if targeted else 3
    if options.get("loss") == "dlr" and num_classes < least:
        raise UsageError(
            f"the {'targeted ' if targeted else ''}DLR loss needs at least {least} classes, got "
            f"{num_classes}",
            "choose --loss ce or margin",
            code="E-LOSS",
        )
