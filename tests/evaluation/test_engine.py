import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation import resume_store
from robustmix.evaluation.evaluate import evaluate, exit_code
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.warnings import suspected_order
from robustmix.metrics.corrupted import SCALED
from robustmix.models.checks import state_hash
from robustmix.models.robust_model import padded
from robustmix.report.report import Report
from tests.evaluation.tiny import Net, tiny_images, tiny_model

QUICK: list[Any] = [
    "clean",
    "calibration",
    Corruption(corruptions="gaussian_noise,brightness", severity=(1, 4)),
    Attack(attack="fgsm", sweep=(Fraction(2, 255),), masking="off"),
    Occlusion(ratios=(Fraction(1, 4), Fraction(1, 2)), trials=3),
]


def comparable(report: Report) -> dict[str, Any]:
    """Everything of a report that must not depend on how it was computed."""
    content = report.content.model_dump(mode="json")
    for key in ("run", "timing", "environment", "artifacts"):
        content.pop(key)
    for suite in content["suites"].values():
        suite.pop("timing")
    return content


def test_trap_17_and_22_reports_do_not_depend_on_the_batch_size() -> None:
    reports = [evaluate(tiny_model(), tiny_images(), QUICK, batch_size=b) for b in (1, 7, 100)]
    assert all(report.content.run.status == "success" for report in reports)
    assert comparable(reports[0]) == comparable(reports[1]) == comparable(reports[2])
    for left, right in zip(reports[0].samples.tables.values(), reports[2].samples.tables.values()):  # type: ignore[union-attr] # noqa: B905
        for name in left.columns:
            assert np.array_equal(left.columns[name], right.columns[name])


def test_a_sample_does_not_depend_on_which_others_are_evaluated() -> None:
    whole = evaluate(tiny_model(), tiny_images(), QUICK)
    few = evaluate(tiny_model(), tiny_images().subset([5, 50, 99]), QUICK)
    assert whole.samples is not None
    assert few.samples is not None
    for suite, table in few.samples.tables.items():
        for name, column in table.columns.items():
            if name.endswith(SCALED):
                continue  # its temperature is fitted to all clean samples
            assert np.array_equal(
                column, whole.samples.tables[suite].columns[name][:, :, [5, 50, 99]]
            )


def test_every_aggregate_is_what_its_rows_give(tmp_path: Path) -> None:
    evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path)
    assert recompute(Report.load(tmp_path)) == []


def test_a_changed_number_is_found(tmp_path: Path) -> None:
    evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    condition = report["suites"]["corruption"]["conditions"][1]
    condition["metrics"]["acc"]["value"] += 1e-6
    (tmp_path / "report.json").write_text(json.dumps(report))
    (difference,) = recompute(Report.load(tmp_path))
    assert difference.startswith(f"corruption.conditions.{condition['name']}.metrics.acc.value")


def test_clean_accuracy_by_hand() -> None:
    data, model = tiny_images(), tiny_model()
    images = data.pixels.take(torch.arange(len(data))).float() / 255
    right = (model(images).argmax(dim=1) == data.labels).sum()
    report = evaluate(model, data, ["clean"])
    assert report.metric("clean.top1").value == float(right) / 103


class Stop:
    """Asks to stop at the k-th question."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


@pytest.mark.parametrize("after", [0, 1, 5, 12])
def test_an_interrupted_evaluation_resumes_to_the_same_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(resume_store, "BLOCK", 40)
    monkeypatch.setattr("robustmix.evaluation.engine.BLOCK", 40)
    whole = evaluate(tiny_model(), tiny_images(), QUICK)
    partial = evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path, should_stop=Stop(after))
    assert partial.content.run.status == "interrupted"
    assert exit_code(partial) == 4
    assert not [part for part in partial.content.suites.values() if part.status == "failed"]
    resumed = evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path, resume=True, batch_size=9)
    assert comparable(resumed) == comparable(whole)
    assert (resumed.content.run.resumed_units > 0) == (after > 1)
    assert not (tmp_path / "units").exists()
    assert recompute(Report.load(tmp_path)) == []


def relabelled() -> ImageSet:
    data = tiny_images()
    return replace(data, labels=data.labels.flip(0))


def repainted() -> ImageSet:
    data = tiny_images()
    return replace(data, pixels=TensorPixels(255 - data.pixels.take(torch.arange(103))))


def interrupted(tmp_path: Path) -> None:
    evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path, should_stop=Stop(4))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda: {"model": tiny_model(Net(seed=3))}, "model, data or seed"),
        (lambda: {"dataset": tiny_images(seed=3).subset(range(100))}, "model, data or seed"),
        (lambda: {"seed": 1}, "model, data or seed"),
        (lambda: {"dataset": relabelled()}, "model, data or seed"),
        (lambda: {"dataset": repainted()}, "model, data or seed"),
        (lambda: {"suites": ["clean", Occlusion(trials=2)]}, "parameters of suite occlusion"),
    ],
)
def test_units_of_another_evaluation_are_not_reused(
    tmp_path: Path, change: Callable[[], dict[str, Any]], what: str
) -> None:
    interrupted(tmp_path)
    arguments: dict[str, Any] = {
        "model": tiny_model(),
        "dataset": tiny_images(),
        "suites": QUICK,
    } | change()
    with pytest.raises(IncompatibleError, match=what):
        evaluate(**arguments, out=tmp_path, resume=True)
    evaluate(**arguments, out=tmp_path, force=True)


def test_an_unfinished_or_finished_evaluation_is_not_overwritten(
    tmp_path: Path,
) -> None:
    interrupted(tmp_path)
    with pytest.raises(UsageError, match="add resume to continue it or force"):
        evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path)
    done = evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path, resume=True)
    with pytest.raises(UsageError, match="already holds a report"):
        evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path)
    again = evaluate(tiny_model(), tiny_images(), QUICK, out=tmp_path, resume=True)
    assert again.content.run.id == done.content.run.id
    with pytest.raises(IncompatibleError, match="another model, data set or parameters"):
        evaluate(tiny_model(), tiny_images(), ["clean"], out=tmp_path, resume=True)


def test_trap_3_and_25_nothing_is_left_changed() -> None:
    model, data = tiny_model(), tiny_images()
    before = torch.random.get_rng_state()
    hashed, legacy = state_hash(model), np.random.get_state()[1].copy()  # type: ignore[index] # noqa: NPY002
    first = evaluate(model, data, QUICK)
    assert state_hash(model) == hashed
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], legacy)  # type: ignore[index] # noqa: NPY002
    # Trap 4: gradients under train-mode statistics would move them between two evaluations.
    assert comparable(evaluate(model, data, QUICK)) == comparable(first)


class Faulty(nn.Module):
    """A net with one planted fault."""

    calls: Tensor

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.net, self.fault = Net(), fault
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        if self.fault == "nan":
            return torch.where(x[:, :1, 0, 0] > 0.5, torch.nan, logits)
        if self.fault == "buffer":
            self.calls += 1
        if self.fault == "noisy":
            return logits + 10 * torch.randn_like(logits)
        return logits


def test_trap_23_nan_logits_fail_the_suite_and_name_the_samples() -> None:
    report = evaluate(tiny_model(Faulty("nan")), tiny_images(), ["clean", "fgsm"])
    assert report.content.run.status == "failed"
    assert exit_code(report) == 4
    clean = report.content.suites["clean"]
    assert clean.status == "failed"
    assert "E-NONFINITE" in (clean.reason or "")
    assert "tiny/test/" in (clean.reason or "")
    assert not clean.metrics
    assert report.content.suites["fgsm"].status == "skipped"


def test_a_model_that_changes_itself_fails() -> None:
    report = evaluate(tiny_model(Faulty("buffer")), tiny_images(), ["clean"])
    assert "E-BUFFERS" in (report.content.suites["clean"].reason or "")


def test_a_model_that_answers_at_random_fails_the_identities() -> None:
    fgsm = Attack(attack="fgsm", sweep=(), masking="off")
    suites: list[Any] = ["clean", fgsm, Occlusion(ratios=(), trials=1)]
    model, data = tiny_model(Faulty("noisy")), tiny_images()
    before = torch.random.get_rng_state()
    report = evaluate(model, data, suites)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert "E-EPS-ZERO" in (report.content.suites["fgsm"].reason or "")
    assert "E-RHO-ZERO" in (report.content.suites["occlusion"].reason or "")


def test_wrong_data_is_refused() -> None:
    with pytest.raises(IntakeError, match="classes"):
        evaluate(tiny_model(), tiny_images(classes=3), ["clean"])
    small = TensorPixels(torch.zeros(103, 3, 16, 16, dtype=torch.uint8))
    images = tiny_images()
    object.__setattr__(images, "pixels", small)
    with pytest.raises(IntakeError, match="takes images"):
        evaluate(tiny_model(), images, ["clean"])
    double = tiny_images(2)
    object.__setattr__(double, "sample_ids", ("a", "a"))
    with pytest.raises(IntakeError, match="occur twice"):
        evaluate(tiny_model(), double, ["clean"])


def test_limit_takes_the_same_samples_for_every_condition_and_says_so() -> None:
    report = evaluate(tiny_model(), tiny_images(), QUICK, limit=30)
    assert report.samples is not None
    assert len(report.samples) == 30
    indices = [int(i.rpartition("/")[2]) for i in report.samples.sample_ids]
    assert indices == sorted(indices)
    assert indices != list(range(30))
    more = evaluate(tiny_model(), tiny_images(), ["clean"], limit=0.5)
    assert more.samples is not None
    assert len(more.samples) == 52
    assert set(report.samples.sample_ids) <= set(more.samples.sample_ids)
    assert report.content.dataset.subset == {
        "n": 30, "of": 103, "seed": 0, "rule": "first of seeded order",
    }  # fmt: skip
    corruption = report.content.suites["corruption"].metrics
    assert all(name.endswith("_subset") for name in corruption if "mce" not in name)


@pytest.mark.parametrize(
    "arguments",
    [
        *({"batch_size": size} for size in (0, -1, 10**20)),
        *({"limit": limit} for limit in (0, -3, 1.5, float("nan"), float("inf"), 1e-9)),
        {"seed": -1},
        {"device": "tpu9"},
        {"resume": True},
        {"resume": True, "force": True, "out": "never made"},
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        evaluate(tiny_model(), tiny_images(), ["clean"], **arguments)


def test_padding_repeats_the_last_image_and_keeps_gradients() -> None:
    seen: list[Tensor] = []

    def model(x: Tensor) -> Tensor:
        seen.append(x)
        return x.flatten(1).sum(dim=1, keepdim=True) ** 2

    images = torch.rand(3, 3, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    out = padded(model)(images)
    assert out.shape == (3, 1)
    assert seen[0].shape[0] == 8
    assert torch.equal(seen[0][3:], images[2:].expand(5, 3, 2, 2))
    (gradient,) = torch.autograd.grad(out.sum(), images)
    want = 2 * images.detach().flatten(1).sum(dim=1).view(3, 1, 1, 1)
    torch.testing.assert_close(gradient, want.expand_as(images))


def test_probabilities_are_warned_of() -> None:
    report = evaluate(tiny_model(nn.Sequential(Net(), nn.Softmax(dim=1))), tiny_images(), ["clean"])
    assert "W-SOFTMAX-OUTPUT" in [w.code for w in report.content.warnings]
    plain = evaluate(tiny_model(), tiny_images(), ["clean"])
    assert "W-SOFTMAX-OUTPUT" not in [w.code for w in plain.content.warnings]


def test_trap_08_permuted_labels_are_warned_of() -> None:
    data, model = tiny_images(200, classes=8), tiny_model(classes=8)
    images = data.pixels.take(torch.arange(len(data))).float() / 255
    object.__setattr__(data, "labels", (model(images).argmax(dim=1) + 3) % 8)
    warnings = evaluate(model, data, ["clean"]).content.warnings
    assert ["W-CLASS-ORDER" in (w.code for w in warnings)] == [True]

    labels = np.arange(800) % 8
    shifted = (labels + 3) % 8
    assert suspected_order(shifted, labels, 8) == [(c - 3) % 8 for c in range(8)]
    assert suspected_order(labels, labels, 8) is None
    noise = np.random.default_rng(0).integers(8, size=800)
    assert suspected_order(noise, labels, 8) is None
