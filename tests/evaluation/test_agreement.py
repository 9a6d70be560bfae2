"""The suite agreement: other models beside the evaluated one, by hand and by scikit-learn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import cohen_kappa_score
from torch import Tensor, nn

from robustmix import evaluate
from robustmix.attacks import mifgsm
from robustmix.comparison.check import check
from robustmix.comparison.compare import compare
from robustmix.comparison.merge import merge_reports
from robustmix.comparison.rules import parse_assertion
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import IntakeError, RobustmixError
from robustmix.evaluation.forecast import forecast, forecast_lines
from robustmix.evaluation.prepare import prepare
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.registry import names_of_all
from robustmix.metrics.intervals import wilson
from robustmix.metrics.metric import Metric
from robustmix.models.checks import state_hash
from robustmix.models.robust_model import RobustModel
from robustmix.pages.drawings import draw
from robustmix.pages.page import page_html
from robustmix.report.report import Report
from tests.comparison.test_forgeries import (
    DECIDING,
    Place,
    altered,
    campaign,
    code_of,
    rule_for,
    unchanged,
    with_columns,
)
from tests.evaluation.tiny import CLASSES, MEAN, STD, Net, tiny_images, tiny_model

N = 48
EPS = 8 / 255


def relative(seed: int = 0, noise: float = 0.2, classes: int = CLASSES) -> RobustModel:
    """A model that has learnt much the same: the tiny one with other weights, a little."""
    net = Net(classes)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
    return tiny_model(net, classes=classes)


def evaluated(**options: Any) -> Report:
    usual: dict[str, Any] = {"other": (relative(), relative(3)), "steps": 3}
    data = options.pop("data", None) or tiny_images(N)
    model = options.pop("model", None) or tiny_model()
    return evaluate(model, data, ["agreement"], **{**usual, **options})


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    out = tmp_path_factory.mktemp("out")
    found = evaluated(out=out)
    assert found.content.suites["agreement"].status == "ok", found.content.suites["agreement"]
    assert recompute(Report.load(out)) == []
    return found


def number(report: Report, path: str) -> Metric:
    found = report.content.suites["agreement"].number(path)
    assert found is not None, path
    return found


def predictions(model: RobustModel, data: ImageSet) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(data.pixels.take(torch.arange(len(data))).float() / 255)
    return found.argmax(dim=1)


def test_agreement_is_that_of_the_predictions(report: Report) -> None:
    data = tiny_images(N)
    own = predictions(tiny_model(), data)
    for name, model in (("other1", relative()), ("other2", relative(3))):
        other = predictions(model, data)
        right, theirs = (own == data.labels).numpy(), (other == data.labels).numpy()
        expected = right.mean() * theirs.mean() + (1 - right.mean()) * (1 - theirs.mean())
        wanted = {
            "agreement": float((own == other).float().mean()),
            "kappa": cohen_kappa_score(own, other),
            "error_overlap": (right == theirs).mean(),
            "error_overlap_by_chance": expected,
            "error_consistency": ((right == theirs).mean() - expected) / (1 - expected),
            "acc_other": theirs.mean(),
            "both_wrong": (~right & ~theirs).mean(),
            "only_model_wrong": (~right & theirs).mean(),
            "only_other_wrong": (right & ~theirs).mean(),
            "same_error": (own == other).numpy()[~right & ~theirs].mean(),
        }
        assert {at: number(report, f"{at}[{name}]").value for at in wanted} == pytest.approx(wanted)
        assert wanted["error_consistency"] == pytest.approx(cohen_kappa_score(right, theirs))
        assert 0.05 < wanted["error_consistency"] < 0.95  # else nothing above says much
        low, high = number(report, f"error_consistency[{name}]").ci or (0, 0)
        assert low < wanted["error_consistency"] < high
        assert number(report, f"same_error[{name}]").n == (~right & ~theirs).sum()


class Linear(nn.Module):
    """Two classes, of which the margin is one product with the pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        margin = images.flatten(1) @ self.weight
        return torch.stack([margin, torch.zeros_like(margin)], dim=1)


@pytest.mark.parametrize("attack", ["pgd", "mifgsm"])
def test_the_matrix_of_linear_models_is_known(attack: str) -> None:
    """An image made on one moves the margin of another by eps times w_other . sign(w_one)."""
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(3 * 5 * 7, generator=generator)
    weights = [shared + 0.8 * torch.randn(3 * 5 * 7, generator=generator) for _ in range(3)]
    pixels = torch.randint(90, 160, (N, 3, 5, 7), generator=generator, dtype=torch.uint8)
    data = ImageSet(
        name="linear", split="test", pixels=TensorPixels(pixels),
        labels=torch.randint(2, (N,), generator=generator),
        sample_ids=tuple(f"linear/test/{i}" for i in range(N)), class_names=("a", "b"),
        mean=MEAN, std=STD,
    )  # fmt: skip
    flat = (pixels.float() / 255).flatten(1) - 0.5
    margins = [flat @ w for w in weights]
    # Half of the labels are those of the first, so that the models are right on different images.
    labels = torch.where(torch.arange(N) % 3 > 0, (margins[0] < 0).long(), data.labels)
    data = replace(data, labels=labels)
    models = [
        RobustModel(Linear(w), mean=(0.5,) * 3, std=(1.0,) * 3, num_classes=2, input_size=(3, 5, 7))
        for w in weights
    ]
    report = evaluate(
        models[0], data, ["agreement"], other=models[1:], transfer_by=attack, eps=2 / 255
    )
    names, away = ("model", "other1", "other2"), torch.where(labels == 0, -1.0, 1.0)
    seen = set()
    for one, made in enumerate(names):
        for two, shown in enumerate(names):
            moved = margins[two] + away * 2 / 255 * (weights[two] @ weights[one].sign())
            right = [((margins[k] > 0) == (labels == 0)).numpy() for k in (one, two)]
            wrong = ((moved > 0) != (labels == 0)).numpy()
            both = right[0] & right[1]
            found = number(report, f"transfer_error[{made}/{shown}]")
            assert found.value == pytest.approx(wrong[both].mean())
            assert found.n == both.sum()
            assert found.ci == pytest.approx(wilson(int(wrong[both].sum()), int(both.sum())))
            seen.add(round(float(wrong[both].mean()), 3))
    assert len(seen) > 4  # else rows and columns could be changed unseen
    assert number(report, "transfer_error[other1/model]").direction == "lower"
    assert number(report, "transfer_error[model/other1]").direction == "neither"


class Wave(nn.Module):
    """Whose loss goes up and down along any line, so that more steps are not always better."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.5 * torch.randn(3 * 32 * 32, CLASSES, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        return 3 * torch.sin(images.flatten(1) @ self.weight)


def test_the_last_iterate_is_shown_and_not_the_best() -> None:
    data, other, model = tiny_images(N), tiny_model(Wave()), tiny_model()
    images = data.pixels.take(torch.arange(N)).float() / 255
    made = mifgsm.outcome(other, images, data.labels, eps=EPS, steps=3)
    assert made.last is not None
    with torch.no_grad():
        last, best = (
            nn.functional.cross_entropy(model(x), data.labels, reduction="none").numpy()
            for x in (made.last, made.images)
        )
    assert (abs(last - best) > 1e-3).sum() > 5
    report = evaluated(other=other, transfer_by="mifgsm")
    assert report.samples is not None
    found = report.samples.tables["agreement"].at("other1/model")["nll"]
    assert (abs(found - last) > 1e-3).sum() <= 2  # a gradient near 0 may round to either sign


def test_a_model_beside_itself_agrees_wholly_and_is_told() -> None:
    report = evaluated(other=(tiny_model(), relative(), relative()))
    for name in ("error_consistency", "agreement", "kappa", "error_overlap"):
        assert number(report, f"{name}[other1]").value == 1
    said = [one.message for one in report.content.warnings if one.code == "W-AGREEMENT"]
    assert said[:2] == [
        "other1 is the evaluated model itself, weight for weight",
        "other3 is other2, weight for weight",
    ]
    white = number(report, "transfer_error[model/model]").value
    assert white == number(report, "transfer_error[model/other1]").value
    assert white is not None
    assert white > 0.2


def test_no_attack_makes_no_matrix(tmp_path: Path) -> None:
    report = evaluated(transfer_by="none")
    part = report.content.suites["agreement"]
    assert [one.name for one in part.conditions] == ["other1", "other2"]
    assert part.table("transfer") is None
    assert part.shown.drawings == []
    assert recompute(report) == []
    with pytest.raises(IntakeError, match="no images made on one model"):
        draw("transfer-matrix", [report], tmp_path / "a.png")


def test_it_is_shown_everywhere(report: Report, tmp_path: Path) -> None:
    html = page_html([report])
    assert "Agreement with other models" in html
    said = draw("transfer-matrix", [report], tmp_path / "a.svg")
    assert said.startswith("Most transfers from ")
    picture = (tmp_path / "a.svg").read_text()
    value = number(report, "transfer_error[other1/model]").value
    assert value is not None
    assert picture
    assert "agreement" not in names_of_all()
    part = report.content.suites["agreement"]
    assert part.shown.headline[:2] == ["error_consistency[other1]", "agreement[other1]"]
    others = part.params["others"]
    assert [one["state_sha256"] for one in others] == [
        state_hash(relative()),
        state_hash(relative(3)),
    ]
    table = part.table("transfer")
    assert table is not None
    assert table.rows[1][:2] == ["other1", value]


@pytest.mark.parametrize("attack", ["pgd", "mifgsm", "none"])
def test_the_forecast_counts_every_pass(attack: str) -> None:
    counted = []
    model, other = tiny_model(), relative()
    for one in (model, other):
        one.net.register_forward_hook(lambda _, inputs, __: counted.append(len(inputs[0])))
    options = {"other": (other,), "steps": 4, "transfer_by": attack}
    evaluation = prepare(model, tiny_images(N), ["agreement"], options=options)
    found = forecast(evaluation, batch_size=N, seconds=0.001)
    (cost,) = (one for one in found.suites if one.key == "agreement")
    assert any("other1: " in line for line in forecast_lines(evaluation, found))
    assert cost.conditions == (1 if attack == "none" else 5)
    counted.clear()
    evaluate(model, tiny_images(N), ["clean"], batch_size=N)
    before = sum(counted)
    counted.clear()
    evaluate(model, tiny_images(N), ["agreement"], batch_size=N, **options)  # type: ignore[arg-type]
    assert cost.forwards == sum(counted) - before
    assert cost.backwards == (0 if attack == "none" else 2 * 4 * N)


def test_neither_the_batch_nor_a_stop_nor_shards_change_a_row(
    report: Report, tmp_path: Path
) -> None:
    class Stopped:
        left = 3

        def __call__(self) -> bool:
            self.left -= 1
            return self.left < 0

    cut = evaluated(out=tmp_path, should_stop=Stopped(), batch_size=7)
    assert cut.content.run.status == "interrupted"
    done = evaluated(out=tmp_path, resume=True, batch_size=13)
    merged = merge_reports([evaluated(shard=f"{i}/2") for i in (1, 2)])
    for other in (done, merged):
        assert other.samples is not None
        assert report.samples is not None
        again, once = other.samples.tables["agreement"], report.samples.tables["agreement"]
        assert again.conditions == once.conditions
        assert np.array_equal(again.columns["pred"], once.columns["pred"])
        assert np.allclose(again.columns["nll"], once.columns["nll"], rtol=1e-3)
        assert recompute(other) == []


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ({"other": ()}, "E-OTHER", "no other model is named; add --other CKPT"),
        ({"other": ("none.pth",)}, "E-NO-FILE", "none.pth"),
        ({"other": (tiny_model(),) * 21}, "E-OTHER", "21 other models are too many"),
        ({"other": (relative(classes=7),)}, "E-SURROGATE", "the other model has 7 classes"),
        ({"steps": 0}, "E-STEPS", "expected --steps from 1"),
        ({"eps": 8}, "E-EPS", "did you mean 8/255"),
        ({"eps": 0}, "E-EPS", "does nothing"),
        ({"norm": "l2", "transfer_by": "mifgsm"}, "E-NORM", "an attack in linf, not l2"),
        ({"transfer_by": "fgsm"}, "E-CHOICE", "did you mean 'mifgsm'"),
    ],
)
def test_what_cannot_be_done_says_why(options: dict[str, Any], code: str, says: str) -> None:
    with pytest.raises(RobustmixError) as caught:
        evaluated(**options)
    assert says in caught.value.line()
    assert caught.value.code == code


def test_classes_in_another_order_are_refused() -> None:
    data, other = tiny_images(N), relative()
    other.info = replace(other.info, class_names=data.class_names[::-1])
    with pytest.raises(IntakeError, match="not in the order of the model"):
        evaluated(data=data, other=other)


def test_of_several_radii_one_is_taken_and_said() -> None:
    report = evaluated(eps="8/255,4/255")
    assert any("only the first is taken" in one.message for one in report.content.warnings)
    assert report.content.suites["agreement"].params["eps"] == "8/255"


def test_two_models_are_compared_and_rules_hold(report: Report) -> None:
    other = evaluated(model=relative(9), name="b")
    shown = {row.path: row for row in compare(report, other).comparisons[0].metrics}
    row = shown["agreement.transfer_error[other1/model]"]
    values = [number(one, "transfer_error[other1/model]").value for one in (report, other)]
    assert [row.a, row.b] == pytest.approx(values)
    assert "agreement.error_consistency[other2]" in shown
    value = number(report, "error_consistency[other1]").value
    assert value is not None
    for limit, code in ((value - 0.01, 0), (value + 0.01, 1)):
        rule = parse_assertion(f"agreement.error_consistency[other1]>={limit:.4f}")
        assert check(report, None, assertions=[rule]).exit_code == code


def test_no_field_can_be_forged(report: Report) -> None:
    def inside(place: Place) -> bool:
        return place[:2] == ("suites", "agreement")

    assert campaign(report, inside, every=False) > 40


def test_no_column_can_be_forged(report: Report) -> None:
    assert report.samples is not None
    passed = []
    for name, column in report.samples.tables["agreement"].columns.items():
        for how, other in altered(column, clumsily=True):
            if other is not None and unchanged(other, column):
                continue
            one = with_columns(report, "agreement", **{name: other})
            code = code_of(one, *rule_for(()))
            if code not in (3, 4, 5) and (name in DECIDING or recompute(one) != []):
                passed.append((name, how, code))
    assert passed == []
