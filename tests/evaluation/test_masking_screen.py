"""The screen of the masking checks: what it counts, what it may miss, and when it is not enough."""

import itertools
import json
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from robustmix.comparison.compare import compare
from robustmix.comparison.measure import Options
from robustmix.errors import IntakeError, UsageError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.masking.probes import Evidence
from robustmix.evaluation.masking.screen import (
    MISSED,
    PREFIX,
    Screen,
    allowed,
    found_share,
    is_clear,
    missed,
    screen_checks,
)
from robustmix.evaluation.masking.strength import RADII, search_name
from robustmix.evaluation.masking.verdict import judged
from robustmix.evaluation.plan import plan
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.masking import Masking, PreparedMasking
from robustmix.files import hash_json
from robustmix.report.report import Report
from robustmix.report.samples import Table
from robustmix.report.schema import CheckPart
from tests.evaluation.attacks import attack
from tests.evaluation.maskers import MASKERS, digits, robust, trained

SIXTEEN = (Fraction(16, 255),)
SCREEN = Screen()

# its error rates


@pytest.mark.parametrize(("n", "most"), [(1, 0), (5, 0), (7, 2), (11, 4)])
def test_the_chance_to_miss_a_share_by_counting_every_draw(n: int, most: int) -> None:
    share = 0.3
    wanted = sum(
        share ** sum(draw) * (1 - share) ** (n - sum(draw))
        for draw in itertools.product((0, 1), repeat=n)
        if sum(draw) <= most
    )
    assert missed(share, n, allowed=most) == pytest.approx(wanted)


@pytest.mark.parametrize("n", [20, 24, 64, 512])
def test_as_many_are_allowed_as_the_error_rate_permits(n: int) -> None:
    for share in (0.11, 0.2, 0.51):
        most = allowed(n, share)
        assert missed(share, n, allowed=most + 1) > MISSED
        assert most == 0 or missed(share, n, allowed=most) <= MISSED
    assert missed(found_share(n), n) == pytest.approx(MISSED)


def test_random_parts_miss_as_often_as_is_said() -> None:
    """A part of a finite set misses less often than draws with replacement, and nearly as often."""
    rng, total, bad, n = np.random.default_rng(0), 512, 24, 64
    places = rng.random((4000, total)).argsort(axis=1)[:, :n]
    rate = float((places >= bad).all(axis=1).mean())
    exact = float(np.prod([(total - bad - i) / (total - i) for i in range(n)]))
    assert rate == pytest.approx(exact, abs=4 * (exact / 4000) ** 0.5)
    assert rate < missed(bad / total, n)


# what it counts, on 100 samples of four classes of which it sees 64

N, SEEN = 100, 64
NAMES = (
    "identity", "repeat", "adaptation", "alone", "gradient-ce", "gradient-margin", "gradient-dlr",
    "difference", "fgsm", "pgd", "pgd x4", "unbounded", "noise", "square", "transfer",
)  # fmt: skip
Rows = dict[str, dict[str, Any]]


def unremarkable() -> Rows:
    """Return rows of which the first 64 are seen; attacks break 50 of these in one step."""
    seen, half = np.arange(N) < SEEN, np.arange(N) < 50
    left = seen & ~half
    rows: Rows = {
        name: {
            "tested": seen.copy(),
            "pred": np.zeros(N, dtype=int),
            "correct": seen.copy(),
            "nll": 1.0 * seen,
            "overshoot": np.zeros(N),
            "value": np.zeros(N),
        }
        for name in NAMES
    }
    for name in ("fgsm", "pgd", "pgd x4"):
        rows[name]["correct"] = left
        rows[name]["value"] = np.where(half, 1, -1)
    rows["pgd x4"]["tested"] = half
    rows["alone"]["tested"] = np.arange(N) < 8
    rows["unbounded"]["correct"] = np.zeros(N, dtype=bool)
    rows["square"]["nll"] = 0.5 * seen
    for name in ("noise", "square", "transfer"):
        rows[name]["tested"] = left
        rows[name]["correct"] = left
    rows["difference"]["value"] = 0.1 * seen
    return rows


def checked(rows: Rows, **clean: Any) -> dict[str, CheckPart]:
    table = Table(
        tuple(PREFIX + name for name in rows),
        {column: np.stack([of[column][None] for of in rows.values()]) for column in rows["fgsm"]},
    )
    before = {
        "pred": np.zeros(N, dtype=int), "correct": np.ones(N, dtype=bool),
        "logits": np.tile(np.array([[3.0, 1.0, 0.0, -2.0]], dtype=np.float32), (N, 1)),
        "nll": np.full(N, 0.2), "margin": np.full(N, 2.0),
    } | clean  # fmt: skip
    return {c.id: c for c in screen_checks(table, before, num_classes=4, screen=SCREEN)}


def first(k: int) -> NDArray[np.bool_]:
    return np.arange(N) < k


def from_fifty(k: int) -> NDArray[np.bool_]:
    return (np.arange(N) >= 50) & (np.arange(N) < 50 + k)


def test_nothing_is_counted_of_the_unremarkable_model() -> None:
    found = checked(unremarkable())
    assert {check.status for check in found.values()} == {"pass"}
    assert {check.value for check in found.values()} == {0.0}
    assert sorted(found, key=lambda id: int(id[1:])) == [f"G{i}" for i in range(1, 17)]
    assert {id: check.n for id, check in found.items() if check.n != SEEN} == {"G9": N}
    assert is_clear(list(found.values()), surrogate=True)


SEEN_64 = first(SEEN)
LEFT = SEEN_64 & ~first(50)


@pytest.mark.parametrize(
    ("id", "count", "status", "changes"),
    [
        ("G1", 1, "warn", {"gradient-ce": {"value": 1.0 * first(1)}}),
        ("G1", 1, "warn", {"gradient-dlr": {"value": 1.0 * first(1)}}),
        ("G1", 0, "pass", {"gradient-margin": {"value": 1.0 * first(1)}}),
        ("G2", 1, "warn", {"pgd": {"value": np.where(first(49), 1, np.where(first(50), 11, -1))},
                           "pgd x4": {"tested": first(49)}}),
        ("G3", 2, "warn", {"pgd x4": {"value": np.where(first(48), 1, -1)}}),
        ("G4", 10, "pass", {"unbounded": {"correct": first(10)}}),
        ("G4", 11, "warn", {"unbounded": {"correct": first(11)}}),
        ("G5", 1, "warn", {"square": {"nll": np.where(from_fifty(1), 1.1, 0.5) * SEEN_64}}),
        ("G5", 0, "pass", {"square": {"nll": 1.0 * SEEN_64}}),
        ("G5", 2, "warn", {"square": {"correct": LEFT & ~from_fifty(2)}}),
        ("G6", 1, "warn", {"noise": {"correct": LEFT & ~from_fifty(1)}}),
        ("G7", 1, "warn", {"transfer": {"correct": LEFT & ~from_fifty(1)}}),
        ("G8", 1, "warn", {"repeat": {"value": 2e-4 * first(1)}}),
        ("G8", 0, "pass", {"repeat": {"value": 5e-5 * first(1)}}),
        ("G8", 1, "warn", {"repeat": {"correct": SEEN_64 & ~first(1)}}),
        ("G10", 1, "warn", {"alone": {"value": 2e-4 * first(1)}}),
        ("G10", 1, "warn", {"identity": {"value": 2e-4 * first(1)}}),
        ("G11", SEEN, "warn", {"adaptation": {"value": 1.0 * SEEN_64}}),
        ("G12", 1, "warn", {"identity": {"pred": 1 * first(1)}}),
        ("G13", 1, "warn", {"noise": {"overshoot": 2e-5 * from_fifty(1)}}),
        ("G14", 1, "warn", {"pgd": {"nll": np.where(first(1), 0.2, 1.0) * SEEN_64}}),
        ("G15", 6, "pass", {"pgd": {"value": np.where(first(6), 11, np.where(first(50), 1, -1))},
                            "pgd x4": {"tested": first(50) & ~first(6)},
                            "fgsm": {"correct": LEFT | first(6)},
                            "noise": {"tested": LEFT | first(6), "correct": LEFT | first(6)}}),
        ("G16", 2, "pass", {"difference": {"value": np.where(first(2), 0.0, 0.1) * SEEN_64}}),
        ("G16", 3, "warn", {"difference": {"value": np.where(first(3), -0.1, 0.1) * SEEN_64}}),
    ],
)  # fmt: skip
def test_each_count_by_hand(
    id: str, count: int, status: str, changes: dict[str, dict[str, Any]]
) -> None:
    rows = unremarkable()
    for name, change in changes.items():
        rows[name] |= change
    found = checked(rows)
    assert found[id].value == pytest.approx(count / SEEN)
    assert found[id].status == status
    assert is_clear(list(found.values()), surrogate=True) == (status == "pass")


def test_outputs_are_looked_at_on_all_samples() -> None:
    margin = np.full(N, 2.0)
    margin[N - 1] = 51.0
    found = checked(unremarkable(), margin=margin)["G9"]
    assert (found.value, found.status, found.n) == (0.01, "warn", N)
    wrong = checked(unremarkable(), margin=margin, correct=first(N - 1))["G9"]
    assert wrong.status == "pass"
    flat = checked(unremarkable(), logits=np.full((N, 4), 0.25, dtype=np.float32))["G9"]
    assert (flat.value, flat.status) == (1.0, "warn")


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("G1", "gradient-ce"), ("G3", "pgd x4"), ("G4", "unbounded"), ("G5", "square"),
        ("G6", "noise"), ("G7", "transfer"), ("G8", "repeat"), ("G10", "alone"),
        ("G11", "adaptation"), ("G14", "pgd"), ("G16", "difference"),
    ],
)  # fmt: skip
def test_a_probe_that_was_not_made_is_no_pass(id: str, name: str) -> None:
    rows = unremarkable()
    rows[name] = {column: np.zeros_like(values) for column, values in rows[name].items()}
    if id == "G1":
        rows["gradient-dlr"] = rows[name]
    found = checked(rows)
    assert found[id].status == "skip"
    assert not is_clear(list(found.values()), surrogate=True)
    assert is_clear(list(found.values()), surrogate=False) == (id == "G7")


def test_a_part_of_a_probe_is_no_pass() -> None:
    rows = unremarkable()
    for name in ("tested", "correct"):
        rows["square"][name] = LEFT & ~from_fifty(1)
    assert checked(rows)["G5"].status == "skip"


def test_of_many_survivors_square_takes_some_and_speaks_of_no_more() -> None:
    rows = unremarkable()
    for name in ("fgsm", "pgd"):
        rows[name] |= {"correct": SEEN_64, "value": np.full(N, -1)}
    rows["pgd x4"]["tested"] = first(0)
    for name in ("noise", "transfer"):
        rows[name] |= {"tested": SEEN_64, "correct": SEEN_64}
    rows["square"] |= {"tested": first(SCREEN.survivors), "correct": first(SCREEN.survivors)}
    rows["square"]["nll"] = np.where(first(1), 2.0, 0.5)
    found = checked(rows)["G5"]
    assert (found.n, found.value, found.status) == (16, 1 / 16, "warn")


def test_whatever_the_battery_finds_in_the_same_rows_is_counted() -> None:
    """Of random rows: no check of the battery has a larger share than the screen counts."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        rates = rng.random(6) * rng.choice([0.02, 0.3, 1.0])
        rows: Rows = {
            name: unremarkable()[name] | {"tested": np.ones(N, dtype=bool)} for name in NAMES
        }
        for name, rate in zip(("fgsm", "pgd", "pgd x4"), rates, strict=False):
            broken = rng.random(N) < rate
            steps = np.where(broken, rng.integers(0, 21, N), -1)
            rows[name] |= {"correct": ~broken, "value": steps, "nll": rng.random(N)}
        near = (rows["pgd"]["value"] >= 0) & (rows["pgd"]["value"] <= 10)
        rows["pgd x4"]["tested"] = near
        for name, before, rate in (
            ("noise", "fgsm", rates[3]), ("square", "pgd", rates[4]), ("transfer", "pgd", rates[5]),
        ):  # fmt: skip
            left = rows[before]["correct"]
            rows[name] |= {"tested": left, "correct": left & (rng.random(N) > rate)}
        screen = replace(SCREEN, survivors=N)
        mine = checked_by(rows, screen)
        whole = battery(rows)
        for id in ("G1", "G2", "G3", "G5", "G6", "G14"):
            assert (mine[id].value or 0) >= (whole[id].value or 0) - 1e-9, id


def checked_by(rows: Rows, screen: Screen) -> dict[str, CheckPart]:
    table = Table(
        tuple(PREFIX + name for name in rows),
        {column: np.stack([of[column][None] for of in rows.values()]) for column in rows["fgsm"]},
    )
    return {c.id: c for c in screen_checks(table, CLEAN, num_classes=4, screen=screen)}


CLEAN: dict[str, NDArray[Any]] = {
    "pred": np.zeros(N, dtype=int), "correct": np.ones(N, dtype=bool),
    "logits": np.tile(np.array([[3.0, 1.0, 0.0, -2.0]], dtype=np.float32), (N, 1)),
    "nll": np.full(N, 0.2), "margin": np.full(N, 2.0),
}  # fmt: skip


def battery(rows: Rows) -> dict[str, CheckPart]:
    """Read the same rows as the full battery does; the radii that the screen lacks add nothing."""
    whole = {name: dict(of) for name, of in rows.items()}
    fell = (whole["pgd"]["value"] >= 0) & (whole["pgd"]["value"] <= 10)
    for factor in RADII:
        name = search_name(factor)
        if name not in whole:
            steps = np.where(fell, 1, -1) if factor > 1 else np.full(N, -1)
            whole[name] = whole["identity"] | {"correct": steps < 0, "value": steps}
    whole["pgd x4"]["tested"] = np.ones(N, dtype=bool)
    noise = whole["noise"]
    # The battery tries noise on all; whom FGSM breaks too makes no difference to the difference.
    noise["correct"] = np.where(noise["tested"], noise["correct"], False)
    noise["tested"] = np.ones(N, dtype=bool)
    columns = whole["fgsm"]
    table = Table(
        tuple(whole), {c: np.stack([of[c][None] for of in whole.values()]) for c in columns}
    )
    return {c.id: c for c in judged(Evidence(table, CLEAN, 4, ("fgsm", "pgd"))).checks}


# in an evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("screen") / "run"
    suite = Masking(eps=SIXTEEN, masking_samples=24)
    evaluate(robust(trained()), digits().subset(range(40)), [suite], out=out)
    return out


def test_a_clear_screen_decides_and_says_so(folder: Path) -> None:
    report = Report.load(folder)
    part = report.content.suites["masking"]
    (found,) = part.verdicts
    assert (found.verdict, found.n) == ("clean", 24)
    assert [check.id for check in found.checks] == [f"G{i}" for i in range(1, 17)]
    assert {c.id for c in found.checks if c.status != "pass"} == {"G7"}
    assert "the screen found on 24 samples" in found.reason
    assert "11.7 % of the samples" in found.reason  # 1 - 0.05 ** (1 / 24)
    (stage,) = part.details["stages"]
    assert part.details["decided_by"] == stage["stage"] == "screen"
    assert (stage["samples"], stage["blamed"]) == (24, [])
    assert stage["forwards"] == part.details["forwards"]
    params = report.content.protocol.params["masking"]
    assert params["design"] == "sequential"
    assert params["screen"] == asdict(SCREEN)
    assert recompute(report) == []


@pytest.fixture(scope="module")
def masked() -> dict[str, Report]:
    """Return reports of both designs on a network whose gradient pretends not to be quantised."""
    net = robust(MASKERS["quantising input, straight-through gradient"]())
    data = digits().subset(range(30))

    def made(design: Any) -> Report:
        suite = Masking(eps=SIXTEEN, masking_samples=20, masking_design=design)
        return evaluate(net, data, [attack("fgsm", eps=SIXTEEN, sweep=()), suite])

    return {"sequential": made("sequential"), "full": made("full")}


def test_a_screen_that_is_not_clear_leaves_all_to_the_battery(masked: dict[str, Report]) -> None:
    two, one = (masked[design].content.suites["masking"] for design in ("sequential", "full"))
    assert two.verdicts == one.verdicts
    assert two.verdicts[0].verdict == "masked"
    screen, full = two.details["stages"]
    assert (screen["stage"], screen["blamed"]) == ("screen", ["G16"])
    assert two.details["decided_by"] == one.details["decided_by"] == full["stage"] == "full"
    assert one.details["stages"] == [full]
    assert two.details["forwards"] == screen["forwards"] + full["forwards"]
    assert two.details["backwards"] == screen["backwards"] + full["backwards"]
    tables = {}
    for design, report in masked.items():
        assert report.samples is not None
        tables[design] = report.samples.tables["masking"]
    # What followed the check that was not clear was not made.
    assert not tables["sequential"].at("screen pgd")["tested"].any()
    for condition in tables["full"].conditions:
        for name, column in tables["full"].at(condition).items():
            assert np.array_equal(column, tables["sequential"].at(condition)[name])


def test_without_the_rows_that_decided_there_is_no_verdict(masked: dict[str, Report]) -> None:
    content, samples = masked["sequential"].content, masked["sequential"].samples
    assert samples is not None
    table = samples.tables["masking"]
    columns = {name: column.copy() for name, column in table.columns.items()}
    for place, condition in enumerate(table.conditions):
        if not condition.startswith(PREFIX):
            for column in columns.values():
                column[place] = 0
    tables = samples.tables | {"masking": replace(table, columns=columns)}
    with pytest.raises(IntakeError, match="were to decide"):
        recompute(Report(content, replace(samples, tables=tables)))


def test_reports_of_older_versions_validate_and_compare(masked: dict[str, Report]) -> None:
    content = masked["full"].content.model_copy(deep=True)
    part, protocol = content.suites["masking"], content.protocol
    del part.params["design"], protocol.params["masking"]["design"]
    del part.details["decided_by"], part.details["stages"]
    protocol.hash = hash_json({"params": protocol.params, "limits": protocol.limits})
    older = Report(content, masked["full"].samples)
    assert recompute(older) == []
    document = compare(older, masked["sequential"], options=Options(replicates=20))
    (row,) = document.comparisons[0].verdicts
    assert (row.suite, row.a, row.b) == ("fgsm", "masked", "masked")
    assert any("design none against sequential" in w for w in document.comparisons[0].warnings)


def test_the_design_is_an_option_and_a_parameter() -> None:
    (item,) = (
        one for one in plan(["fgsm"], options={"masking_design": "full"}) if one.name == "masking"
    )
    assert isinstance(item.suite, Masking)
    assert item.suite.masking_design == "full"
    with pytest.raises(UsageError) as caught:
        plan(["masking"], options={"masking_design": "halves"})
    assert caught.value.code == "E-CHOICE"
    with pytest.raises(UsageError) as caught:
        Masking(masking_design="halves")  # type: ignore[arg-type]
    assert caught.value.code == "E-MASKING"
    older = {"norm": "linf", "eps": "8/255", "samples": 512, "surrogate_sha256": None}
    read = Masking.read(older)
    assert isinstance(read, PreparedMasking)
    assert (read.design, read.screen) == (None, None)
    assert not {"design", "screen"} & read.params.keys()
    newer = PreparedMasking(
        norm="linf", eps=Fraction(8, 255), samples=512, design="sequential", screen=Screen(),
        surrogate_sha256=None,
    )  # fmt: skip
    assert Masking.read(json.loads(json.dumps(newer.params))) == newer
