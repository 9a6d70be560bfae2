"""Forged reports and records: what the rest of them contradicts passes no gate.

Every field of a report and every column of a record is changed, one at a time, in reports that
pass. A forgery that something else in the report or its record contradicts ends in 3, 4 or 5. The
fields that nothing contradicts are listed, for whoever reads a report must know them: with one of
these changed the verdict is what it was.
"""

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.cli.app import run
from robustmix.comparison.check import check
from robustmix.comparison.measure import Options
from robustmix.comparison.paths import MetricPath
from robustmix.comparison.rules import Rule, RuleSet
from robustmix.errors import RobustmixError
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.masking import Masking
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.evaluation.suites.shuffle import Shuffle
from robustmix.metrics.agreement import SCORES, score_faults
from robustmix.metrics.intervals import wilson
from robustmix.metrics.scores import score_logits
from robustmix.report.report import Report
from robustmix.report.schema import ReportModel
from tests.comparison.reports import report_of, saved

QUICK = Options(replicates=100, function_replicates=100)
N = 40

SUITES: dict[str, Any] = {
    "clean": "clean",
    "calibration": "calibration",
    "corruption": Corruption(corruptions="brightness", severity=(1, 4)),
    "masking": Masking(eps=(Fraction(1, 255),), masking_samples=20),
    "fgsm": Attack(attack="fgsm", eps=(Fraction(2, 255),), sweep=(), masking="off"),
    "pgd": Attack(attack="pgd", eps=(Fraction(1, 255),), masking="off").with_options(steps=2),
    "occlusion": Occlusion(ratios=(Fraction(1, 2),), trials=2, grid=(2, 2)),
    "shuffle": Shuffle(pieces=(4,), trials=2),
}


FEW = ("calibration", "corruption", "masking", "pgd", "occlusion")
"""Suites of every kind; those that are left out are much like one of these."""


@cache
def good(*names: str) -> Report:
    """A report of ``clean`` and some other suites."""
    return report_of(name="good", suites=tuple(SUITES[n] for n in ("clean", *names)), limit=N)


@cache
def bad() -> Report:
    """A worse model under the suites that a gate watches: it fails against ``good``."""
    names = ("clean", "corruption", "fgsm", "occlusion")
    return report_of(noise=0.1, name="bad", suites=tuple(SUITES[name] for name in names), limit=N)


Place = tuple[Any, ...]


def node(value: Any, place: Place) -> Any:
    for key in place:
        value = value[key]
    return value


def places(value: Any, at: Place = (), *, every: bool = False) -> Iterator[Place]:
    """Yield the way to the nodes of a JSON value: of lists and of numbers alike only to the first.

    Args:
        value: the whole.
        at: the way so far.
        every: whether to go all ways.
    """
    if at:
        yield at
    keys: list[Any] = []
    if isinstance(value, dict):
        keys = list(value)[: 1 if at[-1:] == ("metrics",) and not every else None]
    elif isinstance(value, list):
        keys = list(range(len(value)))[: None if every else 1]
    for key in keys:
        yield from places(value[key], (*at, key), every=every)


WORDS: dict[str, str] = {
    "higher": "lower", "lower": "higher", "neither": "higher", "fraction": "score",
    "score": "fraction", "nats": "score", "pixels": "score", "percent": "score", "ok": "skipped",
    "success": "failed", "2.0": "2.5", "linear": "log2", "symlog": "linear", "log2": "linear",
    "pass": "warn", "warn": "pass", "skip": "fail", "fail": "pass", "samples": "pictures",
    "0.2": "0.1", "0.1": "0.2",
}  # fmt: skip
"""Where only some words are valid: the forged word is, too."""


def otherwise(value: Any) -> Any:
    """Give another value of the same type, as a forger would."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 0.01 if value < 0.5 else value - 0.01
    if isinstance(value, str):
        return WORDS.get(value, f"{value}x" if len(value) != 64 else value[::-1])
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    if isinstance(value, dict):
        return {**dict(list(value.items())[1:])} if value else {"x": 1}
    return "x"


def forged(report: Report, value: dict[str, Any], place: Place, how: str) -> Report | None:
    """Give the report, whose JSON is ``value``, with one node changed.

    None where the schema itself refuses it, or takes it for what it was.
    """
    value = copy.deepcopy(value)
    parent, key = node(value, place[:-1]), place[-1]
    if how == "deleted":
        del parent[key]
    else:
        parent[key] = otherwise(parent[key])
    try:
        content = ReportModel.model_validate(value)
    except ValueError:
        return None
    return None if content == report.content else Report(content, report.samples)


def rule_for(place: Place) -> list[Rule]:
    """Give a rule on the number that a place belongs to, one that its true value meets."""
    paths = [MetricPath("clean", "top1")]
    if len(place) > 3 and place[0] == "suites" and place[2] == "metrics":
        paths.append(MetricPath(place[1], place[3]))
    return [Rule(path=path, kind="absolute", limit=-1, operator=">=") for path in paths]


def code_of(candidate: Report | Path, *rules: Rule, baseline: Report | Path | None = None) -> int:
    chosen = RuleSet(rules=rules) if rules else None
    try:
        return check(candidate, baseline, chosen, options=QUICK).exit_code
    except RobustmixError as error:
        return error.exit_code


FREE = [
    # Who made it, when, where and how it is called.
    r"run\.(id|name|started|finished|wall_s|argv|fingerprint|resumed_units|config).*",
    r"environment.*",
    r"tool.*",
    r"timing.*",
    r"warnings.*",
    r"errors.*",
    r"schema_version",
    # Which model; its weights are not there. Two reports of one model agree in it.
    r"model\.(source|format|sha256|arch|arch_options|head|weights|normalisation|resize|params"
    r"|class_map_sha256|trusted_pickle|training|token_patch|input_size).*",
    r"model\.checks.*",
    # Which images; they are not there either. A baseline of the same ones holds it against them.
    r"dataset\.(name|split|transform|layout|files|pixels_sha256|subset\.rule).*",
    r"dataset\.subset",  # struck out, the rest is as of a shard
    r"protocol\.presets.*",
    # Words for people, and what suites took.
    r"suites\.\w+\.(timing|reason|origins|columns).*",
]
"""What a report says alone: nothing else in it says otherwise."""

VALIDATED = [r".*\.(note|notes|reason|label|text|recalibrated)(\..*)?"]
"""What a gate does not go by; ``report validate`` finds it."""


def matches(patterns: list[str], place: Place) -> bool:
    text = ".".join(map(str, place))
    return any(re.fullmatch(pattern, text) for pattern in patterns)


def campaign(report: Report, wanted: Callable[[Place], bool], *, every: bool = False) -> int:
    """Forge every wanted place, and assert what becomes of it; give how many were forged."""
    count, passed, value = 0, [], report.content.model_dump(mode="json")
    for place in places(value, every=every):
        if not wanted(place):
            continue
        if not every and len(place) > 4 and place[2:3] == ("details",):
            continue
        for how in ("changed", "deleted") if every or len(place) < 4 else ("changed",):
            one = forged(report, value, place, how)
            if one is None:
                continue
            count += 1
            code = code_of(one, *rule_for(place))
            if matches(FREE, place):
                ended = code in (0, 3, 4, 5)
            elif matches(VALIDATED, place):
                ended = code in (3, 4, 5) or recompute(one) != []
            else:
                ended = code in (3, 4, 5)
            if not ended:
                passed.append((place, how, code))
    assert passed == []
    return count


def test_the_reports_are_what_they_should_be() -> None:
    for name in FEW:
        assert code_of(alone(name), *rule_for(())) == 0
    assert code_of(bad(), baseline=good("corruption", "fgsm", "occlusion")) == 1
    assert good("masking").content.suites["masking"].verdicts[0].checks


def alone(name: str) -> Report:
    return good(*({name} - {"clean"}))


WHOLE = [pytest.param(suite, True, marks=pytest.mark.slow) for suite in SUITES]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_field_of_a_report_can_be_forged(every: bool) -> None:
    def outside(place: Place) -> bool:
        return place[0] != "suites" or len(place) < 3

    assert campaign(good(), outside, every=every) > 120


@pytest.mark.parametrize(("suite", "every"), [*((suite, False) for suite in FEW), *WHOLE])
def test_no_field_of_a_suite_can_be_forged(suite: str, every: bool) -> None:
    def inside(place: Place) -> bool:
        return place[:2] == ("suites", suite)

    assert campaign(alone(suite), inside, every=every) > 40


# The record


def with_columns(report: Report, suite: str, **columns: Any) -> Report:
    """Give the report with columns of a suite replaced, or dropped where they are None."""
    assert report.samples is not None
    table = report.samples.tables[suite]
    found = {name: c for name, c in {**table.columns, **columns}.items() if c is not None}
    tables = {**report.samples.tables, suite: replace(table, columns=found)}
    return Report(report.content, replace(report.samples, tables=tables))


def altered(column: Any, *, clumsily: bool) -> Iterator[tuple[str, Any]]:
    """Yield what a forger would make of a column."""
    one = column.copy()
    place = tuple(np.argwhere(column == column.max())[0])
    one[place] = not one[place] if column.dtype == bool else one[place] - 1
    yield "one value", one
    yield "the best", np.full_like(column, column.max())
    yield "the least", np.full_like(column, column.min())
    yield "turned round", column[:, :, ::-1]
    yield "lost", None
    if clumsily:
        yield "half", column[:, :, : N // 2]
        yield "words", column.astype("U8")
        yield "not a number", np.full(column.shape, np.nan)


def unchanged(other: Any, column: Any) -> bool:
    """Tell whether a column says what it said, to the last digits that machines agree in."""
    if other.shape != column.shape or other.dtype.kind not in "biuf":
        return False
    return bool(np.allclose(other, column, rtol=0, atol=1e-6))


DECIDING = {"pred", "correct", "logits", "tested"}
"""Columns that say what was right, of which nothing at all may be changed."""

RECORDS = [(suite, False) for suite in ("clean", "corruption", "masking", "pgd")]
SEARCHED = [param for param in WHOLE if param.values[0] != "calibration"]  # it has no rows


@pytest.mark.parametrize(("suite", "every"), [*RECORDS, *SEARCHED])
def test_no_column_of_a_record_can_be_forged(suite: str, every: bool) -> None:
    """What passes leaves every number and every verdict as it is: ``validate`` finds nothing."""
    report = alone(suite)
    assert report.samples is not None
    passed = []
    for name, column in report.samples.tables[suite].columns.items():
        for how, other in altered(column, clumsily=every or suite == "pgd"):
            if other is not None and unchanged(other, column):
                continue
            one = with_columns(report, suite, **{name: other})
            code = code_of(one, *rule_for(()))
            if code in (3, 4, 5):
                continue
            if name in DECIDING or recompute(one) != []:
                passed.append((name, how, code))
    assert passed == []


# What was seen


Change = Callable[[dict[str, Any]], object]


def forge(folder: Path, change: Change | None = None, **columns: Any) -> None:
    """Change a saved report and columns of ``clean``, and mend the checksum."""
    if columns:
        report = Report.load(folder)
        with_columns(report, "clean", **columns).save(folder)
    path = folder / "report.json"
    value = json.loads(path.read_text(encoding="utf-8"))
    if change is not None:
        change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def top1(value: dict[str, Any]) -> dict[str, Any]:
    return value["suites"]["clean"]["metrics"]["top1"]  # type: ignore[no-any-return]


def raised(value: dict[str, Any]) -> None:
    """State a perfect accuracy, as its rows would: with the interval of N right images."""
    top1(value).update(value=1.0, ci=list(wilson(N, N)))


ONES = np.ones((1, 1, N), dtype=bool)
ZEROS = np.zeros((1, 1, N), dtype=np.int32)


def without_record(folder: Path) -> None:
    forge(folder, raised)
    (folder / "samples.npz").unlink()


def struck_out(folder: Path) -> None:
    forge(folder, raised)
    forge(folder, lambda value: value["artifacts"].clear())


def of_another_kind(folder: Path) -> None:
    forge(folder, raised)
    forge(folder, lambda value: value["artifacts"][0].update(kind="log"))


def under_another_name(folder: Path) -> None:
    forge(folder, raised)
    forge(folder, lambda value: value["artifacts"][0].update(path="rows.npz"))


def said_right(folder: Path) -> None:
    forge(folder, raised, correct=ONES)


def said_right_and_ranked(folder: Path) -> None:
    forge(folder, raised, correct=ONES, rank=ZEROS)


def relabelled(folder: Path) -> None:
    report = Report.load(folder)
    assert report.samples is not None
    clean = report.samples.tables["clean"].columns
    samples = replace(report.samples, labels=clean["pred"][0, 0].astype(np.int64))
    Report(report.content, samples).save(folder)
    forge(folder, raised, correct=ONES, rank=ZEROS)


def twice_in_json(folder: Path) -> None:
    path = folder / "report.json"
    text = path.read_text(encoding="utf-8")
    at = text.index('"value":', text.index('"top1": {'))
    path.write_text(f'{text[:at]}"value": 0.1, {text[at:]}', encoding="utf-8")


def of_no_samples(folder: Path) -> None:
    forge(folder, lambda value: top1(value).update(n=0))


def of_a_million(folder: Path) -> None:
    forge(folder, lambda value: top1(value).update(n=10**6))


def in_another_unit(folder: Path) -> None:
    forge(folder, lambda value: top1(value).update(unit="score"))


def the_other_way(folder: Path) -> None:
    forge(folder, lambda value: top1(value).update(direction="lower"))


def of_a_narrow_interval(folder: Path) -> None:
    forge(folder, lambda value: top1(value).update(ci=[0.4, 0.5]))


FORGERS: dict[Callable[[Path], None], int] = {
    without_record: 4, struck_out: 3, of_another_kind: 3, under_another_name: 3, said_right: 3,
    said_right_and_ranked: 3, relabelled: 3, twice_in_json: 3, of_no_samples: 3, of_a_million: 3,
    in_another_unit: 3, the_other_way: 3, of_a_narrow_interval: 3,
}  # fmt: skip
GATED = ("corruption", "fgsm", "occlusion")


@pytest.mark.parametrize("forger", FORGERS, ids=lambda forger: forger.__name__)
def test_each_gate_refuses_it(forger: Callable[[Path], None], tmp_path: Path) -> None:
    baseline, folder = saved(good(*GATED), tmp_path / "good").parent, tmp_path / "bad"
    saved(bad(), folder)
    forger(folder)
    floor = ["--metric", "clean.top1>=0.05"]
    against = ["--baseline", str(baseline)]
    for gate in (floor, against, [*against, "--gate", "point"], [*against, *floor]):
        # Whose numbers are of other samples or in another unit are not even compared.
        assert run(["check", str(folder), *gate]) in (FORGERS[forger], 5)
    # Nor does a forged baseline let anything pass.
    assert run(["check", str(baseline), "--baseline", str(folder)]) in (FORGERS[forger], 5)


def test_whoever_believes_numbers_without_rows_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(bad(), tmp_path)
    without_record(tmp_path)
    rule = ["--metric", "clean.top1>=0.99"]
    assert run(["check", str(tmp_path), *rule]) == 4
    assert run(["check", str(tmp_path), *rule, "--allow-unverified"]) == 0
    assert "W-UNVERIFIED: clean.top1 is taken as it is stated" in capsys.readouterr().err


def test_the_record_is_the_expected_one(tmp_path: Path) -> None:
    saved(good(), tmp_path)
    digest = hashlib.sha256((tmp_path / "samples.npz").read_bytes()).hexdigest()
    check_it = ["check", str(tmp_path), "--metric", "clean.top1>=0.1", "--expect-sha256"]
    assert run([*check_it, digest]) == run([*check_it, digest.upper()]) == 0
    assert run([*check_it, digest[::-1]]) == 3
    assert run([*check_it, "abc"]) == 2
    (tmp_path / "samples.npz").unlink()
    assert run([*check_it, digest, "--allow-unverified"]) == 3


# What holds for the scores of every model


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 30.0, 1e4])
def test_true_scores_contradict_nothing(classes: int, scale: float) -> None:
    rng = np.random.default_rng(classes)
    logits = scale * rng.normal(size=(500, classes))
    logits[:50] = np.round(logits[:50])  # ties
    labels = rng.integers(classes, size=500)
    for temperature, end in ((1.0, ""), (0.05, "_scaled"), (20.0, "_scaled")):
        scores = score_logits(logits, labels, temperature=temperature)
        columns = {name: getattr(scores, name) for name in SCORES}
        if end:
            for name in ("confidence", "nll", "brier"):
                columns[f"{name}{end}"] = columns[name].astype(np.float32)
            plain = score_logits(logits, labels)
            columns |= {name: getattr(plain, name) for name in SCORES}
        assert list(score_faults(columns, labels, classes)) == []


def test_scores_of_another_image_contradict_each_other() -> None:
    rng = np.random.default_rng(0)
    logits, labels = 3 * rng.normal(size=(200, 5)), rng.integers(5, size=200)
    scores = score_logits(logits, labels)
    columns = {name: getattr(scores, name) for name in SCORES}
    for name in SCORES:
        told = list(score_faults(columns | {name: np.roll(columns[name], 1)}, labels, 5))
        assert told, name
