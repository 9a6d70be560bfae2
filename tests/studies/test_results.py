import json
from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import IntakeError, UsageError
from robustmix.studies.results import (
    CLEAN,
    RunResult,
    read_report_alone,
    read_results,
    read_run,
)
from robustmix.studies.run_reports import Value
from tests.studies.runs import add_report, make_run, small_report

TWELVE = [0.9, 0.9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.95]


def test_clean_accuracy_is_the_statistic_of_the_epochs(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", TWELVE, epochs=12)
    add_report(run)
    # The last ten, sorted: .1 .2 .3 .4 .5 | .6 .7 .8 .85 .95
    for name, want in {"median-last10": 0.55, "best-last10": 0.95, "median-last5": 0.8}.items():
        assert read_run(run, name).values[CLEAN].value == pytest.approx(want, abs=1e-12)
    found = read_run(run)
    stated = small_report().content.suites
    assert found.values[CLEAN].report == run / "eval" / "last" / "report.json"
    error = stated["fgsm"].metrics["error"]
    assert found.values["fgsm.error"].value == error.value
    assert (found.values["fgsm.error"].unit, found.values["fgsm.error"].direction) == (
        "fraction",
        "lower",
    )
    # All but clean.top1 is of the report, of its other numbers too.
    assert found.values["clean.nll"].value == stated["clean"].metrics["nll"].value
    with pytest.raises(UsageError, match="unknown statistic 'mean'"):
        read_run(run, "mean")


def test_labels_are_the_recipes_keys(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", milestones=[2, 3], channels_last=True, seed=7)
    found = read_run(run, labels={"method": "mixup, row", "row": "x"})
    assert found.seed == 7
    assert found.labels == {
        **{"dataset": "cifar100", "arch": "resnet18", "epochs": "4", "lr": "0.1"},
        **{"method.alpha": "1.0", "milestones": "2 3", "channels_last": "true", "run": "a"},
        **{"method": "mixup, row", "row": "x"},
    }
    assert [found.label(key) for key in ("seed", "row", "nothing")] == ["7", "x", ""]


def test_a_run_without_reports_has_its_accuracy_alone(tmp_path: Path) -> None:
    found = read_run(make_run(tmp_path / "a"))
    assert {path: value.value for path, value in found.values.items()} == {CLEAN: 0.25}
    assert found.values[CLEAN].report is None
    assert found.complete
    assert found.why_missing("fgsm.error") == "no report"


def test_a_run_that_is_not_done_says_how_far_it_is(tmp_path: Path) -> None:
    half = read_run(make_run(tmp_path / "a", (0.1, 0.2)))
    assert (half.complete, half.why) == (False, "2 of 4 epochs")
    assert half.why_missing(CLEAN) == "2 of 4 epochs"
    begun = make_run(tmp_path / "b")
    (begun / "metrics.jsonl").unlink()
    assert read_run(begun).why == "0 of 4 epochs"
    empty = make_run(tmp_path / "c", ())
    assert read_run(empty).why == "0 of 4 epochs"
    (empty / "metrics.jsonl").write_text("no log\n")
    with pytest.raises(IntakeError, match="no record of an epoch"):
        read_run(empty)


@pytest.mark.parametrize(
    ("recipe", "labels", "want"),
    [
        # The papers have mixup on CIFAR-100, ResNet-18 for 200 epochs and more.
        ({}, None, ["4 of 200 epochs"]),
        ({"epochs": 200}, None, []),
        ({"epochs": 400}, None, []),
        # A study says itself how many there should be.
        ({"epochs": 200}, {"epochs": "800"}, ["200 of 800 epochs"]),
        ({}, {"epochs": "4"}, []),
        ({"epochs": 200}, {"epochs": "100"}, ["200 epochs in place of 100"]),
        # Nothing is published of digits.
        ({"dataset": "digits", "arch": "resnet8"}, None, []),
        ({"epochs": 200, "limit_train": 0.5}, None, ["trained on a part of the images (0.5)"]),
        ({"epochs": 200, "allow_partial": True}, None, ["trained on what was there of the images"]),
    ],
)
def test_what_makes_a_training_a_reduced_one(
    recipe: dict[str, Any], labels: dict[str, str] | None, want: list[str], tmp_path: Path
) -> None:
    run = make_run(tmp_path / "a", [0.5] * recipe.get("epochs", 4), **recipe)
    assert list(read_run(run, labels=labels).reduced) == want


def test_what_makes_a_number_a_reduced_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", limit_val=100)
    add_report(run, dataset__n_total=10_000, dataset__partial_of=20_000)
    found = read_run(run)
    assert found.values[CLEAN].reduced == ("validated on a part of the images (100)",)
    assert found.values["fgsm.error"].reduced == (
        "evaluated on 500 of 10000 images",
        "only 10000 of the split's 20000 images were there",
    )
    kept_out = read_run(make_run(tmp_path / "b", selected_on="val", val_split=0.1))
    assert kept_out.values[CLEAN].reduced == ("validated on training images that were kept out",)


def test_limits_of_a_protocol_are_those_of_their_suites_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    add_report(run, protocol__limits={"fgsm": 256})
    found = read_run(run)
    assert found.values["fgsm.error"].reduced == ("fgsm: at most 256 images",)
    assert found.values["clean.nll"].reduced == ()


def test_of_several_reports_the_whole_one_counts_then_the_newest(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    nll = {"suites__clean__metrics__nll__" + key: None for key in ("ci", "ci_method")}
    nll["suites__clean__metrics__nll__reason"] = "made"  # type: ignore[assignment]

    def report(name: str, value: float, finished: str, **others: Any) -> None:
        stated: Any = {**nll, "suites__clean__metrics__nll__value": value}
        add_report(run, name, run__finished=finished, **stated, **others)

    report("a-newest-but-cut", 1.0, "2026-03-03", dataset__n_total=10_000)
    report("b-old", 2.0, "2026-01-01")
    report("c-new", 3.0, "2026-02-02")
    found = read_run(run)
    assert found.values["clean.nll"].value == 3.0
    assert found.values["clean.nll"].reduced == ()
    assert [path.parent.name for path in found.reports] == ["c-new"]


def test_a_report_of_an_earlier_epoch_or_another_run_does_not_pass_for_this_one(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "a")
    recorded = {"recipe": {"seed": 0}, "epoch": 2}
    add_report(run, model__training=recorded)
    stale = read_run(run).values["fgsm.error"].reduced
    assert stale == ("evaluated after epoch 2, trained 4",)
    add_report(run, model__training=recorded, model__source="best.pth")
    assert read_run(run).values["fgsm.error"].reduced == ()
    add_report(run, model__training={"recipe": {"seed": 1}, "epoch": 4})
    other = read_run(run)
    assert "fgsm.error" not in other.values
    assert other.notes == ("last is a report of another run: seed is 1 there, 0 here",)


def test_a_suite_that_failed_is_missing_with_its_reason(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    add_report(run, suites__fgsm__status="failed", suites__fgsm__reason="out of memory")
    found = read_run(run)
    assert found.find("fgsm.error") is None
    assert found.why_missing("fgsm.error") == "fgsm: failed: out of memory"
    assert found.why_missing("pgd.error") == "no pgd.error in its reports"
    add_report(run, "again")
    assert read_run(run).missing == {}


def test_a_suite_of_a_protocol_that_ran_once_for_several_is_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    add_report(run, protocol__presets=["standard", "paper-adautomix"])
    found = read_run(run)
    assert found.key_of("clean.top1") == "clean.top1"
    assert found.key_of("clean@paper-adautomix.nll") == "clean.nll"
    # paper-adautomix has an FGSM of its own, which is not the plain one.
    assert found.key_of("fgsm@paper-adautomix.error") is None
    assert found.key_of("fgsm@standard.error") == "fgsm.error"
    assert found.key_of("clean@quick.nll") is None


def test_places_of_numbers_are_found_by_their_value_too() -> None:
    values = {
        f"fgsm.acc[{at}]": Value(value=0.5, unit="fraction", direction="higher")
        for at in ("8/255", "a[b]")
    }
    one = RunResult(labels={}, values=values)
    assert one.key_of("fgsm.acc[0.0313725]") == "fgsm.acc[8/255]"
    assert one.key_of("fgsm.acc[4/255]") is None
    with pytest.raises(UsageError, match="cannot read the metric"):
        one.find("top1")


def test_a_lone_report_is_a_run_too(tmp_path: Path) -> None:
    path = small_report().save(tmp_path / "eval")
    found = read_report_alone(path.parent)
    stated = small_report().metric("clean.top1").value
    assert found.values[CLEAN].value == stated
    assert found.labels["dataset"] == "digits"
    assert found.labels["name"] == small_report().content.run.name
    assert "method" not in found.labels
    assert (found.run, found.seed, found.reports) == (None, None, (path,))


def test_runs_and_reports_are_found_in_folders(tmp_path: Path) -> None:
    for name in ("b", "a"):
        add_report(make_run(tmp_path / "study" / "runs" / name))
    small_report().save(tmp_path / "study" / "other")
    (tmp_path / "study" / "pictures").mkdir()
    found = read_results([tmp_path, tmp_path / "study" / "runs" / "b"])
    assert [one.name for one in found.results] == ["other", "a", "b"]
    assert found.notes == ()
    with pytest.raises(IntakeError, match="holds no run and no report"):
        read_results([tmp_path / "study" / "pictures"])
    with pytest.raises(IntakeError, match="there is no report at"):
        read_results([tmp_path / "nowhere"])


def test_what_is_damaged_is_told_and_named_only_if_it_was_searched_for(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    path = add_report(make_run(tmp_path / "b"))
    path.write_text(json.dumps({"kind": "other"}))
    found = read_results([tmp_path])
    assert [one.name for one in found.results] == ["a"]
    assert found.notes == (f"left out: {path} is not a robustmix report",)
    with pytest.raises(IntakeError, match="is not a robustmix report"):
        read_results([tmp_path / "b"])
    (tmp_path / "a" / "recipe.toml").write_text("no = = toml")
    with pytest.raises(IntakeError, match="none of the runs can be read"):
        read_results([tmp_path])


def test_an_evaluation_of_another_study_is_left_alone(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a")
    for name, eps, finished in (("ours", "8/255", "2026-01-01"), ("theirs", "4/255", "2026-02-02")):
        add_report(run, name, protocol__params={"fgsm": {"eps": eps}}, run__finished=finished)
    found = read_run(run)
    assert found.params["fgsm"] == {"eps": "4/255"}
    assert found.notes == (
        "fgsm was measured in several ways: eps is 4/255 and 8/255; the newest whole report counts",
    )
    own = [run / "eval" / name / "report.json" for name in ("ours", "missing")]
    found = read_run(run, reports=own)
    assert found.params["fgsm"] == {"eps": "8/255"}
    assert (found.notes, found.reports) == ((), (own[0],))
