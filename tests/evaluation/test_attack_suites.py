"""Suites ``fgsm`` and ``pgd``: closed forms, numbers by hand, and the traps of attack suites."""

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
from robustmix.evaluation import job
from robustmix.evaluation.engine import padded
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.recompute import recompute, suite_from_params
from robustmix.evaluation.suites import pgd as pgd_suite
from robustmix.evaluation.suites.attack import exact_name, headline
from robustmix.evaluation.suites.attack_plan import AttackChoices, with_surrogate
from robustmix.evaluation.suites.autoattack import AutoAttackSuite
from robustmix.evaluation.suites.fgsm import FgsmSuite
from robustmix.evaluation.suites.masking import MaskingSuite
from robustmix.evaluation.suites.pgd import PgdSuite
from robustmix.evaluation.suites.plan import plan_suites
from robustmix.evaluation.suites.zoo import ZooSuite
from robustmix.metrics.intervals import wilson
from robustmix.models.checks import buffers_hash
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from robustmix.report.schema import AttackPart
from robustmix.rng import sample_keys
from robustmix.types import Model
from tests.evaluation.test_engine import Stop, comparable
from tests.evaluation.tiny import MEAN, STD, Net, tiny_images, tiny_model

EIGHT = Fraction(8, 255)
SHORT = PgdSuite(eps=Fraction(3, 255), sweep=(Fraction(1, 255),), steps=6, masking=False)


def rows(report: Report, suite: str, condition: str) -> dict[str, Any]:
    assert report.samples is not None
    return report.samples.tables[suite].at(condition)


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def part(report: Report, suite: str) -> AttackPart:
    found = report.content.suites[suite]
    assert isinstance(found, AttackPart)
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
    asked: Any = (
        FgsmSuite(norm=norm, eps=eps, sweep=(), masking=False)
        if suite == "fgsm"
        else PgdSuite(norm=norm, eps=eps, steps=40, masking=False)
    )
    found = part(evaluate(robust, data, [asked]), suite)
    expected = float((margins.abs() < float(eps) * reach).float().mean())
    assert expected == pytest.approx(24 / 60)
    assert found.metrics["error"].value == pytest.approx(expected)
    assert found.metrics["asr"].value == pytest.approx(expected)
    assert found.metrics["delta_error"].value == pytest.approx(expected)
    assert found.metrics[norm].value == pytest.approx(float(eps), rel=1e-5)
    assert found.metrics[f"max_{norm}"].value == pytest.approx(float(eps), rel=1e-5)
    assert (found.norm, found.eps) == (norm, float(eps))


@pytest.mark.parametrize("suite", [FgsmSuite(masking=False), SHORT], ids=["fgsm", "pgd"])
def test_trap_02_an_attack_of_radius_0_is_clean_sample_by_sample(suite: Any) -> None:
    report = evaluate(tiny_model(), tiny_images(), [suite])
    none, clean = rows(report, suite.name, "0/255"), rows(report, "clean", "clean")
    for name in ("pred", "confidence", "nll", "margin"):
        assert np.array_equal(none[name], clean[name])
    assert part(report, suite.name).sweep[0].metrics["robust_acc"] == report.metric("clean.top1")


def test_trap_03_and_04_attacks_leave_batch_norm_alone_and_repeat_themselves() -> None:
    model, data = tiny_model(), tiny_images()
    before = buffers_hash(model)
    suites: list[Any] = [FgsmSuite(masking=False), SHORT]
    first = evaluate(model, data, suites)
    assert buffers_hash(model) == before
    assert comparable(evaluate(model, data, suites)) == comparable(first)
    alone = evaluate(model, data.subset([17]), suites)
    for suite in ("fgsm", "pgd"):
        assert rows(alone, suite, "0/255")["nll"][0] == rows(first, suite, "0/255")["nll"][17]
        name = "8/255" if suite == "fgsm" else "3/255"
        assert rows(alone, suite, name)["nll"][0] == rows(first, suite, name)["nll"][17]


ALL: list[Any] = [
    FgsmSuite(norm="l2", eps=Fraction(1, 2), masking=False),
    replace(SHORT, steps=2, sweep=(), restarts=2, loss="dlr", targeted=True),
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
    "suite", [FgsmSuite(eps=Fraction(1, 30), masking=False), SHORT], ids=["fgsm", "pgd"]
)
def test_trap_23_nan_under_attack_is_no_success(suite: Any) -> None:
    report = evaluate(tiny_model(Nan()), tiny_images(20), [suite])
    found = report.content.suites[suite.name]
    assert found.status == "failed"
    assert "E-NONFINITE" in (found.reason or "")
    assert not found.metrics


def test_trap_25_no_suite_touches_a_global_generator() -> None:
    import random

    model, data = tiny_model(), tiny_images(30)
    state, plain, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    evaluate(model, data, [*ALL, MaskingSuite(samples=20)])
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
    none = headline(found, clean | {"correct": np.zeros(4)}, np.ones(4, dtype=bool))
    assert none["asr"].value is None
    assert none["asr"].n == 0


def test_rows_say_what_happened_to_each_sample() -> None:
    report = evaluate(tiny_model(), tiny_images(), [FgsmSuite(masking=False), SHORT])
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
        found = pgd(
            padded(model), pixels(data), data.labels, eps=float(eps), step_size=float(eps) / 4,
            steps=6, keys=sample_keys(3, "pgd", name, 0, data.sample_ids),
        )  # fmt: skip
        stored = rows(report, "pgd", name)
        assert np.array_equal(~stored["correct"].astype(bool), found.success.numpy())
        last = padded(model)(found.last).argmax(dim=1)
        assert np.array_equal(stored["last_pred"], last.numpy())
        first = [int(column.nonzero()[0]) if column.any() else -1 for column in found.reached_at.T]
        assert stored["first_step"].tolist() == first
    wrong = float((last != data.labels).float().mean())
    assert report.metric("pgd.error_last").value == pytest.approx(wrong)
    error = report.metric("pgd.error").value
    assert error == pytest.approx(float(found.success.float().mean()))


def test_convergence_is_the_error_of_shorter_and_longer_searches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pgd_suite, "CONVERGENCE", 50)
    data, model = tiny_images(), tiny_model()
    report = evaluate(model, data, [SHORT])
    assert report.samples is not None
    tested = rows(report, "pgd", "3/255 2k")["tested"].astype(bool)
    assert 0 < tested.sum() < 50
    keys = sample_keys(0, "pgd", "3/255", 0, data.sample_ids)
    errors = {}
    for steps in (3, 6, 12):
        found = pgd(
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
    suite = replace(SHORT, sweep=(), steps=1, eps=8 * EIGHT, step_size=Fraction(1, 255))
    broken = []
    for restarts in (1, 3, 12):
        report = evaluate(model, data, [replace(suite, restarts=restarts)])
        broken.append(~rows(report, "pgd", "64/255")["correct"].astype(bool))
        assert part(report, "pgd").restarts == restarts
        last = report.metric("pgd.error_last").value
        assert (report.metric("pgd.error").value or 0) >= (last or 0)
    assert (broken[0] <= broken[1]).all()
    assert (broken[1] <= broken[2]).all()
    assert broken[0].sum() < broken[2].sum()


def test_a_longer_list_of_radii_makes_a_curve_with_its_area() -> None:
    radii = tuple(Fraction(k, 255) for k in (8, 16, 4))
    suite = replace(SHORT, eps=EIGHT, sweep=radii)
    found = part(evaluate(tiny_model(), tiny_images(60), [suite]), "pgd")
    assert [round(p.x * 255) for p in found.sweep] == [0, 4, 8, 16]
    a = [p.metrics["robust_acc"].value or 0.0 for p in found.sweep]
    area = (4 * (a[0] + a[1]) / 2 + 4 * (a[1] + a[2]) / 2 + 8 * (a[2] + a[3]) / 2) / 16
    assert found.metrics["auc_eps_16"].value == pytest.approx(area)
    assert "auc_eps_16" not in part(evaluate(tiny_model(), tiny_images(60), [SHORT]), "pgd").metrics


def test_eight_bit_images_are_scored_as_stored() -> None:
    data, model = tiny_images(50), tiny_model()
    suite = replace(SHORT, eps=Fraction(1, 60), sweep=())
    report = evaluate(model, data, [suite])
    found = pgd(
        padded(model), pixels(data), data.labels, eps=1 / 60, step_size=1 / 240, steps=6,
        keys=sample_keys(0, "pgd", "0.0166667", 0, data.sample_ids),
    )  # fmt: skip
    grey = (found.best * 255).round().clamp(0, 255) / 255
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
        FgsmSuite(masking=False),
        replace(SHORT, restarts=2, targeted=True, steps=2),
        MaskingSuite(samples=20),
    ],
    ids=["fgsm", "pgd", "masking"],
)
def test_every_pass_is_counted(monkeypatch: pytest.MonkeyPatch, suite: Any) -> None:
    models: list[Counted] = []

    def counted(model: Model) -> Model:
        models.append(Counted(model))
        return models[-1]

    monkeypatch.setattr(job, "padded", counted)
    data = tiny_images(40)
    found: Any = evaluate(tiny_model(), data, [suite]).content.suites[suite.name]
    (model,) = models
    assert found.forwards == model.forwards - len(data)  # one pass each is of suite clean
    assert found.backwards == model.backwards
    if suite.name == "fgsm":
        assert found.forwards == (1 + 9 + 1) * len(data)
        assert found.backwards == len(data)


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


@pytest.mark.parametrize(
    "suite",
    [
        FgsmSuite(norm="l2", eps=Fraction(1, 3), sweep=(Fraction(1, 7),)),
        PgdSuite(
            norm="l2", eps=Fraction(1, 3), sweep=(Fraction(1, 7),), steps=7,
            step_size=Fraction(1, 11), restarts=3, loss="margin", targeted=True,
        ),
        PgdSuite(random_start=False),
        AutoAttackSuite(norm="l2", eps=Fraction(1, 3), steps=7, queries=9),
        ZooSuite(attack="PGD", eps=Fraction(1, 3), options={"steps": 3}),
        MaskingSuite(norm="l2", eps=Fraction(1, 3), samples=33, surrogate_sha256="ab"),
    ],
    ids=lambda suite: str(suite.name),
)  # fmt: skip
def test_suites_come_back_from_their_record(suite: Any) -> None:
    again: Any = suite_from_params(suite.name, suite.params())
    assert again.params() == suite.params()
    for name in ("norm", "eps", "steps", "step_size", "restarts", "options", "radii"):
        assert getattr(again, name, None) == getattr(suite, name, None)


def test_numbers_come_from_the_rows(reference: Report) -> None:
    assert recompute(reference) == []
    changed = reference.content.model_copy(deep=True)
    changed.suites["pgd"].metrics["error_last"] = reference.metric("pgd.error_half_steps")
    differences = recompute(Report(changed, reference.samples))
    assert any("error_last" in line for line in differences)


def test_plan_gives_every_choice_to_the_suites() -> None:
    choices = AttackChoices(
        norm="l2", steps=7, step_size=Fraction(1, 8), restarts=3, loss="cw", targeted=True,
        masking_samples=64,
    )  # fmt: skip
    eps = (Fraction(1, 2), Fraction(1, 4))
    planned = plan_suites(["pgd", "fgsm", "autoattack"], eps=eps, attacks=choices)
    _, masking, fgsm, found, auto = planned
    assert isinstance(masking, MaskingSuite)
    assert (masking.norm, masking.eps, masking.samples) == ("l2", Fraction(1, 2), 64)
    assert isinstance(fgsm, FgsmSuite)
    assert list(fgsm.radii) == [0, Fraction(1, 4), Fraction(1, 2)]
    assert isinstance(found, PgdSuite)
    assert found == PgdSuite(
        norm="l2", eps=Fraction(1, 2), sweep=eps, steps=7, step_size=Fraction(1, 8), restarts=3,
        loss="margin", targeted=True,
    )  # fmt: skip
    assert isinstance(auto, AutoAttackSuite)
    assert (auto.norm, auto.eps, auto.steps) == ("l2", Fraction(1, 2), 100)


def test_plan_leaves_masking_out_when_asked() -> None:
    planned = plan_suites(["pgd"], attacks=AttackChoices(masking="off", random_start=False))
    assert [suite.name for suite in planned] == ["clean", "pgd"]
    report = evaluate(tiny_model(), tiny_images(20), [replace(SHORT, steps=1), *planned[:1]])
    assert list(report.content.suites) == ["clean", "pgd"]
    assert part(report, "pgd").masking is None
    with pytest.raises(UsageError, match="masking check alone"):
        with_surrogate(planned, tiny_model())
    assert [s.name for s in plan_suites(["occlusion"])] == ["clean", "occlusion"]


def two_classes(suite: PgdSuite) -> None:
    evaluate(tiny_model(classes=2), tiny_images(classes=2), [suite])


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: AttackChoices(norm="l1"), "E-NORM"),
        (lambda: AttackChoices(loss="dlt"), "E-LOSS"),
        (lambda: AttackChoices(masking="on"), "E-MASKING"),
        (lambda: PgdSuite(eps=Fraction(8)), "E-EPS"),
        (lambda: PgdSuite(eps=Fraction(0)), "E-EPS"),
        (lambda: PgdSuite(steps=0), "E-STEPS"),
        (lambda: PgdSuite(step_size=Fraction(0)), "E-STEP-SIZE"),
        (lambda: PgdSuite(restarts=2, random_start=False), "E-RESTARTS"),
        (lambda: AutoAttackSuite(queries=0), "E-STEPS"),
        (lambda: MaskingSuite(samples=3), "E-MASKING"),
        (lambda: two_classes(PgdSuite(loss="dlr")), "E-LOSS"),
    ],
)  # fmt: skip
def test_choices_that_cannot_be_meant_are_refused(make: Any, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.code == code


def test_fgsm_in_l2_is_the_normalised_gradient() -> None:
    data, model = tiny_images(), tiny_model()
    suite = FgsmSuite(norm="l2", eps=Fraction(1, 2), sweep=(), masking=False)
    report = evaluate(model, data, [suite])
    images = pixels(data).requires_grad_()
    loss = F.cross_entropy(model(images), data.labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, images)
    step = gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    wrong = model((images + step / 2).clamp(0, 1)).argmax(dim=1) != data.labels
    assert report.metric("fgsm.error").value == pytest.approx(float(wrong.float().mean()))
    assert list(part(report, "fgsm").sweep[1].metrics) == ["error", "robust_acc"]
