import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from robustmix.comparison.check import check
from robustmix.comparison.check_warnings import theatre
from robustmix.comparison.compare import compare
from robustmix.comparison.decide import decide
from robustmix.comparison.document import CheckDocument
from robustmix.comparison.measure import Options
from robustmix.comparison.paired import Counted
from robustmix.comparison.paths import parse_path
from robustmix.comparison.rules import RuleSet, parse_amount, parse_assertion, rules_from
from robustmix.errors import IncompleteError, IntakeError, UsageError
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.report.report import Report
from robustmix.testing import assert_no_regression
from tests.comparison.reports import (
    DEFAULT_GATE,
    base,
    changed,
    damaged,
    report_of,
    saved,
    set_in,
    sibling,
)

QUICK = Options(replicates=400, function_replicates=200)


def run(
    report: Report, baseline: Report | None, *rules: dict[str, Any], **options: Any
) -> CheckDocument:
    chosen: RuleSet | None = rules_from({"rule": list(rules)}) if rules else None
    return check(report, baseline, chosen, options=QUICK, **options)


def one(document: CheckDocument) -> str:
    (result,) = document.rules
    return result.outcome


KINDS: list[dict[str, Any]] = [
    {"kind": "no-drop"},
    {"kind": "no-drop", "tolerance": ["0", "0%"]},
    {"kind": "significant"},
    {"kind": "non-inferiority"},
    {"kind": "non-inferiority", "margin": 0},
]


@pytest.mark.parametrize("rule", KINDS, ids=str)
def test_a_report_passes_against_itself(rule: dict[str, Any], tmp_path: Path) -> None:
    names = [*DEFAULT_GATE, "calibration.ece_15", "corruption.acc[brightness/4]"]
    names += [] if rule == {"kind": "non-inferiority"} else ["clean.nll"]  # 1 pp of no nats
    rules = [{"metric": name, **rule} for name in names]
    document = run(base(), base(), *rules, strict=True)
    assert document.exit_code == 0
    assert {result.outcome for result in document.rules} == {"pass"}
    # Without its rows nothing says that its numbers are true.
    bare = Report(base().content)
    assert run(bare, bare, *rules).exit_code == 4
    assert run(bare, bare, *rules, allow_unverified=True).exit_code == 0


def test_the_default_gate_passes_the_same_model_and_fails_a_damaged_one() -> None:
    again = report_of(name="again")
    document = run(again, base())
    assert (document.verdict, document.exit_code) == ("pass", 0)
    assert document.default_rules
    assert [result.path for result in document.rules] == DEFAULT_GATE
    assert {result.kind for result in document.rules} == {"non-inferiority"}
    assert {result.limit for result in document.rules} == {0.01}
    document = run(damaged(), base())
    assert (document.verdict, document.exit_code) == ("fail", 1)
    assert document.rules[0].outcome == "fail"
    assert run(base(), damaged()).exit_code == 0


def test_what_200_images_cannot_decide_is_inconclusive_and_strict_fails_it() -> None:
    document = run(sibling(), base(), {"metric": "clean.top1"})
    assert (one(document), document.exit_code) == ("inconclusive", 0)
    assert any(line.startswith("W-UNDERPOWERED: clean.top1") for line in document.warnings)
    assert run(sibling(), base(), {"metric": "clean.top1"}, strict=True).exit_code == 1


def test_absolute_rules_need_no_baseline() -> None:
    value = base().metric("clean.top1").value
    assert value is not None
    for limit, outcome in ((value, "pass"), (value + 1e-9, "fail"), (0.0, "pass")):
        rule = {"metric": "clean.top1", "kind": "absolute", "limit": limit}
        assert one(run(base(), None, rule)) == outcome
    error = 1 - value
    assert (
        one(run(base(), None, {"metric": "clean.error", "kind": "absolute", "limit": 1})) == "pass"
    )
    below = {"metric": "clean.error", "kind": "absolute", "limit": error / 2}
    assert one(run(base(), None, below)) == "fail"
    document = check(base(), assertions=[parse_assertion("clean.top1>0.5")], options=QUICK)
    assert document.exit_code == 0
    assert document.baseline is None


def test_trap_29_a_limit_in_percent_is_refused() -> None:
    with pytest.raises(UsageError, match=r"did you mean 0\.8\?"):
        run(base(), None, {"metric": "clean.top1", "kind": "absolute", "limit": 80})
    with pytest.raises(UsageError, match="the tolerance 2 of a fraction"):
        run(base(), base(), {"metric": "clean.top1", "kind": "no-drop", "tolerance": 2})


def test_no_drop_is_exact_at_its_tolerance() -> None:
    a, b = base().metric("clean.top1").value, damaged().metric("clean.top1").value
    assert a is not None
    assert b is not None
    loss = a - b
    assert loss > 0

    def outcome(tolerance: object, loosest: bool = False) -> str:
        rule = {"metric": "clean.top1", "kind": "no-drop", "tolerance": tolerance, "any": loosest}
        return one(run(damaged(), base(), rule))

    points = f"{100 * loss:.12f}pp"
    assert outcome(points) == "pass"
    assert outcome(f"{100 * loss - 1e-6:.12f}pp") == "fail"
    assert outcome(f"{100 * loss / a + 1e-6:.9f}%") == "pass"
    assert outcome(f"{100 * loss / a - 1e-6:.9f}%") == "fail"
    assert outcome([points, "0.001"]) == "fail"
    assert outcome([points, "0.001"], loosest=True) == "pass"
    assert one(run(base(), damaged(), {"metric": "clean.top1", "kind": "no-drop"})) == "pass"


def test_significant_fails_only_for_the_worse() -> None:
    rule = {"metric": "clean.top1", "kind": "significant"}
    assert one(run(damaged(), base(), rule)) == "fail"
    assert one(run(base(), damaged(), rule)) == "pass"
    assert one(run(sibling(), base(), rule)) == "pass"


def test_improvement() -> None:
    rule = {"metric": "clean.nll", "kind": "improvement"}
    assert one(run(base(), damaged(), rule)) == "pass"
    assert one(run(damaged(), base(), rule)) == "fail"
    assert one(run(base(), base(), rule)) == "inconclusive"


def test_a_lower_is_better_metric_is_judged_that_way() -> None:
    rule = {"metric": "clean.nll", "kind": "non-inferiority", "margin": 0.05}
    assert one(run(damaged(), base(), rule)) == "fail"
    assert one(run(base(), damaged(), rule)) == "pass"


@pytest.mark.parametrize(
    ("kind", "gains", "gain", "adjusted", "limit", "outcome"),
    [
        ("non-inferiority", (-0.009, 0.01), 0.0, 1.0, 0.01, "pass"),
        ("non-inferiority", (-0.01, 0.01), 0.0, 1.0, 0.01, "inconclusive"),
        ("non-inferiority", (-0.04, -0.02), -0.03, 0.02, 0.01, "fail"),
        ("non-inferiority", (-0.04, -0.02), -0.03, 0.05, 0.01, "inconclusive"),
        ("non-inferiority", (0.0, 0.0), 0.0, 1.0, 0.0, "pass"),
        ("non-inferiority", (0.0, 0.1), 0.0, 1.0, 0.0, "pass"),
        ("significant", (-0.04, -0.02), -0.03, 0.049, None, "fail"),
        ("significant", (-0.04, -0.02), -0.03, 0.05, None, "pass"),
        ("significant", (0.02, 0.04), 0.03, 0.001, None, "pass"),
    ],
)
def test_decisions_at_their_edges(
    kind: str,
    gains: tuple[float, float],
    gain: float,
    adjusted: float,
    limit: float | None,
    outcome: str,
) -> None:
    assert decide(kind, gains, gain, adjusted, alpha=0.05, limit=limit) == outcome


def test_failing_and_the_interval_say_the_same() -> None:
    """One rule alone fails exactly if the 95 % interval lies beyond the margin: p is two-sided."""
    rule = {"metric": "clean.top1", "kind": "non-inferiority"}
    (result,) = run(damaged(), base(), rule).rules
    a, b = (
        r.samples.tables["clean"].at("clean")["correct"].astype(bool)  # type: ignore[union-attr]
        for r in (base(), damaged())
    )
    effect = Counted(
        int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
    )
    assert result.p == pytest.approx(2 * effect.p_below(-0.01))
    assert result.ci == effect.interval(0.05)
    assert result.ci is not None
    margin = -result.ci[1]  # the upper end of the interval
    for factor, outcome in ((0.999, "fail"), (1.001, "inconclusive")):
        shifted = {**rule, "margin": f"{100 * margin * factor:.9f}pp"}
        assert one(run(damaged(), base(), shifted)) == outcome


def test_failures_are_adjusted_for_their_number() -> None:
    rules = [{"metric": name, "kind": "significant"} for name in DEFAULT_GATE]
    document = run(damaged(), base(), *rules)
    raw = [result.p for result in document.rules]
    adjusted = [result.p_adjusted for result in document.rules]
    assert None not in raw
    smallest = raw.index(min(raw))  # type: ignore[type-var]
    assert adjusted[smallest] == pytest.approx(4 * raw[smallest])  # type: ignore[operator]
    absolute = {"metric": "clean.top1", "kind": "absolute", "limit": 0.1}
    more = run(damaged(), base(), *rules, absolute)
    assert [r.p_adjusted for r in more.rules[:4]] == adjusted  # no test, no part of the family


BROKEN: list[tuple[str, Any, int]] = [
    ("a missing suite", lambda v: v["suites"].pop("fgsm"), 4),
    ("a missing metric", lambda v: v["suites"]["clean"]["metrics"].pop("top1"), 4),
    ("a failed suite", set_in("suites", "fgsm", "status", to="failed"), 4),
    ("a partial suite", set_in("suites", "fgsm", "status", to="partial"), 4),
    ("a skipped suite", set_in("suites", "fgsm", "status", to="skipped"), 4),
    (
        "no value",
        lambda v: v["suites"]["clean"]["metrics"]["top1"].update(value=None, reason="lost"),
        4,
    ),
    ("an interrupted run", set_in("run", "status", to="interrupted"), 4),
    ("trap 16: another n", set_in("suites", "clean", "metrics", "top1", "n", to=10_000), 5),
    ("trap 16: a subset against all", set_in("dataset", "n_total", to=200), 5),
    ("another protocol", set_in("protocol", "params", "fgsm", "eps", to="4/255"), 5),
    ("another direction", set_in("suites", "clean", "metrics", "top1", "direction", to="lower"), 5),
    ("other data", set_in("dataset", "name", to="svhn"), 5),
    ("another preset", lambda v: v["protocol"].update(nonstandard=True, presets=["paper"]), 5),
]


@pytest.mark.parametrize(("what", "change", "code"), BROKEN, ids=[b[0] for b in BROKEN])
@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_what_could_not_be_judged_never_passes(
    what: str, change: Any, code: int, side: str
) -> None:
    whole = report_of(name="again")
    broken = changed(whole, change)
    left_out = what in ("a missing suite", "no value", "an interrupted run", "a missing metric")
    if side == "baseline" and (left_out or "suite" in what):
        rules = [{"metric": name} for name in DEFAULT_GATE]
        document = run(whole, broken, *rules)
        # A baseline that was interrupted elsewhere still holds what the rules ask for.
        assert document.exit_code == (0 if what == "an interrupted run" else code)
        return
    document = run(broken, base()) if side == "candidate" else run(whole, broken)
    assert document.exit_code == code
    assert document.verdict == ("incomplete" if code == 4 else "incompatible")


def test_a_failed_suite_that_no_rule_names_is_no_pass() -> None:
    broken = changed(report_of(name="again"), set_in("suites", "fgsm", "status", to="failed"))
    document = run(broken, base(), {"metric": "clean.top1"})
    assert document.exit_code == 4
    assert document.rules[-1].rule == "fgsm completed"


NO_RECORD = "cannot be verified: a report came without its per-sample record"
POINTS = {"metric": "clean.top1", "kind": "no-drop", "tolerance": "10pp"}
FLOOR = {"metric": "clean.top1", "kind": "absolute", "limit": 0.5}


@pytest.mark.parametrize("bare", ["candidate", "baseline"])
def test_numbers_without_rows_are_believed_only_if_that_is_asked_for(bare: str) -> None:
    pair = [sibling(), base()]
    side = ("candidate", "baseline").index(bare)
    pair[side] = Report(pair[side].content)
    for rule in (POINTS, {"metric": "clean.top1"}, FLOOR):
        untouched = rule is FLOOR and bare == "baseline"
        document = run(pair[0], pair[1], rule)
        assert document.exit_code == (0 if untouched else 4)
        assert untouched or document.rules[0].message == NO_RECORD
    document = run(pair[0], pair[1], POINTS, allow_unverified=True)
    assert document.exit_code == 0
    told = (
        "W-UNVERIFIED: clean.top1 is taken as it is stated, for a report came without its "
        "per-sample record"
    )
    assert told in document.rules[0].message
    assert any(told in line for line in document.warnings)
    assert run(pair[0], pair[1], FLOOR, allow_unverified=True).exit_code == 0
    # What is tested needs the rows themselves.
    document = run(pair[0], pair[1], {"metric": "clean.top1"}, allow_unverified=True)
    assert (document.exit_code, document.rules[0].outcome) == (4, "incomplete")
    assert document.rules[0].message.startswith("cannot be tested: ")


def test_numbers_that_the_rows_do_not_give_are_refused() -> None:
    forged = changed(damaged(), set_in("suites", "clean", "metrics", "top1", "value", to=0.975))
    with pytest.raises(IntakeError, match=r"clean\.top1 is not what the per-sample record gives"):
        run(forged, base())
    with pytest.raises(IntakeError, match=r"clean\.top1 is not what the per-sample record gives"):
        run(forged, None, {"metric": "clean.top1", "kind": "absolute", "limit": 0.9})


FORGED: list[tuple[str, Any, str]] = [
    ("n", 180, "it is of 200 samples, the report states 180"),
    ("ci", [0.97, 0.99], "the rows give the interval"),
    ("direction", "lower", "higher is better, the report differs"),
    ("unit", "score", "it is in fraction"),
]


@pytest.mark.parametrize(("field", "value", "told"), FORGED, ids=[f[0] for f in FORGED])
def test_all_that_a_report_states_of_a_number_is_held_against_its_rows(
    field: str, value: object, told: str
) -> None:
    forged = [
        changed(r, set_in("suites", "clean", "metrics", "top1", field, to=value))
        for r in (base(), sibling())
    ]
    with pytest.raises(IntakeError, match=told):
        run(forged[0], None, {"metric": "clean.top1", "kind": "absolute", "limit": 0.1})
    with pytest.raises(IntakeError, match=told):
        run(forged[1], forged[0], {"metric": "clean.top1", "kind": "no-drop"})


def test_a_maximum_has_no_test_and_is_still_what_its_rows_give() -> None:
    loose = {"metric": "clean.nll_max", "kind": "no-drop", "tolerance": "900%"}
    assert run(sibling(), base(), loose).exit_code == 0
    document = run(sibling(), base(), {"metric": "clean.nll_max", "kind": "significant"})
    assert document.exit_code == 4
    assert document.rules[0].message == (
        "cannot be tested: resampling cannot show how much larger a maximum could be"
    )
    forged = changed(sibling(), set_in("suites", "clean", "metrics", "nll_max", "value", to=0.1))
    for rule in (loose, {"metric": "clean.nll_max", "kind": "absolute", "limit": 9}):
        with pytest.raises(IntakeError, match=r"clean\.nll_max is not what the per-sample record"):
            run(forged, None if rule["kind"] == "absolute" else base(), rule)


def test_a_search_is_judged_by_all_that_it_reports() -> None:
    pgd = Attack(attack="pgd", eps=(Fraction(2, 255),), masking="off").with_options(steps=4)
    suites = ("clean", pgd)
    a, b = (report_of(seed=seed, suites=suites, limit=60) for seed in (0, 1))
    names = [f"pgd.{name}" for name in ("error_last", "error_half_steps", "unconverged")]
    document = run(b, a, *({"metric": name, "kind": "significant"} for name in names))
    assert {result.outcome for result in document.rules} <= {"pass", "fail"}
    assert all(result.p is not None for result in document.rules)
    wrong = []
    for report in (a, b):
        assert report.samples is not None
        last = report.samples.tables["pgd"].at("2/255")["last_pred"]
        wrong.append((last != report.samples.labels).mean())
    assert document.rules[0].delta == pytest.approx(wrong[1] - wrong[0])


def test_what_takes_long_keeps_to_few_resamples() -> None:
    names = (
        "calibration.ece_15",
        "calibration.classwise_ece_15",
        "corruption.ece_15[brightness/4]",
    )
    many = Options(replicates=400, function_replicates=300)
    rules = rules_from({"rule": [{"metric": name, "kind": "significant"} for name in names]})
    document = check(sibling(), base(), rules, options=many)
    methods = [result.ci_method for result in document.rules]
    assert methods == ["bootstrap+chance/300", "bootstrap+chance/200", "bootstrap+chance/300"]


def clean_hits(report: Report) -> dict[str, bool]:
    assert report.samples is not None
    hits = report.samples.tables["clean"].at("clean")["correct"]
    return dict(zip(report.samples.sample_ids, hits, strict=True))


OLD = Path(__file__).parents[1] / "report" / "data" / "made_by_0_1_0"


def test_a_baseline_made_by_0_1_0_gates() -> None:
    suites = (
        "clean",
        "calibration",
        Corruption(corruptions="fog,jpeg", severity=(1, 3)),
        Attack(attack="fgsm", masking="off"),
        Occlusion(
            mode=("random", "salient"), trials=2, grid=(4, 4),
            ratios=tuple(Fraction(k, 4) for k in (0, 1, 2, 4)),
        ),
        Shuffle(pieces=(4, 16), trials=2),
    )  # fmt: skip
    candidate = report_of(seed=1, suites=suites, limit=46, name="today", confusion=True)
    old = Report.load(OLD)
    document = check(candidate, OLD, options=QUICK)
    assert document.verdict in ("pass", "fail", "inconclusive")
    assert [result.path for result in document.rules] == [
        "clean.top1", "corruption.acc_mean_selected2_subset", "fgsm.robust_acc",
        "occlusion.auc_mean_random_4x4", "shuffle.auc_pieces16",
    ]  # fmt: skip
    assert {result.n for result in document.rules} == {46}
    for result in document.rules:
        assert result.baseline == old.metric(result.path).value
        assert result.value == candidate.metric(result.path).value
    then, now = clean_hits(old), clean_hits(candidate)
    cells = [(bool(then[name]), bool(now[name])) for name in then]
    both, only_then = cells.count((True, True)), cells.count((True, False))
    only_now, neither = cells.count((False, True)), cells.count((False, False))
    effect = Counted(both, only_then, only_now, neither)
    assert document.rules[0].ci == effect.interval(0.05)
    assert "not gated: calibration: no accuracy" in document.notes
    assert "not gated: masking: the candidate does not have it" in document.notes
    forged = changed(old, set_in("suites", "clean", "metrics", "top1", "value", to=0.1))
    with pytest.raises(IntakeError, match=r"clean\.top1 is not what the per-sample record gives"):
        check(candidate, forged, options=QUICK)


def test_what_there_is_to_check_must_be_said() -> None:
    with pytest.raises(UsageError, match="nothing to check"):
        check(base())
    with pytest.raises(UsageError, match="need a baseline"):
        run(base(), None, {"metric": "clean.top1"})
    with pytest.raises(UsageError, match="no better direction"):
        run(base(), base(), {"metric": "calibration.gap"})
    assert check(base(), base(), RuleSet(rules=()), options=QUICK).exit_code == 4
    empty = changed(base(), lambda v: v["suites"].clear())
    with pytest.raises(IncompleteError, match="no accuracy"):
        check(base(), empty)


def test_a_gate_tighter_than_its_data_is_called_theatre() -> None:
    document = run(sibling(), base(), {"metric": "clean.top1", "margin": "0.1pp"})
    (result,) = document.rules
    line = theatre(result)
    assert line is not None
    assert "clean.top1 allows a loss of 0.10 points, but 200 samples show only" in line
    assert line in document.warnings
    wide = run(sibling(), base(), {"metric": "clean.top1", "margin": "50pp"})
    assert theatre(wide.rules[0]) is None


def test_options_of_the_default_rules() -> None:
    amounts = [parse_amount("90pp", "tolerance")]
    document = check(damaged(), base(), gate="no-drop", tolerances=amounts, options=QUICK)
    assert document.exit_code == 0
    wide = check(damaged(), base(), margin=parse_amount("99pp", "margin"), options=QUICK)
    assert wide.exit_code == 0
    assert check(base(), base(), alpha=0.2, options=QUICK).settings.alpha == 0.2


def test_own_saliency_is_for_information() -> None:
    def ranked(value: dict[str, Any]) -> None:
        value["tool"]["version"] = "0.0"  # of this version the rows would deny it
        shown = value["suites"]["occlusion"]["shown"]
        shown["own_choice"] = [name for name in shown["compared"] if "auc" in name]

    a, b = changed(base(), ranked), changed(sibling(), ranked)
    rule = {"metric": "occlusion.auc_mean_random_8x8", "kind": "no-drop"}
    document = run(b, a, rule)
    assert one(document) == "inconclusive"
    assert "for information" in document.rules[0].message
    assert "occlusion" not in {result.suite for result in run(b, a).rules}
    warnings = compare(a, b, options=QUICK).comparisons[0].warnings
    assert any("W-SALIENCY: each model chose the patches of occlusion." in w for w in warnings)


def test_the_document_is_publishable(tmp_path: Path) -> None:
    document = run(sibling(), base())
    text = document.to_json()
    assert CheckDocument.model_validate_json(text) == document
    assert document.candidate.sha256 != document.baseline.sha256  # type: ignore[union-attr]
    saved_document = check(saved(base(), tmp_path / "a"), tmp_path / "a", options=QUICK)
    assert str(tmp_path) not in saved_document.to_json()


def test_assert_no_regression(tmp_path: Path) -> None:
    assert assert_no_regression(base(), base(), options=QUICK).verdict == "pass"
    with pytest.raises(AssertionError) as caught:
        assert_no_regression(damaged(), base(), options=QUICK)
    text = str(caught.value)
    assert text.startswith("robustmix check: fail\nfail: clean.top1 non-inferiority margin 1 pp: ")
    rules = {"rule": [{"metric": "clean.top1", "kind": "no-drop", "tolerance": "99pp"}]}
    assert_no_regression(damaged(), base(), rules, options=QUICK)
    assert_no_regression(damaged(), base(), rules_from(rules).rules, options=QUICK)
    with pytest.raises(AssertionError, match="inconclusive"):
        assert_no_regression(sibling(), base(), strict=True, options=QUICK)
    with pytest.raises(IntakeError):
        assert_no_regression(base(), tmp_path / "nowhere")


IDLE: list[tuple[dict[str, Any], str]] = [
    (
        {"gate": "no-drop", "margin": "2pp"},
        "margin is of gate non-inferiority, not of gate p",
    ),
    ({"gate": "significant", "margin": "2pp"}, "not of gate significant; leave it out"),
    (
        {"gate": "improvement", "tolerance": "1pp"},
        "tolerance is of gate point, not of gate i",
    ),
    ({"margin": "2pp", "tolerance": "1pp"}, "tolerance is of gate point, not of gate non-in"),
]


@pytest.mark.parametrize(("given", "told"), IDLE, ids=str)
@pytest.mark.parametrize("baseline", [True, False])
def test_an_option_that_would_do_nothing_is_refused(
    given: dict[str, str], told: str, baseline: bool
) -> None:
    options: dict[str, Any] = {"assertions": [parse_assertion("clean.top1>=0.1")]}
    options |= {"gate": given.get("gate")}
    if "margin" in given:
        options["margin"] = parse_amount(given["margin"], "margin")
    if "tolerance" in given:
        options["tolerances"] = [parse_amount(given["tolerance"], "tolerance")]
    with pytest.raises(UsageError, match=told if baseline else "and there is none"):
        check(base(), base() if baseline else None, **options)


def test_a_level_of_no_test_is_refused() -> None:
    with pytest.raises(UsageError, match="alpha is of tests, and no rule is one"):
        check(base(), assertions=[parse_assertion("clean.top1>=0.1")], alpha=0.1)


@pytest.mark.parametrize("amount", ["100pp", "250 pp", "1000.5%", "1e300%", "1e300pp"])
@pytest.mark.parametrize("kind", ["margin", "tolerance"])
def test_a_rule_that_could_not_fail_is_refused(kind: str, amount: str) -> None:
    rule = {"metric": "clean.top1", kind: amount}
    rule |= {"kind": "no-drop"} if kind == "tolerance" else {}
    with pytest.raises(UsageError, match="allows every loss, so the rule could not fail"):
        run(damaged(), base(), rule)


@pytest.mark.parametrize(
    ("metric", "amount", "refused"),
    [
        ("clean.top1", "99.9%", False),
        ("clean.top1", "100%", True),
        ("clean.error", "900%", False),
        ("clean.nll", "99", False),
        ("clean.nll", "100", True),
    ],
)
def test_the_bound_of_a_loss_depends_on_the_metric(metric: str, amount: str, refused: bool) -> None:
    rule = {"metric": metric, "kind": "no-drop", "tolerance": amount}
    if refused:
        with pytest.raises(UsageError, match="the rule could not fail"):
            run(base(), base(), rule)
    else:
        assert run(base(), base(), rule).exit_code == 0


def test_a_loss_of_all_that_there_is_is_told() -> None:
    value = base().metric("clean.top1").value
    assert value is not None
    for points, told in ((100 * value + 0.1, True), (100 * value - 0.1, False)):
        document = run(base(), base(), {"metric": "clean.top1", "margin": f"{points}pp"})
        assert any(line.startswith("W-CANNOT-FAIL") for line in document.warnings) == told


@pytest.mark.parametrize(
    ("metric", "near"),
    [
        ("clean.tpo1", "clean.top1"),
        ("claen.top1", "clean.top1"),
        ("corruption.acc[brightnes/4]", "corruption.acc[brightness/4]"),
    ],
)
def test_a_slip_is_told_with_the_nearest_names(metric: str, near: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"did you mean {near}")):
        check(base(), assertions=[parse_assertion(f"{metric}>=0.1")], options=QUICK)
    with pytest.raises(UsageError, match=re.escape(f"did you mean {near}")):
        compare(base(), sibling(), metrics=[parse_path(metric)], options=QUICK)


def test_what_did_not_run_is_missing_and_no_slip() -> None:
    assert check(base(), assertions=[parse_assertion("pgd.robust_acc>=0.1")]).exit_code == 4
    lost = changed(base(), lambda v: v["suites"]["clean"]["metrics"].pop("top1"))
    assert check(lost, assertions=[parse_assertion("clean.top1>=0.1")]).exit_code == 4


def test_other_pixels_under_the_same_ids_are_other_data() -> None:
    other = changed(report_of(name="again"), set_in("dataset", "pixels_sha256", to="0" * 64))
    document = run(other, base())
    assert document.exit_code == 5
    said = document.rules[0].message
    assert re.search(r"pixels of the images: \w{12} against 000000000000", said)
    # A baseline of other data is refused even where no rule compares.
    floor = {"metric": "clean.top1", "kind": "absolute", "limit": 0.1}
    document = run(other, base(), floor)
    assert (document.exit_code, document.rules[-1].outcome) == (5, "incompatible")
    unsaid = changed(report_of(name="again"), set_in("dataset", "pixels_sha256", to=None))
    assert run(unsaid, base()).exit_code == 0


@pytest.mark.parametrize("side", ["candidate", "baseline"])
def test_a_model_that_does_not_repeat_itself_passes_no_gate(side: str) -> None:
    random = changed(
        report_of(name="again"), set_in("model", "checks", "batch_independent", to=False)
    )
    pair = (random, base()) if side == "candidate" else (base(), random)
    document = run(pair[0], pair[1])
    assert (document.verdict, document.exit_code) == ("incomplete", 4)
    assert document.rules[-1].rule == "the model of again repeats its answers"


def test_reports_of_one_name_are_called_as_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("runs/one", "runs/two", "ci/one"):
        saved(base(), tmp_path / place)
    monkeypatch.chdir(tmp_path)

    def called(a: Path | str, b: Path | str) -> tuple[str, str]:
        document = check(a, b, options=QUICK)
        assert document.baseline is not None
        return document.candidate.name, document.baseline.name

    assert called("runs/two", "runs/one") == ("runs/two", "runs/one")
    assert called("runs/one", "runs/one") == ("runs/one", "runs/one")
    # Of absolute paths only what tells them apart: documents are published.
    assert called(tmp_path / "runs/two", tmp_path / "runs/one") == ("two", "one")
    assert called(tmp_path / "runs/one", tmp_path / "ci/one") == ("runs/one", "ci/one")
    saved(sibling(), tmp_path / "new")
    assert called("new", "runs/one") == ("sibling", "base")
