"""Study files: what they say, and which runs they mean."""

from pathlib import Path
from typing import Any

import pytest

from robustmix.errors import IntakeError, UsageError
from robustmix.studies.grid import (
    chosen_runs,
    reduced_study,
    study_runs,
    telling_values,
    with_seeds,
)
from robustmix.studies.measured import check_measured
from robustmix.studies.study import (
    Study,
    packaged_studies,
    read_study,
    study_of,
    study_text,
)
from robustmix.toml_files import parse_toml
from robustmix.training.resolve import resolve_recipe

GRID: dict[str, Any] = {
    "dataset": "digits",
    "arch": "resnet8",
    "method": ["vanilla", "mixup"],
    "epochs": 3,
}


def made(**more: Any) -> Study:
    return study_of({"grid": GRID, **more}, "mine", "mine.toml")


def refused(match: str, **more: Any) -> None:
    with pytest.raises(UsageError, match=match):
        study_runs(made(**more))


def test_runs_are_rows_times_columns_times_seeds() -> None:
    runs = study_runs(made(seeds=[3, 1]))
    assert [(run.labels["method"], run.seed) for run in runs] == [
        ("vanilla", 3),
        ("vanilla", 1),
        ("mixup", 3),
        ("mixup", 1),
    ]
    assert runs[0].labels == {
        "dataset": "digits",
        "arch": "resnet8",
        "method": "vanilla",
        "epochs": "3",
    }
    assert runs[2].recipe == resolve_recipe(
        "digits-resnet8-mixup", overrides={"epochs": 3, "seed": 3}
    )
    assert len({run.name for run in runs}) == 4
    assert not runs[0].reduced


def test_a_recipe_has_one_folder_in_every_study() -> None:
    one = study_runs(made())[1]
    other = study_runs(
        study_of(
            {
                "grid": {**GRID, "method": "vanilla"},
                "variant": [{"row": "blended", "method": "mixup"}],
            },
            "other",
            "other.toml",
        )
    )[1]
    assert other.labels["method"] == "blended"
    assert other.name == one.name
    assert other.published_as == "blended"
    assert study_runs(with_seeds(made(), [1]))[1].name != one.name


def test_any_recipe_key_is_swept() -> None:
    study = study_of(
        {
            "grid": {**GRID, "method": "mixup", "method.alpha": [0.2, 4.0]},
            "table": {"rows": "method.alpha"},
        },
        "sweep",
        "sweep.toml",
    )
    runs = study_runs(study)
    assert [run.recipe.method_options["alpha"] for run in runs] == [0.2, 4.0]
    assert [run.labels["method.alpha"] for run in runs] == ["0.2", "4.0"]


def test_several_grids_stand_beside_each_other() -> None:
    grids = [GRID, {**GRID, "epochs": 5, "method": "cutmix"}]
    runs = study_runs(made(grid=grids))
    assert [(run.labels["method"], run.epochs) for run in runs] == [
        ("vanilla", 3),
        ("mixup", 3),
        ("cutmix", 5),
    ]


def test_settings_change_rows_of_the_grid_without_renaming_them() -> None:
    study = made(
        settings=[
            {"where": {"method": "mixup"}, "set": {"method.alpha": 0.5}, "note": "as printed"}
        ]
    )
    plain, mixed = study_runs(study)
    assert mixed.recipe.method_options["alpha"] == 0.5
    assert (mixed.labels["method"], mixed.published_as) == ("mixup", "mixup")
    assert mixed.note == "as printed"
    assert not plain.note


def test_a_variant_is_a_row_of_another_name() -> None:
    variant = {
        "row": "mixup, alpha 2",
        "method": "mixup",
        "set": {"method.alpha": 2.0},
        "published": "mixup[2]",
    }
    runs = study_runs(made(variant=[variant]))
    assert [run.labels["method"] for run in runs] == ["vanilla", "mixup", "mixup, alpha 2"]
    assert runs[2].recipe.method_options["alpha"] == 2.0
    assert runs[2].published_as == "mixup[2]"


def test_a_variant_leaves_a_key_of_the_grid_out() -> None:
    study = study_of(
        {
            "grid": {**GRID, "method": "mixup", "method.alpha": [0.2, 4.0]},
            "variant": [{"row": "none", "method": "vanilla", "method.alpha": []}],
            "table": {"rows": ["method", "method.alpha"]},
        },
        "sweep",
        "sweep.toml",
    )
    last = study_runs(study)[-1]
    assert last.recipe == resolve_recipe("digits-resnet8-vanilla", overrides={"epochs": 3})
    assert len(study_runs(study)) == 3
    assert "method.alpha" not in last.labels


def test_a_variant_stands_where_it_says() -> None:
    study = made(
        grid={**GRID, "epochs": [3, 4]},
        variant=[{"row": "alone", "method": "cutmix", "where": {"epochs": 4}}],
    )
    assert [run.epochs for run in study_runs(study) if run.labels["method"] == "alone"] == [4]


def test_reduced_runs_say_by_what() -> None:
    study = made(
        evaluate={"suite": "clean"}, settings=[{"where": {"method": "mixup"}, "set": {"epochs": 9}}]
    )
    small = reduced_study(study, {"epochs": 1, "limit_train": 50}, 20)
    plain, mixed = study_runs(small)
    assert plain.reduced == (
        "epochs 1 instead of 3",
        "limit_train 50",
        "evaluated on 20 images",
    )
    assert mixed.reduced[0] == "epochs 1 instead of 9"
    assert (mixed.recipe.epochs, mixed.epochs) == (1, 9)
    assert plain.recipe.limit_train == 50
    assert study_runs(made(settings=[{"where": {"method": "mixup"}, "set": {"limit_train": 9}}]))[
        1
    ].reduced == ("limit_train 9",)


def test_a_change_that_changes_nothing_reduces_nothing() -> None:
    assert not study_runs(reduced_study(made(), {"epochs": 3}, None))[0].reduced


def test_only_chooses_by_labels_and_seeds() -> None:
    runs = study_runs(made(seeds=[0, 1]))
    chosen = chosen_runs(runs, ["method=mixup", "seed=1"])
    assert [(run.labels["method"], run.seed) for run in chosen] == [("mixup", 1)]
    assert chosen_runs(runs, ["method=mixup,vanilla"]) == runs
    for text, said in (
        ("method", "cannot read"),
        ("methd=mixup", "did you mean 'method'"),
        ("method=mixupp", "did you mean 'mixup'"),
    ):
        with pytest.raises(UsageError, match=said):
            chosen_runs(runs, [text])


def test_what_no_study_can_say_is_refused() -> None:
    refused("lacks arch", grid={"dataset": "digits", "method": "mixup"})
    refused("did you mean 'epochs'", grid={**GRID, "epoch": 3})
    refused("did you mean 'statistic'", statistik="last")
    refused("did you mean 'columns'", table={"column": "clean.top1"})
    refused("unknown statistic", statistic="mean")
    refused("seed is no key of a grid", grid={**GRID, "seed": [0, 1]})
    refused("seeds .* name one twice", seeds=[0, 0])
    refused("no .grid. has", table={"rows": "method.alpha"})
    refused("in rows and across", table={"rows": "method", "across": "method"})
    refused("is no metric", table={"columns": "top1"})
    refused("nothing measures", table={"columns": "fgsm.acc"})
    refused("chooses by a key", settings=[{"where": {"lr": 1}, "set": {"lr": 2}}])
    refused("settings stand nowhere", settings=[{"where": {"epochs": 9}, "set": {"lr": 2}}])
    refused("gives lr twice", variant=[{"row": "x", "method": "mixup", "lr": 1, "set": {"lr": 2}}])
    refused("names no method", variant=[{"row": "x"}])
    refused("two settings have one place", variant=[{"row": "mixup", "method": "cutmix"}])
    refused("unknown method 'mixupp'", grid={**GRID, "method": "mixupp"})
    refused("the study has no grid", grid=[])
    refused("did you mean 'arch'", changes={"arc": "resnet8"})
    with pytest.raises(UsageError, match="grid is missing"):
        study_of({}, "mine", "mine.toml")


def test_an_error_of_a_recipe_names_the_row() -> None:
    refused("mine, digits resnet8 vanilla 3: lr", settings=[{"where": GRID, "set": {"lr": -1}}])


def test_studies_are_read_by_name_and_from_files(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('grid = { dataset = "digits", arch = "resnet8", method = "mixup" }')
    assert read_study(path).name == "own"
    assert read_study(str(path)).name == "own"
    assert read_study("quick").name == "quick"
    with pytest.raises(UsageError, match="did you mean 'quick'"):
        read_study("qick")
    with pytest.raises(IntakeError, match="No such file"):
        read_study(tmp_path / "absent.toml")


@pytest.mark.parametrize("name", packaged_studies())
def test_a_study_is_read_back_as_it_is_written(name: str) -> None:
    study = read_study(name)
    again = study_of(parse_toml(study_text(study)), study.name, "again")
    assert again == study
    assert [run.name for run in study_runs(again)] == [run.name for run in study_runs(study)]


def test_the_name_of_a_run_is_of_what_is_not_the_default() -> None:
    """A changed name would begin every run anew that users have."""
    run = study_runs(made())[1]
    assert run.name == "digits-resnet8-mixup-s0-cbed5ae5de7f"
    told = telling_values(run.recipe)
    assert "method.alpha" not in told
    assert (told["epochs"], told["method.name"]) == (3, "mixup")
    other = resolve_recipe("digits-resnet8-mixup", overrides={"epochs": 3, "method.alpha": 0.5})
    assert telling_values(other) == {**told, "method.alpha": 0.5}


def test_what_is_not_measured_is_no_column() -> None:
    evaluate = {"protocol": ["paper-adautomix", "standard"]}
    good = ["clean.top1", "corruption@paper-adautomix.acc_mean_all19", "fgsm@paper-adautomix.error"]
    check_measured(made(evaluate=evaluate, table={"columns": good}))
    with pytest.raises(UsageError, match=r"no suite fgsmm is run .*; did you mean fgsm"):
        check_measured(made(evaluate=evaluate, table={"columns": "fgsmm.error"}))
    with pytest.raises(UsageError, match="study mine, evaluate: unknown option 'trails'"):
        check_measured(made(evaluate={"suite": "occlusion", "options": {"trails": 2}}))
