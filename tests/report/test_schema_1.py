"""Reports of schema 1.x: one that 0.1.0 made of 46 digits, and what strangers make of it."""

import copy
import json
import random
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from robustmix.cli.app import run
from robustmix.errors import IntakeError
from robustmix.evaluation.recompute import recompute
from robustmix.report.export import report_csv, report_markdown
from robustmix.report.migrate import migrate
from robustmix.report.report import Report, validated
from robustmix.report.schema import SuitePart
from robustmix.report.schema_1 import upgraded
from robustmix.report.terminal import Summary, summary_rows

OLD = Path(__file__).parent / "data" / "made_by_0_1_0"
VERDICT = "masking,,verdict,,,,20,,,,nothing suggests that the model hides its gradients,clean"


def old() -> dict[str, Any]:
    value: dict[str, Any] = json.loads((OLD / "report.json").read_text(encoding="utf-8"))
    assert value["schema_version"] == "1.0"
    return value


def test_every_number_is_the_one_that_was_written() -> None:
    """``report.csv`` was written by 0.1.0 too: names, values, intervals, notes and their order."""
    lines = report_csv(Report.load(OLD)).splitlines()
    want = (OLD / "report.csv").read_text(encoding="utf-8").splitlines()
    assert len(want) == 200
    assert [line for line in lines if line != VERDICT] == want
    assert lines.count(VERDICT) == 1


def test_every_number_and_word_is_what_the_rows_give_today() -> None:
    assert recompute(Report.load(OLD)) == []


def test_a_changed_number_is_found(tmp_path: Path) -> None:
    value = old()
    value["suites"]["corruption"]["groups"]["weather"]["value"] += 1e-6
    report = Report.load(OLD)
    report.content = validated(value, tmp_path)
    (difference,) = recompute(report)
    assert difference.startswith("corruption.conditions.groups:weather.metrics.acc_mean.value: ")


def test_what_was_a_field_of_one_suite_is_where_all_have_it() -> None:
    suites, was = Report.load(OLD).content.suites, old()["suites"]
    assert [c.name for c in suites["corruption"].conditions] == [
        *("fog/1", "fog/3", "jpeg_compression/1", "jpeg_compression/3"),
        *("groups:digital", "groups:weather", "by_severity:1", "by_severity:3"),
        *("by_corruption:fog", "by_corruption:jpeg_compression"),
    ]
    assert suites["corruption"].details["worst"] == was["corruption"]["worst"]
    assert suites["clean"].details["confusion"] == was["clean"]["confusion"]
    assert suites["calibration"].details["temperature"] == was["calibration"]["temperature"]
    (sweep,) = suites["fgsm"].curves
    assert sweep.x == [point["x"] for point in was["fgsm"]["sweep"]]
    assert sweep.ticks[:3] == ["0/255", "1/255", "2/255"]
    assert [m.value for m in suites["fgsm"].along(sweep)] == [
        point["metrics"]["robust_acc"]["value"] for point in was["fgsm"]["sweep"]
    ]
    verdict = was["masking"]["masking"]
    for key in ("masking", "fgsm"):
        (found,) = suites[key].verdicts
        assert found.title == "masking"
        assert found.model_dump(exclude={"title"}) == verdict
    assert len(verdict["checks"]) == 16
    assert suites["occlusion"].curve("salient").at[1] == "salient:0.25"
    own = suites["occlusion"].shown.own_choice
    assert len(own) == 4 + 4 * 5
    assert {"auc_mean_salient_4x4", "acc[salient:0.25]"} < set(own)
    assert suites["shuffle"].curve("shuffled").ticks[1] == "4\n2x2"


def test_it_is_shown_as_a_report_of_today(capsys: pytest.CaptureFixture[str]) -> None:
    content = Report.load(OLD).content
    first = {key: summary_rows(part)[0] for key, part in content.ordered_suites().items()}
    assert list(first) == [
        *("clean", "calibration", "corruption", "masking", "fgsm", "occlusion", "shuffle")
    ]
    assert [row[0] for row in first.values()] == [
        *("top1", "ece_15", "acc_mean_selected2_subset", "clean", "robust_acc"),
        *("auc_mean_random_4x4", "auc_pieces16"),
    ]
    assert first["fgsm"][-1] == "linf, eps 8/255, masking: clean"
    assert first["calibration"][-1] == "before scaling"
    assert first["occlusion"][-1] == "▅▂▂▂"
    assert run(["report", "show", str(OLD)]) == 0
    shown = capsys.readouterr().out
    assert all(value in shown for _, value, *_ in first.values())


def test_migrating_writes_what_loading_gives(tmp_path: Path) -> None:
    migrate(OLD / "report.json", tmp_path / "report.json")
    value = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert value["schema_version"] == "2.0"
    assert Report.load(tmp_path).to_json() == Report.load(OLD).to_json()
    again = tmp_path / "again.json"
    migrate(tmp_path / "report.json", again)
    assert again.read_text(encoding="utf-8") == (tmp_path / "report.json").read_text("utf-8")


def test_a_later_minor_version_is_read_without_what_it_added(tmp_path: Path) -> None:
    value = old() | {"schema_version": "1.7", "novelty": 1}
    value["suites"]["fgsm"]["novelty"] = [2]
    assert validated(value, tmp_path) == Report.load(OLD).content


def test_a_suite_that_did_not_end_well_is_taken_as_it_is(tmp_path: Path) -> None:
    value = old()
    value["suites"]["occlusion"] = {"kind": "occlusion", "status": "failed", "reason": "no boxes"}
    part = validated(value, tmp_path).suites["occlusion"]
    assert part == SuitePart(kind="occlusion", status="failed", reason="no boxes")


def test_a_gate_watches_the_mean_over_all_corruptions_where_there_are_several(
    tmp_path: Path,
) -> None:
    value = old()
    metrics = value["suites"]["corruption"]["metrics"]
    for name in ("acc_mean_main15", "acc_mean_all19", "ece_15_mean_scaled_all19"):
        metrics[name] = metrics["acc_mean_selected2_subset"]
    shown = validated(value, tmp_path).suites["corruption"].shown
    assert shown.gated == ["acc_mean_all19"]
    means = ["acc_mean_all19", "acc_mean_main15", "acc_mean_selected2_subset"]
    assert shown.headline[:3] == means
    assert shown.compared == [*means, "ece_15_mean_selected2_subset"]


def test_suites_keep_their_order_in_a_merged_report_which_did_not_note_it(tmp_path: Path) -> None:
    value = old()
    value["run"]["config"] = {"merged": ["a", "b"]}
    value["suites"]["torchattacks:PGD"] = value["suites"]["fgsm"]
    value["suites"]["fgsm@quick"] = value["suites"]["fgsm"]
    assert list(validated(value, tmp_path).ordered_suites()) == [
        *("clean", "calibration", "corruption", "masking", "fgsm", "fgsm@quick"),
        *("occlusion", "shuffle", "torchattacks:PGD"),
    ]


def test_the_members_of_an_ensemble_become_a_table(tmp_path: Path) -> None:
    value = old()
    robust = value["suites"]["fgsm"]["metrics"]["robust_acc"]
    member = {
        "name": "apgd-ce", "params": {}, "tried": 20, "broken": 13, "robust_acc": robust,
        "forwards": 1, "backwards": 2,
    }  # fmt: skip
    value["suites"]["fgsm"]["members"] = [member]
    part = validated(value, tmp_path).suites["fgsm"]
    assert part.details["members"] == [member]
    table = part.table("members")
    assert table is not None
    low, high = robust["ci"]
    assert table.rows == [["apgd-ce", 20, 13, robust["value"], low, high, 46]]


@pytest.mark.parametrize(
    ("place", "junk"),
    [
        (("suites", "clean", "kind"), "magic"),
        (("suites", "clean", "metrics", "top1", "value"), "NaN"),
        (("suites", "clean", "metrics", "top1", "ci"), [0.9, 0.1]),
        (("suites", "fgsm", "sweep", 0, "x"), None),
        (("suites", "fgsm", "masking", "verdict"), "splendid"),
        (("suites", "corruption", "conditions", 0, "severity"), "much"),
        (("suites", "shuffle", "points", 0, "pieces"), 0),
        (("suites", "occlusion", "curves", "random", 0, "metrics"), {}),
        (("suites", "occlusion", "curves", "random", 1, "x"), 0.0),  # twice the same place
        (("suites",), []),
        (("run",), None),
        (("run", "config"), "x"),
        (("tool",), {}),
    ],
)
def test_what_breaks_the_old_schema_is_refused_in_one_line(
    place: tuple[str | int, ...], junk: object, tmp_path: Path
) -> None:
    value = old()
    *way, last = place
    inner: Any = value
    for step in way:
        inner = inner[step]
    inner[last] = junk
    (tmp_path / "report.json").write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(IntakeError, match="breaks the schema at") as caught:
        Report.load(tmp_path)
    assert caught.value.code == "E-REPORT"
    assert "\n" not in caught.value.line()


JUNK: tuple[object, ...] = (
    *(None, 0, -1, 1e308, True, 10**30, "x", "", "8/255", "\x1b[2J\n", [], {}, [[1]], {"a": 1}),
)


def places(value: object, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """List the way to everything in a JSON-like value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    found = []
    for key, inner in items:
        found.append((*way, key))
        if isinstance(inner, dict | list):
            found += places(inner, (*way, key))
    return found


def test_junk_anywhere_is_refused_or_shown_never_a_crash() -> None:
    rng, whole = random.Random(0), old()
    whole["suites"] = {
        key: whole["suites"][key] for key in ("fgsm", "masking", "occlusion", "shuffle")
    } | {"clean": {"kind": "clean", "status": "ok"}}
    every = [way for way in places(whole) if way[0] in ("suites", "run")]
    read = 0
    for _ in range(150):
        value = copy.deepcopy(whole)
        *way, last = rng.choice(every)[: rng.randint(2, 6)]
        inner: Any = value
        for step in way:
            inner = inner[step]
        inner[last] = rng.choice(JUNK)
        try:
            report = Report(validated(value, Path("report.json")))
        except IntakeError:
            continue
        read += 1
        assert report_csv(report)
        assert report_markdown(report)
        Console(file=StringIO(), width=80, markup=False).print(Summary(report))
    assert 5 < read < 145


def test_what_is_given_stays_as_it_is() -> None:
    value = old()
    before = copy.deepcopy(value)
    upgraded(value)
    assert value == before
