"""The papers' tables as packaged studies: which runs they are, and every printed figure's place."""

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from robustmix.errors import UsageError
from robustmix.evaluation.suites.registry import suite_names
from robustmix.methods.registry import method_options
from robustmix.studies.cost import total_cost
from robustmix.studies.grid import StudyRun, study_runs
from robustmix.studies.measured import check_measured
from robustmix.studies.published import REPORT_METRICS, Published, find_published, published
from robustmix.studies.study import Study, packaged_studies, read_study, study_of
from robustmix.studies.study_results import study_table
from robustmix.studies.told import other_statistics
from tests.studies.runs import make_run

PAPERS = [name for name in packaged_studies() if name != "quick"]


class Size(NamedTuple):
    """What the tables need, counted by hand for each seed before there were studies."""

    runs: int
    steps: float
    """Millions."""

    passes: float
    """Forward passes of an image in thousands of millions, a backward pass counting two."""


SIZES = {
    "poster-t1": Size(81, 29.7, 23.7),
    "poster-t2": Size(60, 5.2, 0.39),
    "poster-t3": Size(5, 0.5, 0.32),
    "card-imagenet": Size(3, 1.5, 3.5),
    "card-finegrained": Size(20, 1.7, 0.27),
    "automix-t1": Size(70, 26.0, 10.7),
    "automix-t2": Size(81, 76.6, 76.2),
    "automix-t3": Size(45, 5.1, 40.4),
    "automix-t4": Size(29, 10.9, 43.8),
    "automix-t5": Size(90, 27.2, 24.4),
    "automix-t6": Size(6, 1.2, 0.64),
    "automix-t7": Size(6, 3.0, 3.33),
    "automix-t9": Size(8, 3.2, 2.9),
    "automix-t10": Size(30, 13.0, 12.5),
    "automix-t13": Size(72, 23.4, 9.1),
    "automix-t14": Size(80, 26.0, 10.7),
}

UNLIKE = {
    # Swin-T with TransMix cannot be trained; ConvNeXt-T has the batch of 4,096 that was released.
    "automix-t4": Size(28, 7.98, 43.8 - 3 * 0.3843),
    # Aircraft mixes two images, 9 passes for 12.
    "poster-t2": Size(60, 5.2, 0.38),
    "card-finegrained": Size(20, 1.7, 0.263),
    # What the ablations leave out was counted as if it were there.
    "automix-t9": Size(8, 3.2, 2.80),
    "automix-t10": Size(30, 13.0, 11.45),
}
"""Where the count by hand was of something else."""

SEEDS = {name: [0, 1, 2] for name in ("t1", "t2", "t3", "t4", "t5", "t9", "t10", "t13", "t14")}
"""Tables of AutoMix that are means of three trials."""


@cache
def runs_of(name: str) -> tuple[Study, list[StudyRun]]:
    study = read_study(name)
    return study, study_runs(study)


def first_seed(name: str) -> list[StudyRun]:
    study, runs = runs_of(name)
    return [run for run in runs if run.seed == study.seeds[0]]


def test_the_papers_tables_are_there() -> None:
    tables = [*(f"t{n}" for n in (*range(1, 12), 13, 14)), "f8", "f9"]
    wanted = {f"automix-{name}" for name in tables}
    wanted |= {"poster-t1", "poster-t2", "poster-t3", "poster-f3"}
    wanted |= {"card-imagenet", "card-finegrained"}
    assert set(PAPERS) == wanted
    assert set(SIZES) < wanted


@pytest.mark.parametrize("name", PAPERS)
def test_every_run_can_be_had_and_measured(name: str) -> None:
    study, runs = runs_of(name)
    check_measured(study)
    assert study.title
    assert study.source
    assert study.notes
    assert list(study.seeds) == SEEDS.get(name.removeprefix("automix-"), [0])
    assert len({run.name for run in runs}) == len(runs)
    for run in runs:
        assert not run.reduced
        for key in ("dataset", "arch"):
            assert run.labels[key] == getattr(run.recipe, key)
        assert run.labels["epochs"] == str(run.recipe.epochs)


@pytest.mark.parametrize("name", SIZES)
def test_it_is_as_large_as_counted_by_hand(name: str) -> None:
    runs, want = first_seed(name), UNLIKE.get(name, SIZES[name])
    assert len(runs) == want.runs
    cost = total_cost(runs)
    assert cost.steps is not None
    assert cost.passes is not None
    assert cost.steps / 1e6 == pytest.approx(want.steps, rel=0.012)
    assert cost.passes / 1e9 == pytest.approx(want.passes, rel=0.012)


def test_all_of_the_counted_runs_are_so_many() -> None:
    """Counted by hand there were 528 of different names; one is Swin-T with TransMix."""
    runs = [run for name in SIZES if name != "automix-t7" for run in first_seed(name)]
    keys = ("dataset", "arch", "epochs", "variant")
    names = {(*(run.labels.get(key) for key in keys), run.published_as) for run in runs}
    assert len(names) == 528 - 1
    # By what is trained: AutoMix is also the last row of Tables 9 and 10, five times; four times
    # Tables 1 and 14 have another weight decay, and once Tables 6 and 14.
    assert len({run.name for run in runs}) == len(names) - 5 + 5


# Published figures.


def measured(figure: Published) -> bool:
    paths = REPORT_METRICS[figure.metric]
    suites = {path.partition(".")[0].partition("@")[0] for path in paths}
    return bool(suites & {"clean", *suite_names()})


SAMIX = method_options("samix", {})
"""The options that a recipe leaves at their defaults."""

NOT_SHOWN = {("automix-t4", "swin_tiny", "transmix"): "there is no class token to read"}
"""Printed figures of runs that cannot be had."""


def shown(name: str) -> Counter[tuple[Any, ...]]:
    """Count in how many cells each figure is the first that is shown, by study and place."""
    study, _ = runs_of(name)
    found: Counter[tuple[Any, ...]] = Counter()
    for run in first_seed(name):
        figures = {
            figures[0]
            for column in study.table.columns
            if (
                figures := find_published(
                    dataset=run.labels["dataset"],
                    arch=run.labels["arch"],
                    epochs=run.epochs,
                    method=run.published_as,
                    metric=column,
                    studies=study.published or (study.name,),
                )
            )
        }
        found.update((f.study, f.dataset, f.arch, f.epochs, f.method, f.metric) for f in figures)
    return found


@pytest.mark.parametrize("name", PAPERS)
def test_every_usable_figure_stands_in_one_cell(name: str) -> None:
    places = shown(name)
    figures = [figure for figure in published() if figure.study == name]
    for figure in figures:
        place = (name, figure.dataset, figure.arch, figure.epochs, figure.method, figure.metric)
        there = figure.usable and measured(figure)
        excused = (name, figure.arch, figure.method) in NOT_SHOWN
        assert places[place] == int(there and not excused), figure
    own = sum(count for place, count in places.items() if place[0] == name)
    # Detection is not measured.
    assert bool(own) == bool([f for f in figures if f.usable and measured(f)]), (
        "a table of printed figures shows none"
    )


def test_figures_of_three_tables_have_nothing_of_their_own() -> None:
    printed = {figure.study for figure in published()}
    assert set(PAPERS) - printed == {"poster-f3", "automix-t11", "automix-f9"}


def test_no_run_of_a_table_is_without_a_figure_but_those_lost() -> None:
    for name in PAPERS:
        if name in ("poster-f3", "automix-t11", "automix-f9", "automix-f8", "automix-t7"):
            continue
        for run in first_seed(name):
            if (name, run.published_as) == ("automix-t8", "co-mixup"):  # of localisation alone
                continue
            found = find_published(
                dataset=run.labels["dataset"],
                arch=run.labels["arch"],
                epochs=run.epochs,
                method=run.published_as,
                metric="clean.top1",
                studies=(name,),
            )
            assert found, run.told
            if name != "automix-t8":
                assert found[0].study == name, run.told


# Settings that differ from the recipes.


def run(name: str, **labels: str) -> StudyRun:
    (found,) = [one for one in first_seed(name) if labels.items() <= one.labels.items()]
    return found


@pytest.mark.parametrize(
    ("name", "labels", "key", "value"),
    [
        ("poster-t1", {"arch": "resnet18", "epochs": "800"}, "method.beta", 0.3),
        ("poster-t1", {"arch": "resnext50_32x4d", "epochs": "800"}, "method.beta", 0.7),
        ("poster-t1", {"arch": "resnext50_32x4d", "epochs": "800"}, "min_lr", 0.08),
        ("poster-t1", {"arch": "resnet18", "dataset": "tiny-imagenet"}, "method.beta", 0.7),
        ("poster-t1", {"arch": "resnext50_32x4d", "epochs": "400"}, "method.beta", 0.4),
        ("poster-t1", {"arch": "swin_tiny"}, "method.switch_off", 0.8),
        ("poster-t1", {"arch": "swin_tiny"}, "method.lam_margin", 0.03),
        ("poster-t1", {"arch": "convnext_tiny"}, "method.switch_off", 0.8),
        ("poster-t2", {"dataset": "cub-200-2011", "arch": "resnet18"}, "method.beta", 0.7),
        ("poster-t2", {"dataset": "cub-200-2011", "arch": "resnet50"}, "method.beta", 0.05),
        ("poster-t2", {"dataset": "fgvc-aircraft", "arch": "resnet18"}, "method.mix_samples", 2),
        ("poster-t2", {"dataset": "stanford-cars", "arch": "resnet18"}, "method.beta", 0.3),
        ("poster-t3", {}, "method.beta", 0.7),
    ],
)
def test_adautomix_as_its_figures_were_made(
    name: str, labels: dict[str, str], key: str, value: object
) -> None:
    recipe = run(name, method="adautomix", **labels).recipe
    head, _, option = key.partition(".")
    assert (recipe.method_options[option] if option else getattr(recipe, head)) == value


def test_cutting_methods_of_resnext_have_the_decay_that_their_table_looks_like() -> None:
    for method, decay in (("cutmix", 1e-4), ("resizemix", 1e-4), ("mixup", 1e-4)):
        later = run("automix-t14", method=method, arch="resnext50_32x4d", epochs="800").recipe
        assert later.weight_decay == decay
    labels = {"method": "cutmix", "arch": "resnext50_32x4d", "dataset": "cifar100"}
    for name in ("automix-t1", "poster-t1"):
        assert run(name, **labels).recipe.weight_decay == 5e-4
    shallow = run("automix-t14", method="cutmix", arch="resnet18", epochs="800")
    assert shallow.recipe.weight_decay == 1e-4


def test_attentivemix_of_table_4_is_the_plain_one() -> None:
    """Six cells that a ResNet-50 trained on ImageNet looks at."""
    found = [
        one.recipe for one in first_seed("automix-t4") if one.labels["method"] == "attentivemix"
    ]
    assert [recipe.arch for recipe in found] == ["deit_small", "swin_tiny", "convnext_tiny"]
    for recipe in found:
        assert recipe.method_options["top_k"] == 6
        assert recipe.method_options["teacher"] == "torchvision:resnet50@IMAGENET1K_V1"


def test_samix_of_the_fine_grained_sets_is_as_released() -> None:
    """OpenMixup 37e1372, ``samix/*_l2_a2_bili_val_dp01_mb_mlr5e_4_1xb16_ep200.py``; Cars by CUB."""
    found = [
        one.recipe for one in first_seed("card-finegrained") if one.labels["method"] == "samix"
    ]
    assert len(found) == 7
    for recipe in found:
        cars = recipe.dataset == "stanford-cars"
        assert (recipe.lr, recipe.min_lr, recipe.weight_decay) == (1e-3, 0.0, 5e-4)
        assert (recipe.epochs, recipe.batch_size, recipe.optimizer) == (200, 16, "sgd")
        rates = (0.1, 1e-3) if cars else (0.01, 5e-4)  # Cars has AutoMix's
        assert (recipe.generator_lr, recipe.generator_min_lr) == rates
        assert recipe.weights == f"torchvision:{recipe.arch}@IMAGENET1K_V1"
        options = recipe.method_options
        assert options["ema_end"] == (0.99996 if recipe.dataset == "fgvc-aircraft" else 0.99999)
        assert {
            "alpha": 2.0,
            "lam_margin": 0.08,
            "lam_mul_k": 1.0,
            "mask_adjust": 0.0,
            "value_dropout": 0.1,
            "no_repeat": True,
            "upsample": "bilinear",
            "mask_loss": "l1+variance",
            "mask_loss_weight": 0.1,
            "mask_loss_margin": 0.1,
            "mask_loss_decay": "compound-cosine",
            "ema": 0.999,
            "ema_start": 0.1,
        }.items() <= {**SAMIX, **options}.items()


def test_rows_of_the_ablations_are_what_they_say() -> None:
    found = {
        one.labels["method"]: one.recipe.method_options
        for one in first_seed("automix-t9")
        if one.labels["arch"] == "resnet18"
    }
    assert list(found) == ["random grids", "+ attention", "+ lam", "+ mask loss"]
    told = [
        tuple(options.get(key) for key in ("mask_source", "lam_concat", "mask_loss_weight"))
        for options in found.values()
    ]
    assert told == [
        ("grids", None, None),
        ("attention", False, 0.0),
        ("attention", True, 0.0),
        ("attention", False, 0.1),
    ]
    found = {
        one.labels["method"]: one.recipe.method_options
        for one in first_seed("automix-t10")
        if one.labels["dataset"] == "cifar100"
    }
    pipelines = {row: options["pipeline"] for row, options in found.items()}
    assert pipelines == {
        "mixup": "none",
        "cutmix": "none",
        "Mix Block": "none",
        "mixup + MP": "mp",
        "cutmix + MP": "mp",
        "Mix Block + MP, m = 0": "mp",
        "Mix Block + MP": "mp",
        "mixup + MP + CE": "mp+ce",
        "cutmix + MP + CE": "mp+ce",
        "Mix Block + MP + CE": "mp+ce",
    }
    assert found["Mix Block + MP, m = 0"]["ema_end"] == 0.0


def test_layers_are_swept() -> None:
    stages = [
        one.recipe.method_options["feature_stage"]
        for one in first_seed("automix-t11")
        if one.labels["arch"] == "resnet18"
    ]
    assert stages == [0, 1, 2, 3]


# What such studies ask of the file.


def test_some_rows_have_another_statistic() -> None:
    study, runs = runs_of("poster-t1")
    assert {one.labels["arch"]: one.statistic for one in runs} == {
        "resnet18": "median-last10",
        "resnext50_32x4d": "median-last10",
        "resnet34": "median-last10",
        "resnet50": "median-last10",
        "swin_tiny": "best-last10",
        "convnext_tiny": "best-last10",
    }
    assert other_statistics(study, runs) == [
        "clean.top1 of cifar100 swin_tiny, cifar100 convnext_tiny: best of the last ten epochs"
    ]
    assert other_statistics(*runs_of("automix-t6")) == []


def own_study(**more: Any) -> Study:
    grid = {"dataset": "digits", "arch": "resnet8", "method": ["vanilla", "mixup"], "epochs": 4}
    return study_of({"grid": grid, **more}, "mine", "mine.toml")


def test_the_table_shows_each_rows_statistic(tmp_path: Path) -> None:
    settings = [{"where": {"method": "mixup"}, "statistic": "last"}]
    study = own_study(settings=settings, statistic="best-last10")
    for one in study_runs(study):
        make_run(tmp_path / one.name, (0.1, 0.6, 0.3, 0.4), method=one.recipe.method)
    table = study_table(study, tmp_path)
    assert [row.cells[0].mean for row in table.rows] == [0.6, 0.4]
    assert "clean.top1 of digits resnet8: the last epoch" in table.notes


def test_all_rows_may_be_variants() -> None:
    grid = {"dataset": "digits", "arch": "resnet8", "method": [], "epochs": 4}
    variants = [{"row": "blended", "method": "mixup"}, {"row": "cut", "method": "cutmix"}]
    settings = [{"where": {"epochs": 4}, "statistic": "last"}]
    study = own_study(grid=grid, variant=variants)
    assert [one.labels["method"] for one in study_runs(study)] == ["blended", "cut"]
    for bad, said in (
        ({"grid": grid}, "has no value of method"),
        ({"grid": {**grid, "arch": []}, "variant": variants}, "has no value of arch"),
        ({"settings": [{"where": {"epochs": 4}}]}, "set nothing"),
        (
            {"settings": [{**settings[0], "statistic": "lasst"}]},
            "unknown statistic 'lasst'; did you mean 'last'",
        ),
    ):
        with pytest.raises(UsageError, match=said):
            own_study(**bad)
