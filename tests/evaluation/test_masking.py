"""The masking checks: planted maskers are caught, a plain network is not."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import grad as imported_grad

from robustmix.data.images import ImageSet
from robustmix.errors import UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.masking.behaviour import distance, watching
from robustmix.evaluation.masking.gradients import probabilities
from robustmix.evaluation.masking.probes import Evidence, check
from robustmix.evaluation.masking.strength import RADII, search_name, surface
from robustmix.evaluation.masking.verdict import judged, weigh
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.attack_work import SINGLE_STEP, single_step_warnings
from robustmix.evaluation.suites.masking import Masking, PreparedMasking
from robustmix.report.report import Report
from robustmix.report.samples import Table
from robustmix.report.schema import CheckPart, SuitePart, VerdictPart
from robustmix.rng import sample_keys
from tests.evaluation.attacks import attack
from tests.evaluation.maskers import MASKERS, Adaptive, Around, digits, robust, trained
from tests.evaluation.test_engine import Stop, comparable

SIXTEEN = (Fraction(16, 255),)
SUITE = Masking(eps=SIXTEEN, masking_samples=24, masking_design="full")
SEQUENTIAL = replace(SUITE, masking_design="sequential")


def few(n: int = 40) -> ImageSet:
    return digits().subset(range(n))


def verdict(net: nn.Module, suite: Masking = SUITE, n: int = 40) -> VerdictPart:
    return verdict_of(checked(net, suite, n))


def checked(net: nn.Module, suite: Masking, n: int = 40) -> SuitePart:
    part = evaluate(robust(net), few(n), [suite]).content.suites["masking"]
    assert part.status == "ok", part.reason
    return part


def verdict_of(part: SuitePart) -> VerdictPart:
    (found,) = part.verdicts
    assert found.title == "masking"
    return found


def statuses(found: VerdictPart) -> dict[str, str]:
    return {check.id: check.status for check in found.checks}


# planted maskers


@pytest.mark.parametrize("seed", [0, 1])
def test_a_plain_network_is_clean(seed: int) -> None:
    found = verdict(trained(seed))
    assert found.verdict == "clean", found.reason
    assert [check.id for check in found.checks] == [f"G{i}" for i in range(1, 17)]
    assert set(statuses(found).values()) == {"pass", "skip"}
    assert statuses(found)["G7"] == "skip"
    assert found.n == 24
    values = {check.id: check.value for check in found.checks}
    assert values["G4"] == values["G8"] == values["G11"] == values["G12"] == 0
    assert values["G2"] is not None
    assert values["G2"] <= 0


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "eps"), [("linf", Fraction(8, 255)), ("l2", Fraction(1, 2))])
def test_a_plain_network_is_clean_on_all_samples(norm: Any, eps: Fraction) -> None:
    found = verdict(trained(), Masking(norm=norm, eps=(eps,), masking_design="full"), n=500)
    assert found.verdict == "clean", found.reason
    assert found.n > 450


CAUGHT_BY = {
    "quantising input": {"G1"},
    "quantising input, straight-through gradient": {"G16"},
    "softmax fed as logits": {"G9"},
    "saturating temperature": {"G1", "G9", "G14"},
    "noise": {"G8", "G10"},
    "batch statistics": {"G10"},
    "stem without gradient": {"G1"},
}


@pytest.mark.parametrize("name", list(MASKERS))
def test_a_planted_masker_is_caught(name: str) -> None:
    assert set(CAUGHT_BY) == set(MASKERS)
    part = checked(MASKERS[name](), SEQUENTIAL)
    assert part.details["decided_by"] == "full"
    found = verdict_of(part)
    assert found.verdict in ("suspicious", "masked"), found.reason
    blamed = {id for id, status in statuses(found).items() if status in ("warn", "fail")}
    assert blamed >= CAUGHT_BY[name]
    for id in blamed:
        assert f"{id} " in found.reason


def test_a_model_that_adapts_itself_cannot_be_judged() -> None:
    found = verdict(Adaptive(), replace(SEQUENTIAL, masking_samples=20))
    assert found.verdict == "not_assessable"
    assert statuses(found)["G11"] == "fail"


def test_too_few_correct_samples_cannot_be_judged(tmp_path: Path) -> None:
    report = evaluate(robust(trained()), few(19), [SUITE], out=tmp_path)
    part = report.content.suites["masking"]
    found = verdict_of(part)
    assert found.verdict == "not_assessable"
    right = round(19 * (report.metric("clean.top1").value or 0))
    assert 10 < right < 20
    assert f"{right} samples" in found.reason
    assert found.n == right
    assert recompute(Report.load(tmp_path)) == []
    assert [w.code for w in report.content.warnings] == ["W-MASKING"]


def test_a_surrogate_that_beats_the_white_box_shows_masking() -> None:
    """The masked model is the surrogate behind a stem without gradient: all attacks transfer."""
    plain, masked = robust(trained()), Around(Tensor.detach)
    found = verdict(masked, replace(SUITE, surrogate=plain))
    transfer = next(check for check in found.checks if check.id == "G7")
    assert transfer.status == "fail"
    assert (transfer.value or 0) > 0.5
    itself = verdict(trained(), replace(SEQUENTIAL, surrogate=robust(trained())))
    same = next(check for check in itself.checks if check.id == "G7")
    assert same.status == "pass"
    assert itself.verdict == "clean"


def test_a_surrogate_of_another_task_is_refused() -> None:
    from tests.evaluation.tiny import tiny_model

    with pytest.raises(UsageError) as caught:
        evaluate(robust(trained()), few(), [replace(SUITE, surrogate=tiny_model())])
    assert caught.value.code == "E-SURROGATE"


# in the report


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("masking") / "run"
    pgd = attack("pgd", eps=SIXTEEN, steps=3)
    evaluate(
        robust(MASKERS["saturating temperature"]()), few(), [attack("fgsm"), pgd, SUITE], out=out
    )
    return out


def test_every_attack_suite_carries_the_verdict(folder: Path) -> None:
    report = Report.load(folder)
    assert list(report.content.ordered_suites()) == ["clean", "masking", "fgsm", "pgd"]
    masking = report.content.suites["masking"]
    for suite in ("fgsm", "pgd"):
        part = report.content.suites[suite]
        assert part.verdicts == masking.verdicts
        assert verdict_of(part).verdict == "masked"
    (warning,) = [w for w in report.content.warnings if w.code == "W-MASKING"]
    assert "G9 fails" in warning.message
    assert masking.details["forwards"] > 24 * 100
    assert (masking.shown.note, masking.shown.section) == ("linf, eps 16/255", "Attacks")
    assert report.samples is not None
    assert int(report.samples.tables["masking"].at("pgd")["tested"].sum()) == 24


def test_the_verdict_comes_from_the_rows(folder: Path) -> None:
    report = Report.load(folder)
    assert recompute(report) == []
    verdict_of(report.content.suites["masking"]).verdict = "clean"
    assert any(line.startswith("masking.verdicts[0].verdict") for line in recompute(report))


def test_attacks_bring_the_check_along_unless_told_not_to() -> None:
    plain = attack("fgsm", eps=SIXTEEN, sweep=(), masking="auto")
    report = evaluate(robust(trained()), few(25), [plain])
    assert list(report.content.suites) == ["clean", "masking", "fgsm"]
    assert report.content.protocol.params["masking"]["eps"] == "16/255"
    off = evaluate(robust(trained()), few(25), [plain.with_options(masking="off")])
    assert list(off.content.suites) == ["clean", "fgsm"]
    part = off.content.suites["fgsm"]
    assert part.verdicts == []
    assert part.metrics == report.content.suites["fgsm"].metrics


def test_fgsm_alone_is_told_not_to_be_trusted() -> None:
    fgsm, pgd = attack("fgsm", sweep=()), attack("pgd", steps=2)
    alone = evaluate(robust(trained()), few(25), [fgsm])
    assert [w.message for w in alone.content.warnings if w.code == "W-SINGLE-STEP"] == [SINGLE_STEP]
    beside = evaluate(robust(trained()), few(25), [fgsm, pgd])
    assert "W-SINGLE-STEP" not in [w.code for w in beside.content.warnings]
    parts = {"fgsm@quick": under_attack(steps=1), "fgsm@p": under_attack(steps=1)}
    parts |= {"pgd": under_attack(steps=20, status="failed"), "mine": under_attack(steps=0)}
    told = [warn for key in parts for warn in single_step_warnings(key, parts)]
    assert [(warn.code, warn.suite) for warn in told] == [("W-SINGLE-STEP", "fgsm")]
    parts["pgd"].status = "ok"
    assert not [warn for key in parts for warn in single_step_warnings(key, parts)]


def under_attack(*, steps: int = 1, status: Any = "ok") -> SuitePart:
    return SuitePart(kind="attack", status=status, details={"steps": steps})


def test_a_protocol_gets_the_verdict_of_its_own_check() -> None:
    one = VerdictPart(title="masking", verdict="clean", reason="", n=1)
    two = VerdictPart(title="masking", verdict="masked", reason="", n=2)
    other = VerdictPart(title="something else", verdict="fine", reason="", n=3)
    parts = {
        "masking": SuitePart(kind="masking", status="ok", verdicts=[one]),
        "masking@quick": SuitePart(kind="masking", status="ok", verdicts=[two]),
        "pgd": under_attack(),
        "pgd@quick": under_attack(),
        "fgsm@standard": under_attack(),
        "autoattack": under_attack(status="failed"),
        "shuffle": SuitePart(kind="shuffle", status="ok"),
    }
    parts["pgd"].verdicts = [other, two]
    judge = PreparedMasking(norm="linf", eps=SIXTEEN[0], samples=24, surrogate_sha256=None).judge
    for key in ("masking", "masking@quick", "masking"):  # again changes nothing
        judge(key, parts)
    assert {key: part.verdicts for key, part in parts.items() if part.kind != "masking"} == {
        "pgd": [other, one], "pgd@quick": [two], "fgsm@standard": [one], "autoattack": [],
        "shuffle": [],
    }  # fmt: skip


NUMBER = r"\d[\d.e+-]*"


@pytest.mark.parametrize("batch", [1, 7])
def test_checks_do_not_depend_on_the_batch_size(batch: int, by_100: Report) -> None:
    other = evaluate(
        robust(trained()), few(), [replace(SUITE, masking_samples=20)], batch_size=batch
    )
    assert_close(comparable(other), comparable(by_100))
    assert other.samples is not None
    assert by_100.samples is not None
    for name, column in by_100.samples.tables["masking"].columns.items():
        found = other.samples.tables["masking"].columns[name]
        if column.dtype.kind == "f":
            assert np.allclose(found, column, rtol=1e-4, atol=1e-5), name
        else:
            np.testing.assert_array_equal(found, column, err_msg=name)


def assert_close(one: Any, other: Any, path: str = "") -> None:
    """Compare JSON-like values; kernels of another batch may round float32 otherwise."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key, value in one.items():
            assert_close(value, other[key], f"{path}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(other), path
        for i, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_close(left, right, f"{path}[{i}]")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5), path
    elif isinstance(one, str):  # says such numbers in words
        assert re.sub(NUMBER, "#", one) == re.sub(NUMBER, "#", other), path
    else:
        assert one == other, path


@pytest.fixture(scope="module")
def by_100() -> Report:
    return evaluate(robust(trained()), few(), [replace(SUITE, masking_samples=20)], batch_size=100)


def test_an_interrupted_check_resumes_to_the_same_report(tmp_path: Path, by_100: Report) -> None:
    suites = [replace(SUITE, masking_samples=20)]
    model = robust(trained())
    cut = evaluate(model, few(), suites, out=tmp_path, should_stop=Stop(8))
    assert cut.content.run.status == "interrupted"
    resumed = evaluate(model, few(), suites, out=tmp_path, resume=True)
    assert resumed.content.run.resumed_units > 3
    assert comparable(resumed) == comparable(by_100)


def test_the_subset_is_the_first_correct_ones_of_the_seeded_order(by_100: Report) -> None:
    assert by_100.samples is not None
    ids = by_100.samples.sample_ids
    right = by_100.samples.tables["clean"].at("clean")["correct"].astype(bool)
    order = sample_keys(0, "subset", "", 0, ids).argsort(stable=True).tolist()
    want = sorted([i for i in order if right[i]][:20])
    tested = by_100.samples.tables["masking"].at("identity")["tested"]
    assert np.flatnonzero(tested).tolist() == want


# each check by hand, on 100 samples of four classes

N = 100
NAMES = (
    "identity", "repeat", "adaptation", "alone", "gradient-ce", "gradient-dlr", "gradient-margin",
    "difference", "fgsm", "noise", *(search_name(factor) for factor in RADII), "unbounded",
    "square", "transfer",
)  # fmt: skip
ATTACKED = ("fgsm", "noise", "pgd", "square", "transfer")


def hand(**changes: Mapping[str, Any]) -> dict[str, CheckPart]:
    """Return the checks of an unremarkable model with some columns changed by condition.

    Half of the samples fall to every attack, in one step; no gradient is zero.
    """
    half = np.arange(N) < 50
    columns: dict[str, dict[str, Any]] = {
        name: {
            "tested": np.ones(N, dtype=bool),
            "pred": np.zeros(N, dtype=int),
            "correct": np.ones(N, dtype=bool),
            "nll": np.full(N, 1.0),
            "overshoot": np.zeros(N),
            "value": np.zeros(N),
        }
        for name in NAMES
    }
    for name in ("fgsm", "transfer", *map(search_name, RADII)):
        columns[name]["correct"] = ~half
        columns[name]["value"] = np.where(half, 1, -1)
    columns["unbounded"]["correct"] = np.zeros(N, dtype=bool)
    columns["square"]["tested"] = ~half
    columns["difference"]["value"] = np.full(N, 0.1)
    for name, change in changes.items():
        key = name.replace("__", " ").replace("_", "-")
        key = {"pgd x05": "pgd x0.5"}.get(key, key)
        columns[key] |= change
    table = Table(
        NAMES,
        {
            column: np.stack([columns[name][column][None] for name in NAMES])
            for column in columns["fgsm"]
        },
    )
    logits = np.tile(np.array([[3.0, 1.0, 0.0, -2.0]], dtype=np.float32), (N, 1))
    clean = {
        "pred": np.zeros(N, dtype=int), "correct": np.ones(N, dtype=bool), "logits": logits,
        "nll": np.full(N, 0.2), "margin": np.full(N, 2.0),
    }  # fmt: skip
    return {c.id: c for c in judged(Evidence(table, clean, 4, ATTACKED)).checks}


def first(k: int) -> Any:
    return np.arange(N) < k


def test_nothing_is_wrong_with_the_unremarkable_model() -> None:
    assert {c.status for c in hand().values()} == {"pass"}


def outcome(k: int, steps: int = 1) -> dict[str, Any]:
    return {"correct": ~first(k), "value": np.where(first(k), steps, -1)}


def late(early: int, steps: int) -> dict[str, Any]:
    """Of the 50 samples that fall, some fall after one step, the others after more."""
    return {"value": np.where(first(early), 1, np.where(first(50), steps, -1))}


@pytest.mark.parametrize(
    ("id", "value", "status", "changes"),
    [
        ("G1", 0.01, "pass", {"gradient_ce": {"value": 1.0 * first(1)}}),
        ("G1", 0.02, "warn", {"gradient_ce": {"value": 1.0 * first(2)}}),
        ("G1", 0.11, "fail", {"gradient_dlr": {"value": 1.0 * first(11)}}),
        ("G2", 0.01, "pass", {"fgsm": outcome(51)}),
        ("G2", 0.02, "warn", {"fgsm": outcome(52)}),
        ("G2", 0.03, "fail", {"fgsm": outcome(53)}),
        ("G2", 0.50, "fail", {"pgd": outcome(50, steps=11)}),
        ("G3", 0.02, "warn", {"pgd__x2": outcome(48)}),
        ("G3", 0.05, "fail", {"pgd__x05": outcome(55)}),
        ("G4", 0.26, "pass", {"unbounded": {"correct": first(26)}}),
        ("G4", 0.27, "warn", {"unbounded": {"correct": first(27)}}),
        ("G4", 0.31, "fail", {"unbounded": {"correct": first(31)}}),
        ("G5", 0.02, "warn", {"square": {"correct": ~first(52)}}),
        ("G5", 0.03, "fail", {"square": {"correct": ~first(53)}}),
        ("G6", 0.01, "warn", {"noise": {"correct": ~first(51)}}),
        ("G6", 0.02, "fail", {"noise": {"correct": ~first(52)}}),
        ("G7", 0.02, "warn", {"transfer": {"correct": ~first(52)}}),
        ("G7", 0.03, "fail", {"transfer": {"correct": ~first(53)}}),
        ("G8", 0.01, "warn", {"repeat": {"value": 2e-4 * first(1)}}),
        ("G8", 0.00, "pass", {"repeat": {"value": 5e-5 * first(1)}}),
        ("G8", 0.02, "warn", {"repeat": {"correct": ~first(2)}}),
        ("G10", 2e-4, "warn", {"alone": {"value": 2e-4 * first(1)}}),
        ("G10", 3e-4, "fail", {"alone": {"value": 3e-4 * first(1), "pred": 1 * first(1)}}),
        ("G11", 2.0, "fail", {"adaptation": {"value": 2.0 * first(1)}}),
        ("G12", 0.01, "fail", {"identity": {"pred": 1 * first(1)}}),
        ("G13", 2e-5, "fail", {"noise": {"overshoot": 2e-5 * first(1)}}),
        ("G13", 5e-6, "pass", {"pgd": {"overshoot": 5e-6 * first(1)}}),
        ("G14", 0.02, "warn", {"pgd": {"nll": np.where(first(2), 0.2, 1.0)}}),
        ("G14", 0.11, "fail", {"pgd": {"nll": np.where(first(11), 0.1, 1.0)}}),
        ("G15", 0.02, "warn", {"pgd": late(48, 21)}),
        ("G15", 0.03, "fail", {"pgd": late(47, 40)}),
        ("G16", 0.11, "warn", {"difference": {"value": np.where(first(11), 0.0, 0.1)}}),
        ("G16", 0.41, "fail", {"difference": {"value": np.where(first(41), -0.1, 0.1)}}),
    ],
)  # fmt: skip
def test_each_check_by_hand(
    id: str, value: float, status: str, changes: dict[str, Mapping[str, Any]]
) -> None:
    found = hand(**changes)[id]
    assert found.value == pytest.approx(value, abs=1e-9)
    assert found.status == status


def test_checks_that_cannot_be_made_are_skipped() -> None:
    found = hand(
        gradient_margin={"value": np.ones(N)}, transfer={"tested": np.zeros(N, dtype=bool)}
    )
    assert (found["G16"].status, found["G7"].status) == ("skip", "skip")
    some = hand(gradient_margin={"value": 1.0 * first(90)}, difference={"value": np.full(N, -0.1)})[
        "G16"
    ]
    assert (some.n, some.status, some.value) == (10, "fail", 1.0)


def test_a_threshold_is_never_finer_than_one_sample() -> None:
    def status(value: float, n: int, grain: bool) -> str:
        return check("G5", "", value, "", n=n, warn=0.002, fail=0.02, grain=grain).status

    assert status(1 / 40, 40, grain=True) == "pass"
    assert status(2 / 40, 40, grain=True) == "fail"
    assert status(1 / 512, 512, grain=True) == "pass"
    assert status(2 / 512, 512, grain=True) == "warn"
    assert status(1 / 40, 40, grain=False) == "fail"


def test_the_verdict_is_that_of_the_worst_check() -> None:
    def made(**found: str) -> list[CheckPart]:
        return [
            CheckPart(id=id, title="", status=status, value=0, warn=0, fail=0, n=1, text="")  # type: ignore[arg-type]
            for id, status in found.items()
        ]

    assert weigh(made(G1="pass", G7="skip")) == "clean"
    assert weigh(made(G1="pass", G3="warn")) == "suspicious"
    assert weigh(made(G1="fail", G3="warn")) == "masked"
    assert weigh(made(G1="fail", G11="fail")) == "not_assessable"


# the probes


def test_probabilities_are_told_from_logits() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    exp = np.exp(logits)
    assert probabilities(exp / exp.sum(axis=1, keepdims=True))
    assert probabilities(1 / (1 + np.exp(-logits)))
    assert not probabilities(logits)
    assert not probabilities(np.log(exp / exp.sum(axis=1, keepdims=True)))


def call_method(x: Tensor) -> None:
    x.square().sum().backward()  # type: ignore[no-untyped-call]


def call_imported(x: Tensor) -> None:
    imported_grad(x.square().sum(), x)


def call_func(x: Tensor) -> None:
    torch.func.grad(lambda y: y.square().sum())(x)


def call_optimizer(x: Tensor) -> None:
    x.grad = torch.ones_like(x)
    torch.optim.SGD([x], lr=0.1).step()


@pytest.mark.parametrize("call", [call_method, call_imported, call_func, call_optimizer])
def test_gradients_and_optimisers_are_seen_however_they_are_called(
    call: Callable[[Tensor], None],
) -> None:
    x = torch.ones(3, requires_grad=True)
    with watching() as calls:
        call(x)
    assert calls
    with watching() as calls:
        torch.sin(x)
    call(x)  # outside
    assert not calls


def test_noise_lies_on_the_surface_of_the_ball() -> None:
    images = torch.zeros(40, 3, 5, 7)
    keys = sample_keys(0, "test", "noise", 0, [str(i) for i in range(40)])
    corners = surface(keys, images, norm="linf", eps=0.25, stream=1)
    assert torch.equal(corners.abs(), torch.full_like(images, 0.25))
    assert 0.45 < float((corners > 0).float().mean()) < 0.55
    sphere = surface(keys, images, norm="l2", eps=0.25, stream=1)
    torch.testing.assert_close(sphere.flatten(1).norm(dim=1), torch.full((40,), 0.25))
    again = surface(keys[3:5], images[3:5], norm="linf", eps=0.25, stream=1)
    assert torch.equal(again, corners[3:5])
    other = surface(keys, images, norm="linf", eps=0.25, stream=2)
    assert not torch.equal(other, corners)


def test_distance_by_hand() -> None:
    one, two = torch.tensor([[1.0, -4.0], [0.0, 0.0]]), torch.tensor([[1.0, -5.0], [0.0, 0.0]])
    assert distance(one, two).tolist() == [0.2, 0.0]


def test_masking_needs_twenty_samples() -> None:
    with pytest.raises(UsageError, match="masking off"):
        Masking(masking_samples=19)
