"""What the suite of every attack must do: all rows of the table, and attacks from elsewhere."""

import importlib.util
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robustmix.attacks import ATTACKS, Outcome, find_attack, pgd
from robustmix.attacks import attack as search
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.params import eps_name, exact_name
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.attack_rows import eight_bit_name
from robustmix.evaluation.suites.registry import find_suite, read_suite
from robustmix.report.report import Report
from robustmix.report.samples import Samples, Table
from robustmix.rng import sample_keys
from robustmix.types import Model
from tests.evaluation.attacks import attack
from tests.evaluation.tiny import Net, tiny_images, tiny_model

EPS = Fraction(3, 255)
SIZE = 3 * 32 * 32
N = 40


def noise(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    tries: int = 4,
    norm: Literal["linf"] = "linf",
) -> Tensor:
    """One gradient step from random corners, drawn from torch's own stream as strangers do.

    Args:
        model: what is attacked.
        images: clean images.
        labels: true classes.
        eps: radius.
        tries: corners that are tried.
        norm: of the ball.
    """
    found = images.clone()
    for _ in range(tries):
        start = images + eps / 2 * (2 * torch.randint(2, images.shape) - 1)
        start = start.clamp(0, 1).requires_grad_()
        loss = F.cross_entropy(model(start), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, start)
        step = (start.detach() + eps / 2 * gradient.sign()).clamp(0, 1)
        wrong = model(step).argmax(dim=1) != labels
        found[wrong] = step[wrong]
    return found


@dataclass(frozen=True)
class Case:
    """An attack of the table with knobs that make it quick."""

    name: str
    knobs: dict[str, Any] = field(default_factory=dict)
    several: bool = True
    """Whether several radii make a curve."""

    package: bool = False
    eps: Fraction = EPS
    norm: str = "linf"

    @property
    def suite(self) -> Attack:
        if self.package and importlib.util.find_spec("torchattacks") is None:
            pytest.skip("needs the torchattacks extra")
        return attack(self.name, eps=(self.eps, self.eps / 3), **self.knobs)


CASES = [
    Case("fgsm"),
    Case("pgd", {"steps": 4}),
    Case("apgd", {"steps": 5}),
    Case("square", {"queries": 25}),
    Case("fab", {"steps": 4, "targets": 2}),
    Case("deepfool", {"steps": 4, "candidates": 2}),
    Case(
        "cw",
        {"steps": 12, "binary_search_steps": 2, "initial_const": 10.0, "learning_rate": 0.01},
        eps=Fraction(3, 10),
        norm="l2",
    ),
    Case("mifgsm", {"steps": 4}),
    Case("transfer", {"steps": 4, "surrogate": tiny_model(Net(seed=0))}),
    Case("autoattack", {"steps": 4, "queries": 20}, several=False),
    Case("torchattacks:PGD", {"steps": 2}, package=True),
    Case("noise", {"tries": 3}),
]
every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def _others() -> Iterator[None]:
    with ATTACKS.temporary():
        ATTACKS.register("noise", noise)
        yield


def test_no_attack_is_left_out() -> None:
    assert {case.name for case in CASES} >= set(ATTACKS)


def final(samples: Samples, case: Case) -> dict[str, Any]:
    """Put together each sample's row after the attack, one by one."""
    table = samples.tables[case.name]
    if case.several:
        found = table.at(eps_name(case.eps))
        return found | {"uint8_correct": table.at(eight_bit_name(case.eps))["correct"]}
    first, *members = table.conditions
    rows = [dict(zip(table.at(first), row, strict=True)) for row in _by_sample(table.at(first))]
    for member in members:
        for i, row in enumerate(_by_sample(table.at(member))):
            values = dict(zip(table.at(member), row, strict=True))
            if values["tested"]:
                rows[i] = values | {"zero_gradient": rows[i]["zero_gradient"]}
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _by_sample(columns: Any) -> list[tuple[Any, ...]]:
    return list(zip(*columns.values(), strict=True))


@every
def test_its_numbers_are_what_its_rows_say(case: Case, tmp_path: Path) -> None:
    report = evaluate(tiny_model(), tiny_images(N), [case.suite], out=tmp_path)
    part, samples = report.content.suites[case.name], report.samples
    assert part.status == "ok", part.reason
    assert samples is not None
    clean, table = samples.tables["clean"].at("clean"), samples.tables[case.name]
    identity = table.at("0/255" if case.several else "clean")
    for name in ("pred", "nll", "confidence", "margin"):
        assert np.array_equal(identity[name], clean[name])
    for condition in table.conditions:
        radius = float(case.eps / 3 if condition == eps_name(case.eps / 3) else case.eps)
        half = 1 / 510 if case.norm == "linf" else math.sqrt(SIZE) / 510
        slack = half if condition.endswith("8-bit") else 0
        assert table.at(condition)[case.norm].max() <= radius + slack + 1e-6
    after, before = final(samples, case), clean["correct"].astype(bool)
    right = after["correct"].astype(bool)
    assert right.sum() < before.sum()  # else nothing below says anything
    by_hand = {
        "robust_acc": right.mean(), "error": 1 - right.mean(), "clean_acc": before.mean(),
        "delta_error": before.mean() - right.mean(),
        "asr": (before & ~right).sum() / before.sum(), "newly_right": (~before & right).mean(),
        "error_uint8": 1 - after["uint8_correct"].mean(), "nll": after["nll"].astype(float).mean(),
        "linf": after["linf"].astype(float).mean(), "max_linf": after["linf"].max(),
        "l2": after["l2"].astype(float).mean(), "max_l2": after["l2"].max(),
        "frac_clipped": after["clipped"].astype(float).mean(),
        "frac_zero_grad": after["zero_gradient"].astype(float).mean(),
        "frac_zero_grad_samples": (after["zero_gradient"] == 1).mean(),
        "loss_raised": (after["nll"] > clean["nll"]).mean(),
    }  # fmt: skip
    values = {name: part.metrics[name].value for name in by_hand}
    assert values == pytest.approx(by_hand, abs=1e-9)
    curve = part.curve("sweep")
    radii = ("0/255", eps_name(case.eps / 3), None) if case.several else ("clean", None)
    stated = [metric.value for metric in part.along(curve)]
    held = [right.mean() if c is None else table.at(c)["correct"].mean() for c in radii]
    assert stated == pytest.approx(held)
    passes = round(float(table.columns["forwards"].sum()))
    assert part.details["forwards"] == passes > N
    assert part.shown.headline[:3] == ["robust_acc", "error", "asr"]
    said = f"{case.norm}, eps {exact_name(case.eps)}"
    assert (part.shown.gated, part.shown.note) == (["robust_acc"], said)
    assert recompute(Report.load(tmp_path)) == []


@every
def test_its_numbers_depend_neither_on_the_batch_size_nor_on_the_day(case: Case) -> None:
    found: list[Table] = []
    for batch_size in (7, 64, 64):
        torch.manual_seed(len(found))  # what strangers draw from must not matter
        report = evaluate(tiny_model(), tiny_images(N), [case.suite], batch_size=batch_size)
        assert report.samples is not None
        found.append(report.samples.tables[case.name])
    first, *others = found
    for other in others:
        for name, column in first.columns.items():
            assert np.array_equal(column, other.columns[name]), name


@every
def test_it_costs_no_more_than_was_foretold(case: Case) -> None:
    prepared = case.suite.prepare(Scene(robust=tiny_model(), data=tiny_images(N), folder=Path()))
    foretold = prepared.passes(N)
    if case.name in ("noise", "torchattacks:PGD"):
        assert foretold == (4, None, None, False)
        return
    details = evaluate(tiny_model(), tiny_images(N), [case.suite]).content.suites[case.name].details
    assert details["forwards"] <= (foretold.forwards or 0) < 12 * details["forwards"]
    assert details["backwards"] <= (foretold.backwards or 0)
    assert foretold.most == (case.name != "fgsm")


@every
def test_its_options_come_back_from_the_record(case: Case, tmp_path: Path) -> None:
    report = evaluate(tiny_model(), tiny_images(20), [case.suite])
    params = report.content.protocol.params[case.name]
    again = read_suite(case.name, params)
    assert again.params == params
    told = params if case.name in ("fgsm", "pgd", "autoattack") else params["options"]
    assert {name: told[name] for name in case.knobs if name != "surrogate"} == {
        name: knob for name, knob in case.knobs.items() if name != "surrogate"
    }


def test_a_radius_where_the_area_ends_makes_an_area() -> None:
    suite = attack("noise", eps=(Fraction(16, 255), Fraction(8, 255)))
    part = evaluate(tiny_model(), tiny_images(N), [suite]).content.suites["noise"]
    a = [metric.value or 0 for metric in part.along(part.curve("sweep"))]
    area = ((a[0] + a[1]) / 2 + (a[1] + a[2]) / 2) / 2
    assert part.metrics["auc_eps_16"].value == pytest.approx(area)
    assert "auc_eps_16" in part.shown.headline


def test_options_of_a_stranger_are_those_of_its_signature() -> None:
    options = {option.name: option for option in find_suite("noise").options()}
    assert list(options) == ["norm", "eps", "masking", "tries"]
    assert (options["tries"].default, options["tries"].flag) == (4, "--tries")
    assert options["tries"].help == "Corners that are tried."
    with pytest.raises(UsageError, match="did you mean 'tries'"):
        attack("noise", trise=3)
    with pytest.raises(UsageError, match="noise is an attack in linf, not l2"):
        evaluate(tiny_model(), tiny_images(N), [attack("noise", norm="l2")])


def broken(kind: str) -> Any:
    def mine(model: Model, images: Tensor, labels: Tensor, *, eps: float) -> Tensor:
        if kind == "raises":
            raise RuntimeError("no such thing")
        found = images + (2 * eps if kind == "too far" else 0)
        if kind == "NaN":
            found[0, 0, 0, 0] = torch.nan
        return found[:, :, 1:] if kind == "shape" else found.clamp(0, 1)

    return mine


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("raises", "E-ATTACK-RAISED"),
        ("NaN", "E-ATTACK-RESULT"),
        ("shape", "E-ATTACK-RESULT"),
        ("too far", "E-ATTACK-BALL"),
    ],
)
def test_a_broken_attack_fails_alone(kind: str, code: str) -> None:
    ATTACKS.register("mine", broken(kind))
    report = evaluate(tiny_model(), tiny_images(N), [attack("mine"), attack("fgsm")])
    parts = report.content.suites
    assert (parts["mine"].status, parts["fgsm"].status) == ("failed", "ok")
    assert code in (parts["mine"].reason or "")
    assert ("no such thing" in (parts["mine"].reason or "")) == (kind == "raises")
    assert not parts["mine"].metrics


@search
def twice(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float,
    norm: Literal["linf", "l2"] = "linf",
    steps: int = 4,
    share: float = 0.5,
    seed: int = 0,
    keys: Tensor | None = None,
) -> Outcome:
    """PGD with steps that are a share of the radius."""
    return pgd.outcome(
        model, images, labels, eps=eps, norm=norm, steps=steps, step_size=share * eps, keys=keys
    )


def test_a_search_of_a_stranger_tells_whether_it_converged(tmp_path: Path) -> None:
    ATTACKS.register("twice", twice, traced=True)
    data, model = tiny_images(N), tiny_model()
    suite = attack("twice", eps=(EPS,), steps=3, share=0.25)
    report = evaluate(model, data, [suite], out=tmp_path)
    part = report.content.suites["twice"]
    assert part.status == "ok", part.reason
    keys = sample_keys(0, "twice", "3/255", 0, data.sample_ids)
    pixels = data.pixels.take(torch.arange(N)).float() / 255
    errors = [
        float(
            find_attack("twice")
            .outcome(model, pixels, data.labels, eps=3 / 255, steps=steps, share=0.25, keys=keys)
            .success.float()
            .mean()
        )
        for steps in (1, 3, 6)
    ]
    values = [part.metrics[f"error{name}"].value for name in ("_half_steps", "", "_double_steps")]
    assert values == pytest.approx(errors)
    assert errors[0] < errors[1]
    params = report.content.protocol.params["twice"]
    assert (params["attack"], params["options"], params["step_sizes"]) == (
        "twice", {"share": 0.25}, {}
    )  # fmt: skip
    assert recompute(Report.load(tmp_path)) == []


def test_a_search_that_tells_nothing_cannot_be_traced() -> None:
    ATTACKS.register("mine", noise, traced=True)
    with pytest.raises(UsageError, match="no option steps"):
        evaluate(tiny_model(), tiny_images(N), [attack("mine")])
