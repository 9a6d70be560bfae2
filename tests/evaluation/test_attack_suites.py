"""Suites ``fgsm`` and ``pgd``: closed forms, numbers by hand, and the traps of attack suites."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustmix.attacks import pgd
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import UsageError
from robustmix.evaluation import evaluation
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.params import exact_name
from robustmix.evaluation.plan import plan
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suite import Prepared, Scene, all_numbers
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.masking import Masking
from robustmix.evaluation.suites.registry import name_of, read_suite
from robustmix.metrics.intervals import wilson
from robustmix.models.checks import buffers_hash
from robustmix.models.robust_model import RobustModel, padded
from robustmix.report.report import Report
from robustmix.report.rows import Rows
from robustmix.report.samples import Samples, Table
from robustmix.report.schema import SuitePart
from robustmix.rng import sample_keys
from robustmix.types import Model
from tests.evaluation.attacks import attack
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images, tiny_model

EIGHT = Fraction(8, 255)
SHORT = attack("pgd", eps=(Fraction(3, 255), Fraction(1, 255)), steps=6)
ONE = (Fraction(3, 255),)


def rows(report: Report, suite: str, condition: str) -> dict[str, Any]:
    assert report.samples is not None
    return report.samples.tables[suite].at(condition)


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def part(report: Report, suite: str) -> SuitePart:
    found = report.content.suites[suite]
    assert found.kind == "attack"
    assert found.status == "ok", found.reason
    return found


class Plane(nn.Module):
    """Two classes on either side of a plane, the normalisation undone."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        margin = x.flatten(1) @ self.weight + self.bias
        return torch.stack([margin, -margin], dim=1)


def plane(n: int = 60) -> tuple[RobustModel, ImageSet, Tensor, Tensor]:
    """Return a linear model, images in the middle grey, the margins and the weights."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3 * 5 * 7, generator=generator)
    images = torch.randint(90, 166, (n, 3, 5, 7), generator=generator, dtype=torch.uint8)
    margins = (images.float() / 255).flatten(1) @ weight
    bias = -float(margins.median())
    robust = RobustModel(
        Plane(weight, bias), mean=MEAN, std=STD, num_classes=2, input_size=(3, 5, 7)
    )
    data = ImageSet(
        name="plane", split="test", pixels=TensorPixels(images),
        labels=(margins + bias < 0).long(), sample_ids=tuple(map(str, range(n))),
        class_names=("front", "behind"), mean=MEAN, std=STD,
    )  # fmt: skip
    return robust, data, margins + bias, weight


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("suite", ["fgsm", "pgd"])
def test_trap_01_a_linear_model_falls_exactly_where_the_pixel_ball_crosses_its_plane(
    suite: str, norm: Any
) -> None:
    """A plane at distance d falls to the radius d, in pixels, whatever mean and std are."""
    robust, data, margins, weight = plane()
    reach = weight.abs().sum() if norm == "linf" else weight.norm()
    distances = (margins.abs() / reach).sort().values
    eps = Fraction(float(distances[23:25].mean())).limit_denominator(100_000)
    steps = {"steps": 40} if suite == "pgd" else {}
    asked = attack(suite, norm=norm, eps=(eps,), sweep=(), **steps)
    found = part(evaluate(robust, data, [asked]), suite)
    expected = float((margins.abs() < float(eps) * reach).float().mean())
    assert expected == pytest.approx(24 / 60)
    assert found.metrics["error"].value == pytest.approx(expected)
    assert found.metrics["asr"].value == pytest.approx(expected)
    assert found.metrics["delta_error"].value == pytest.approx(expected)
    assert found.metrics[norm].value == pytest.approx(float(eps), rel=1e-5)
    assert found.metrics[f"max_{norm}"].value == pytest.approx(float(eps), rel=1e-5)
    assert (found.details["norm"], found.details["eps"]) == (norm, float(eps))


@pytest.mark.parametrize("suite", [attack("fgsm"), SHORT], ids=["fgsm", "pgd"])
def test_trap_02_an_attack_of_radius_0_is_clean_sample_by_sample(suite: Any) -> None:
    report = evaluate(tiny_model(), tiny_images(), [suite])
    none, clean = rows(report, suite.attack, "0/255"), rows(report, "clean", "clean")
    for name in ("pred", "confidence", "nll", "margin"):
        assert np.array_equal(none[name], clean[name])
    first = part(report, suite.attack).condition("0")
    assert first["robust_acc"] == report.metric("clean.top1")


def test_trap_03_and_04_attacks_leave_batch_norm_alone_and_repeat_themselves() -> None:
    model, data = tiny_model(), tiny_images()
    before = buffers_hash(model)
    suites: list[Any] = [attack("fgsm"), SHORT]
    first = evaluate(model, data, suites)
    assert buffers_hash(model) == before
    assert comparable(evaluate(model, data, suites)) == comparable(first)
    alone = evaluate(model, data.subset([17]), suites)
    for suite in ("fgsm", "pgd"):
        assert rows(alone, suite, "0/255")["nll"][0] == rows(first, suite, "0/255")["nll"][17]
        name = "8/255" if suite == "fgsm" else "3/255"
        assert rows(alone, suite, name)["nll"][0] == rows(first, suite, name)["nll"][17]


ALL: list[Any] = [
    attack("fgsm", norm="l2", eps=(Fraction(1, 2),)),
    attack("pgd", eps=ONE, steps=2, restarts=2, loss="dlr", targeted=True),
]


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_trap_22_numbers_do_not_depend_on_the_batch_size(batch: int, reference: Report) -> None:
    """23 samples: the last batch of 10 holds 3 and must weigh as 3."""
    other = evaluate(tiny_model(), tiny_images(23), ALL, batch_size=batch)
    assert comparable(other) == comparable(reference)
    for suite in ("fgsm", "pgd"):
        assert reference.samples is not None
        assert other.samples is not None
        for name, column in reference.samples.tables[suite].columns.items():
            assert np.array_equal(column, other.samples.tables[suite].columns[name]), name


@pytest.fixture(scope="module")
def reference() -> Report:
    return evaluate(tiny_model(), tiny_images(23), ALL, batch_size=10)


class Nan(nn.Module):
    """Answers NaN to images that are not the stored ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> Tensor:
        images = x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
        off = ((images * 255) - (images * 255).round()).abs().amax(dim=(1, 2, 3)) > 0.01
        logits: Tensor = self.net(x)
        return torch.where(off.unsqueeze(1), torch.nan, logits)


@pytest.mark.parametrize(
    "suite", [attack("fgsm", eps=(Fraction(1, 30),)), SHORT], ids=["fgsm", "pgd"]
)
def test_trap_23_nan_under_attack_is_no_success(suite: Any) -> None:
    report = evaluate(tiny_model(Nan()), tiny_images(20), [suite])
    found = report.content.suites[suite.attack]
    assert found.status == "failed"
    assert "E-NONFINITE" in (found.reason or "")
    assert not found.metrics


def test_trap_25_no_suite_touches_a_global_generator() -> None:
    import random

    model, data = tiny_model(), tiny_images(30)
    state, plain, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    evaluate(model, data, [*ALL, Masking(masking_samples=20)])
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == plain
    assert np.array_equal(np.random.get_state()[1], legacy)  # type: ignore[index] # noqa: NPY002


def test_the_metrics_by_hand() -> None:
    """Four samples: right and broken, right and held, wrong and held wrong, wrong and righted."""
    clean = {"correct": np.array([1, 1, 0, 0]), "nll": np.array([0.1, 0.2, 2.0, 3.0])}
    found = {
        "correct": np.array([0, 1, 0, 1]),
        "nll": np.array([1.0, 0.3, 2.5, 0.5]),
        "linf": np.array([0.1, 0.1, 0.0, 0.2]),
        "l2": np.array([1.0, 2.0, 0.0, 1.0]),
        "zero_gradient": np.array([0.0, 0.5, 1.0, 0.5]),
        "clipped": np.array([0.0, 0.0, 0.0, 0.2]),
    }
    metrics = headline(found, clean, np.array([False, False, False, True]))
    values = {name: metric.value for name, metric in metrics.items()}
    assert values == pytest.approx({
        "error": 0.5, "robust_acc": 0.5, "clean_acc": 0.5, "delta_error": 0.0, "asr": 0.5,
        "newly_right": 0.25, "error_uint8": 0.75, "frac_zero_grad_samples": 0.25,
        "frac_zero_grad": 0.5, "frac_clipped": 0.05, "linf": 0.1, "max_linf": 0.2, "l2": 1.0,
        "max_l2": 2.0, "nll": 1.075, "loss_raised": 0.75,
    })  # fmt: skip
    assert metrics["error"].n == 4
    assert metrics["asr"].n == 2
    assert metrics["error"].ci == wilson(2, 4)
    assert metrics["asr"].ci == wilson(1, 2)
    none = headline(found, clean | {"correct": np.zeros(4)}, np.ones(4, dtype=bool))
    assert (none["asr"].value, none["asr"].n, none["asr"].note) == (None, 0, None)
    assert none["asr"].reason == "no sample is right clean"


def headline(found: Any, clean: Any, rounded: Any) -> dict[str, Any]:
    """Give the registered numbers of an attack of one radius, by name."""
    conditions = ("0/255", "8/255", "8/255 8-bit")
    given = (found | {"correct": clean["correct"], "nll": clean["nll"]}, found)
    all_rows = [*given, found | {"correct": rounded}]
    columns = {name: np.stack([[one[name]] for one in all_rows]) for name in found}
    before = {name: np.array([[column]]) for name, column in clean.items()}
    samples = Samples(
        sample_ids=tuple("abcd"), labels=np.zeros(4, dtype=np.int64), class_names=("a", "b"),
        superclass=None,
        tables={"mine": Table(conditions, columns), "clean": Table(("clean",), before)},
    )  # fmt: skip
    of_rows = Rows.of(
        samples, "mine", order=np.arange(4), num_classes=2, input_size=(3, 4, 4), seed=0
    )
    numbers = all_numbers(Bare(), of_rows)
    return {name: define().metric() for (_, name), define in numbers.items()}


class Bare(Prepared):
    """An attack that defines no number of its own."""

    kind = "attack"

    def numbers(self, rows: Rows) -> dict[Any, Any]:
        return {}


def test_rows_say_what_happened_to_each_sample() -> None:
    report = evaluate(tiny_model(), tiny_images(), [attack("fgsm"), SHORT])
    clean = rows(report, "clean", "clean")
    for suite, name in (("fgsm", "8/255"), ("pgd", "3/255")):
        found = rows(report, suite, name)
        assert np.array_equal(found["clean_pred"], clean["pred"])
        assert np.array_equal(found["loss_before"], clean["nll"])
        raised = (found["nll"] > found["loss_before"]).mean()
        assert report.metric(f"{suite}.loss_raised").value == pytest.approx(raised)
        assert found["linf"].max() <= float(Fraction(name)) + 1e-6


# pgd


def test_pgd_suite_is_the_primitive_with_its_own_keys() -> None:
    data, model = tiny_images(40), tiny_model()
    report = evaluate(model, data, [SHORT], seed=3)
    for eps in (Fraction(1, 255), Fraction(3, 255)):
        name = exact_name(eps)
        found = pgd.outcome(
            padded(model), pixels(data), data.labels, eps=float(eps), step_size=float(eps) / 4,
            steps=6, keys=sample_keys(3, "pgd", name, 0, data.sample_ids),
        )  # fmt: skip
        stored = rows(report, "pgd", name)
        assert np.array_equal(~stored["correct"].astype(bool), found.success.numpy())
        assert found.last is not None
        assert found.trace is not None
        last = padded(model)(found.last).argmax(dim=1)
        assert np.array_equal(stored["last_pred"], last.numpy())
        reached = found.trace.reached_at.T
        first = [int(column.nonzero()[0]) if column.any() else -1 for column in reached]
        assert stored["first_step"].tolist() == first
    wrong = float((last != data.labels).float().mean())
    assert report.metric("pgd.error_last").value == pytest.approx(wrong)
    error = report.metric("pgd.error").value
    assert error == pytest.approx(float(found.success.float().mean()))


def test_convergence_is_the_error_of_shorter_and_longer_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare = Attack.prepare

    def smaller(suite: Attack, scene: Scene) -> Any:
        prepared: Any = prepare(suite, scene)
        return replace(prepared, convergence_samples=50)

    monkeypatch.setattr(Attack, "prepare", smaller)
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, [SHORT])
    assert report.samples is not None
    tested = rows(report, "pgd", "3/255 2k")["tested"].astype(bool)
    assert 0 < tested.sum() < 50
    keys = sample_keys(0, "pgd", "3/255", 0, data.sample_ids)
    errors = {}
    for steps in (3, 6, 12):
        found = pgd.outcome(
            padded(model), pixels(data), data.labels, eps=3 / 255, step_size=0.75 / 255,
            steps=steps, keys=keys,
        )  # fmt: skip
        errors[steps] = found.success.numpy()
    chosen = sample_keys(0, "subset", "", 0, data.sample_ids).argsort(stable=True)[:50].numpy()
    metrics = part(report, "pgd").metrics
    assert metrics["error_half_steps"].value == pytest.approx(errors[3].mean())
    assert metrics["error"].value == pytest.approx(errors[6].mean())
    assert metrics["error_subset"].value == pytest.approx(errors[6][chosen].mean())
    assert metrics["error_double_steps"].value == pytest.approx(errors[12][chosen].mean())
    assert metrics["error_double_steps"].n == 50
    more = errors[12][chosen].mean() - errors[6][chosen].mean()
    assert metrics["unconverged"].value == pytest.approx(more)


def test_success_is_monotone_in_restarts_and_best_no_weaker_than_last() -> None:
    data, model = tiny_images(), tiny_model()
    suite = attack("pgd", eps=(8 * EIGHT,), steps=1, step_size=Fraction(1, 255))
    broken = []
    for restarts in (1, 3, 12):
        report = evaluate(model, data, [suite.with_options(restarts=restarts)])
        broken.append(~rows(report, "pgd", "64/255")["correct"].astype(bool))
        assert part(report, "pgd").details["restarts"] == restarts
        last = report.metric("pgd.error_last").value
        assert (report.metric("pgd.error").value or 0) >= (last or 0)
    assert (broken[0] <= broken[1]).all()
    assert (broken[1] <= broken[2]).all()
    assert broken[0].sum() < broken[2].sum()


def test_a_longer_list_of_radii_makes_a_curve_with_its_area() -> None:
    radii = tuple(Fraction(k, 255) for k in (8, 16, 4))
    found = part(evaluate(tiny_model(), tiny_images(60), [SHORT.with_options(eps=radii)]), "pgd")
    curve = found.curve("sweep")
    assert [round(x * 255) for x in curve.x] == [0, 4, 8, 16]
    assert (curve.scale, curve.panel, curve.y) == ("symlog", "linf", "robust_acc")
    a = [metric.value or 0.0 for metric in found.along(curve)]
    area = (4 * (a[0] + a[1]) / 2 + 4 * (a[1] + a[2]) / 2 + 8 * (a[2] + a[3]) / 2) / 16
    assert found.metrics["auc_eps_16"].value == pytest.approx(area)
    assert "auc_eps_16" not in part(evaluate(tiny_model(), tiny_images(60), [SHORT]), "pgd").metrics


def test_eight_bit_images_are_scored_as_stored() -> None:
    data, model = tiny_images(50), tiny_model()
    report = evaluate(model, data, [attack("pgd", eps=(Fraction(1, 60),), steps=6)])
    found = pgd.outcome(
        padded(model), pixels(data), data.labels, eps=1 / 60, step_size=1 / 240, steps=6,
        keys=sample_keys(0, "pgd", "0.0166667", 0, data.sample_ids),
    )  # fmt: skip
    grey = (found.images * 255).round().clamp(0, 255) / 255
    wrong = (padded(model)(grey).argmax(dim=1) != data.labels).float().mean()
    assert report.metric("pgd.error_uint8").value == pytest.approx(float(wrong))
    assert report.content.suites["pgd"].params["eps"] == "1/60"


# cost


class Counted:
    """Counts the images that go forward and the gradients that come back."""

    def __init__(self, model: Model) -> None:
        self.model, self.forwards, self.backwards = model, 0, 0

    def __call__(self, images: Tensor) -> Tensor:
        logits = padded(self.model)(images)
        self.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(lambda _: self.count(len(images)))  # type: ignore[no-untyped-call]
        return logits

    def count(self, n: int) -> None:
        self.backwards += n


@pytest.mark.parametrize(
    "suite",
    [
        attack("fgsm"),
        SHORT.with_options(restarts=2, targeted=True, steps=2),
        attack("apgd", steps=3, restarts=2),
        attack("square", queries=9),
        Masking(masking_samples=20),
    ],
    ids=name_of,
)
def test_every_pass_is_counted(monkeypatch: pytest.MonkeyPatch, suite: Any) -> None:
    models: list[Counted] = []

    def counted(model: Model) -> Model:
        models.append(Counted(model))
        return models[-1]

    monkeypatch.setattr(evaluation, "padded", counted)
    data = tiny_images(40)
    found = evaluate(tiny_model(), data, [suite]).content.suites[name_of(suite)].details
    (model,) = models
    assert found["forwards"] == model.forwards - len(data)  # one pass each is of suite clean
    assert found["backwards"] == model.backwards
    if name_of(suite) == "fgsm":
        assert found["forwards"] == (1 + 8 + 1) * len(data)
        assert found["backwards"] == len(data)


# resume, record, plan


@pytest.mark.parametrize("after", [2, 3, 5, 7])
def test_an_interrupted_attack_resumes_to_the_same_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr("robustmix.evaluation.engine.BLOCK", 60)
    whole = evaluate(tiny_model(), tiny_images(), [SHORT])
    cut = evaluate(tiny_model(), tiny_images(), [SHORT], out=tmp_path, should_stop=Stop(after))
    assert cut.content.run.status == "interrupted"
    resumed = evaluate(tiny_model(), tiny_images(), [SHORT], out=tmp_path, resume=True)
    assert comparable(resumed) == comparable(whole)
    assert resumed.content.run.resumed_units > 0
    assert recompute(Report.load(tmp_path)) == []


THIRD = (Fraction(1, 3), Fraction(1, 7))


@pytest.mark.parametrize(
    "suite",
    [
        attack("fgsm", norm="l2", eps=THIRD),
        attack(
            "pgd", norm="l2", eps=THIRD, steps=7, step_size=Fraction(1, 11), restarts=3,
            loss="margin", targeted=True,
        ),
        attack("pgd", random_start=False),
        attack("apgd", eps=THIRD, loss="dlr", targets=3, rho=0.5),
        attack("square", norm="l2", queries=7),
        Masking(norm="l2", eps=THIRD, masking_samples=33, surrogate=tiny_model()),
    ],
    ids=name_of,
)  # fmt: skip
def test_suites_come_back_from_their_record(suite: Any, tmp_path: Path) -> None:
    prepared = suite.prepare(scene(tmp_path))
    written = json.loads(json.dumps(prepared.params))
    again: Any = read_suite(name_of(suite), written)
    assert again.params == written == prepared.params
    for name in ("norm", "eps", "steps", "step_size", "restarts", "options", "radii", "targets"):
        assert getattr(again, name, None) == getattr(prepared, name, None)


def scene(folder: Path, classes: int = 5) -> Scene:
    data = tiny_images(20, classes=classes)
    return Scene(robust=tiny_model(classes=classes), data=data, folder=folder)


def test_numbers_come_from_the_rows(reference: Report) -> None:
    assert recompute(reference) == []
    changed = reference.content.model_copy(deep=True)
    changed.suites["pgd"].metrics["error_last"] = reference.metric("pgd.error_half_steps")
    differences = recompute(Report(changed, reference.samples))
    assert any("error_last" in line for line in differences)


def test_every_option_reaches_the_suites_that_have_it(tmp_path: Path) -> None:
    planned = plan(
        ["pgd", "fgsm", "autoattack"],
        options={
            "norm": "l2", "eps": "1/2,1/4", "steps": "7", "step_size": "1/8", "restarts": "3",
            "loss": "cw", "targeted": True, "masking_samples": "64",
            "eot": "3", "version": "plus",
        },
    )  # fmt: skip
    suites: dict[str, Any] = {item.key: item.suite for item in planned}
    assert list(suites) == ["clean", "masking", "fgsm", "pgd", "autoattack"]
    half, quarter = Fraction(1, 2), Fraction(1, 4)
    assert suites["masking"] == Masking(norm="l2", eps=(half,), masking_samples=64)
    fgsm, found = (suites[name].prepare(scene(tmp_path)) for name in ("fgsm", "pgd"))
    assert (fgsm.norm, fgsm.eps, fgsm.radii) == ("l2", half, (0, quarter, half))
    assert (found.norm, found.eps, found.radii) == ("l2", half, (0, quarter, half))
    assert (found.steps, found.step_size, found.restarts) == (7, Fraction(1, 8), 3)
    assert (found.loss, found.targeted, found.targets) == ("margin", True, 9)
    auto = suites["autoattack"]
    assert (auto.chosen_norm, auto.radius) == ("l2", half)
    assert (found.eot, found.batch) == (3, 32)
    # Fixed, whatever --steps says.
    assert auto.resolved() == {"steps": 100, "queries": 5000, "version": "plus"}


def test_the_masking_checks_stay_out_when_asked() -> None:
    off = {"masking": "off", "random_start": False}
    planned = plan(["pgd"], options=off)
    assert [item.key for item in planned] == ["clean", "pgd"]
    report = evaluate(tiny_model(), tiny_images(20), [attack("pgd", steps=1)])
    assert list(report.content.suites) == ["clean", "pgd"]
    assert part(report, "pgd").verdicts == []
    with pytest.raises(UsageError, match="surrogate is an option of masking"):
        plan(["pgd"], options=off | {"surrogate": tiny_model()})
    assert [item.key for item in plan(["occlusion"])] == ["clean", "occlusion"]


def test_an_option_may_be_left_out_or_given_as_its_default() -> None:
    """Protocols run once what two of them ask for in the same way."""
    assert attack("fgsm") == attack("fgsm", eps=(EIGHT,), norm="linf")
    assert attack("pgd") == attack("pgd", steps=20, step_size=None, targeted=False)
    assert attack("pgd", targeted=True) == attack("pgd", targets=9)
    assert attack("fgsm", norm="l2") == attack("fgsm", norm="l2", eps=(Fraction(1, 2),))
    for other in (
        attack("fgsm", eps=(EIGHT / 2,)),
        attack("fgsm", sweep=()),
        attack("fgsm", masking="auto"),
        attack("fgsm", norm="l2"),
        attack("pgd"),
    ):
        assert attack("fgsm") != other
    assert attack("pgd") != attack("pgd", steps=10)
    assert hash(attack("pgd")) == hash(attack("pgd", steps=20))


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: attack("pgd", norm="l1"), "E-NORM"),
        (lambda: attack("pgd", loss="dlt"), "E-LOSS"),
        (lambda: attack("pgd", masking="on"), "E-MASKING"),
        (lambda: attack("pgd", eps=(Fraction(8),)), "E-EPS"),
        (lambda: attack("pgd", eps=(Fraction(0),)), "E-EPS"),
        (lambda: attack("pgd", eps=(-EIGHT,)), "E-EPS"),
        (lambda: attack("pgd", eps=(EIGHT, Fraction(2))), "E-EPS"),
        (lambda: attack("pgd", steps=0), "E-STEPS"),
        (lambda: attack("pgd", step_size=Fraction(0)), "E-STEP-SIZE"),
        (lambda: attack("pgd", step_size=Fraction(2)), "E-EPS"),
        (lambda: attack("pgd", restarts=2, random_start=False), "E-RESTARTS"),
        (lambda: attack("pgd", stop_early=True), "E-OPTION"),
        (lambda: attack("fgsm", steps=3), "E-OPTION"),
        (lambda: attack("pgd", steps="many"), "E-OPTION-VALUE"),
        (lambda: attack("autoattack", queries=0), "E-STEPS"),
        (lambda: Masking(masking_samples=3), "E-MASKING"),
        (lambda: Masking(eps=(Fraction(8),)), "E-EPS"),
        (lambda: attack("pgd", loss="dlr").prepare(scene(Path(), 2)), "E-LOSS"),
        (lambda: attack("apgd", loss="dlr", targets=2).prepare(scene(Path(), 3)), "E-LOSS"),
        (lambda: attack("apgd", eot=0), "E-STEPS"),
        (lambda: attack("deepfool", candidates=0), "E-STEPS"),
        (lambda: attack("cw", binary_search_steps=10**12), "E-STEPS"),
        (lambda: attack("apgd", rho=2.0).prepare(scene(Path())), "E-OPTION-VALUE"),
        (lambda: attack("square", p_init=0.0).prepare(scene(Path())), "E-OPTION-VALUE"),
        (lambda: attack("deepfool", overshoot=-1.0).prepare(scene(Path())), "E-OPTION-VALUE"),
        (lambda: attack("cw", learning_rate=0.0).prepare(scene(Path())), "E-OPTION-VALUE"),
        (lambda: attack("mifgsm", decay=-1.0).prepare(scene(Path())), "E-OPTION-VALUE"),
    ],
)  # fmt: skip
def test_invalid_choices_are_refused(make: Any, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.code == code


def test_a_bare_8_is_taken_for_grey_levels() -> None:
    with pytest.raises(UsageError, match=r"did you mean 8/255\?"):
        plan(["fgsm"], options={"eps": "8"})
    assert attack("fgsm", norm="l2", eps=(Fraction(8),)).radius == 8


def test_fgsm_in_l2_is_the_normalised_gradient() -> None:
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, [attack("fgsm", norm="l2", sweep=())])
    images = pixels(data).requires_grad_()
    loss = F.cross_entropy(model(images), data.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    step = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    wrong = model((images + step / 2).clamp(0, 1)).argmax(dim=1) != data.labels
    assert report.metric("fgsm.error").value == pytest.approx(float(wrong.float().mean()))
    assert list(part(report, "fgsm").condition("0.5")) == ["error", "robust_acc"]
