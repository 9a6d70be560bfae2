import math
from collections.abc import Sequence
from dataclasses import replace

import pytest

from robustmix.errors import UsageError
from robustmix.studies.layout import Layout, layout_of, refuse_misnamed
from robustmix.studies.published import Published
from robustmix.studies.results import RunResult
from robustmix.studies.run_reports import Value
from robustmix.studies.table import Cell, Table
from robustmix.studies.tabulate import FigureOf, printed_figures, tabulate
from tests.studies.runs import result

TWO = Layout(metrics=("clean.top1", "fgsm.error"))


def figure(value: float, study: str = "t3", note: str = "") -> Published:
    return Published(
        study=study,
        table="Table 3",
        dataset="cifar100",
        arch="resnet18",
        epochs=200,
        method="mixup",
        metric="top1",
        value=value,
        printed=f"{value:.2f}",
        stat="median-last10",
        source="a paper",
        note=note,
    )


def always(*figures: Published) -> FigureOf:
    """Say that this was printed of the clean accuracy of all runs."""
    return lambda labels, path: figures if path == "clean.top1" else ()


def column(table: Table, at: int = 0) -> dict[str, Cell]:
    return {row.title: row.cells[at] for row in table.rows}


def test_means_and_spreads_by_hand() -> None:
    accuracies = {0: 0.80, 1: 0.82, 2: 0.87}
    table = tabulate(
        [
            *(result("mixup", seed, clean__top1=top1) for seed, top1 in accuracies.items()),
            result("cutmix", 0, clean__top1=0.5, fgsm__error=0.9),
        ],
        TWO,
    )
    mixup, cutmix = (row.cells for row in table.rows)
    # Deviations -3, -1, 4 points: squares 26, over n - 1 = 2.
    assert mixup[0].mean == pytest.approx(0.83, abs=1e-15)
    assert mixup[0].std == pytest.approx(math.sqrt(26 / 2) / 100, abs=1e-15)
    # Student's t of 2 degrees at 97.5 %: 4.302653.
    half = 4.302652729911275 * math.sqrt(13) / 100 / math.sqrt(3)
    assert mixup[0].interval == pytest.approx((0.83 - half, 0.83 + half), abs=1e-9)
    assert (mixup[0].n, mixup[0].reasons) == (3, ())
    assert (cutmix[0].mean, cutmix[0].std, cutmix[0].interval, cutmix[0].n) == (0.5, None, None, 1)
    assert table.seeds == (1, 3)


def test_a_missing_cell_is_empty_and_says_why_and_is_never_zero() -> None:
    table = tabulate(
        [
            result("mixup", 0, clean__top1=0.0),
            result("mixup", 1, clean__top1=0.9, complete=False, why="12 of 200 epochs"),
            result("cutmix", 0, complete=False, why="failed: error[E-DATA]: no images"),
        ],
        TWO,
    )
    mixup, cutmix = (row.cells for row in table.rows)
    # A run that is not done counts in no mean, and a figure of 0 is a figure.
    assert (mixup[0].mean, mixup[0].n, mixup[0].reasons) == (0.0, 1, ("12 of 200 epochs",))
    assert (mixup[1].mean, mixup[1].n) == (None, 0)
    assert mixup[1].reasons == ("no report", "12 of 200 epochs")
    assert (cutmix[0].mean, cutmix[0].rank) == (None, None)
    assert cutmix[0].reasons == ("failed: error[E-DATA]: no images",)
    assert (table.runs, table.complete) == (3, 1)
    assert table.columns[1].unit == "score"


def test_ranks_go_by_direction_and_equal_figures_share_them() -> None:
    errors = {"a": 0.30, "b": 0.20, "c": 0.200004, "d": 0.25}
    table = tabulate(
        [result(name, 0, clean__top1=1 - x, fgsm__error=x) for name, x in errors.items()], TWO
    )
    # b and c are both shown as 20.00.
    want = {"a": None, "b": 1, "c": 1, "d": 2}
    assert {name: cell.rank for name, cell in column(table, 1).items()} == want
    assert {name: cell.rank for name, cell in column(table, 0).items()} == want


def test_one_figure_has_no_rank_nor_has_what_neither_way_is_better() -> None:
    alone = tabulate([result("a", clean__top1=0.5)], Layout())
    assert column(alone)["a"].rank is None
    table = tabulate(
        [result(name, x__y=0.5, directions={"x.y": "neither"}) for name in "ab"],
        Layout(metrics=("x.y",)),
    )
    assert [cell.rank for cell in column(table).values()] == [None, None]


def test_reduced_runs_are_not_ranked_beside_whole_ones() -> None:
    cut = ("2 of 200 epochs",)
    mixed = [result("a", clean__top1=0.9, reduced=cut), *(result(n, clean__top1=0.5) for n in "bc")]
    ranks = {name: cell.rank for name, cell in column(tabulate(mixed, Layout())).items()}
    assert ranks == {"a": None, "b": 1, "c": 1}
    every = [result(n, clean__top1=x, reduced=cut) for n, x in {"a": 0.9, "b": 0.5}.items()]
    table = tabulate(every, Layout())
    assert {name: cell.rank for name, cell in column(table).items()} == {"a": 1, "b": 2}
    assert table.reduced == cut


def test_differences_to_published_figures_by_hand() -> None:
    runs = [result("mixup", seed, clean__top1=x) for seed, x in enumerate((0.78, 0.80))]
    # 79 +- 12.7062 * 1.4142 / 1.4142 points: the interval is [66.29, 91.71].
    for value, inside in {78.52: True, 66.30: True, 66.28: False, 91.72: False}.items():
        cell = column(tabulate(runs, Layout(), figure_of=always(figure(value))))["mixup"]
        assert cell.difference == pytest.approx(0.79 - value / 100, abs=1e-12)
        assert cell.inside is inside
    one = column(tabulate(runs[:1], Layout(), figure_of=always(figure(78.52))))["mixup"]
    assert one.difference == pytest.approx(-0.0052, abs=1e-12)
    assert one.inside is None


def test_a_source_that_says_no_length_has_no_difference() -> None:
    unknown = replace(figure(78.52), epochs=None)
    runs = [result("mixup", seed, clean__top1=0.78) for seed in (0, 1)]
    cell = column(tabulate(runs, Layout(), figure_of=always(unknown)))["mixup"]
    assert (cell.published, cell.difference, cell.inside) == (unknown, None, None)


def test_reduced_and_unfinished_runs_have_no_difference() -> None:
    cut = ("2 of 200 epochs",)
    for runs in (
        [result("mixup", 0, clean__top1=0.7, reduced=cut)],
        [result("mixup", 0, clean__top1=0.7), result("mixup", 1, clean__top1=0.7, reduced=cut)],
        [result("mixup", 0, clean__top1=0.7, complete=False)],
    ):
        cell = column(tabulate(runs, Layout(), figure_of=always(figure(78.52))))["mixup"]
        assert cell.published is not None
        assert (cell.difference, cell.inside) == (None, None)
    limited = RunResult(
        labels={"method": "mixup"},
        values={
            "clean.top1": Value(
                value=0.7, unit="fraction", direction="higher", reduced=("500 of 10000 images",)
            )
        },
    )
    cell = column(tabulate([limited], Layout(), figure_of=always(figure(78.52))))["mixup"]
    assert (cell.difference, cell.reduced) == (None, ("500 of 10000 images",))


def test_what_other_sources_print_is_kept_where_it_differs() -> None:
    figures = (
        figure(80.02, note="DISAGREES: 80.12 in t14"),
        figure(80.12, "t14"),
        figure(80.02, "x"),
    )
    run = [result("mixup", clean__top1=0.8)]
    cell = column(tabulate(run, Layout(), figure_of=always(*figures)))["mixup"]
    assert cell.published == figures[0]
    assert cell.others == (figures[1],)


def test_packaged_figures_are_found_by_labels() -> None:
    look_up = printed_figures(["poster-t3"])
    labels = result("adautomix").labels
    first = look_up(labels, "clean.top1")[0]
    assert (first.study, first.printed) == ("poster-t3", "81.55")
    assert look_up(labels, "fgsm@paper-adautomix.error")[0].printed == "75.66"
    assert look_up({**labels, "epochs": "2"}, "clean.top1") == []
    assert look_up({**labels, "published": ""}, "clean.top1") == []
    assert look_up({**labels, "published": "mixup"}, "clean.top1")[0].method == "mixup"


def test_a_sweep_is_not_held_against_figures_that_do_not_know_it() -> None:
    def run(alpha: str, **labels: str) -> RunResult:
        return result("mixup", clean__top1=0.78, labels={"method.alpha": alpha, **labels})

    layout = Layout(rows=("method", "method.alpha"))
    table = tabulate([run("0.2"), run("4.0")], layout, figure_of=printed_figures())
    assert [cell.published for cell in column(table).values()] == [None, None]
    assert "not told apart by method, method.alpha" in table.notes[0]
    named = [run("0.2", published="mixup"), run("4.0", published="")]
    table = tabulate(named, layout, figure_of=printed_figures())
    shown = {row.title: row.cells[0].published for row in table.rows}
    assert shown["mixup, method.alpha 0.2"] is not None
    assert shown["mixup, method.alpha 4.0"] is None


def test_columns_may_be_data_sets_and_networks() -> None:
    runs = [
        result(method, clean__top1=x, labels={"dataset": dataset, "arch": arch})
        for method, dataset, arch, x in (
            ("mixup", "cifar100", "resnet18", 0.1),
            ("mixup", "cifar100", "swin", 0.2),
            ("cutmix", "cifar100", "resnet18", 0.3),
            ("cutmix", "tiny", "resnet18", 0.4),
        )
    ]
    layout = layout_of(runs, rows=["method"], columns=["dataset", "arch"])
    table = tabulate(runs, layout)
    heads = ["cifar100 resnet18", "cifar100 swin", "tiny resnet18"]
    assert [one.title for one in table.columns] == heads
    both = tabulate(runs, replace(layout, metrics=("clean.top1", "x.y")))
    assert [one.title for one in both.columns[:2]] == [
        f"{heads[0]}: {m}" for m in ("clean.top1", "x.y")
    ]
    means = [[cell.mean for cell in row.cells] for row in table.rows]
    assert means == [[0.1, 0.2, None], [0.3, None, 0.4]]
    assert table.rows[0].cells[2].reasons == ("no run",)


def test_runs_that_are_no_seeds_of_one_another_are_not_averaged() -> None:
    runs = [result("mixup", seed, labels={"epochs": epochs}) for seed, epochs in enumerate("23")]
    with pytest.raises(UsageError, match="epochs is 2 and 3; make rows of method, epochs"):
        tabulate(runs, Layout())
    twice = [result("mixup", 0, labels={"run": name}) for name in "ab"]
    with pytest.raises(UsageError, match="two runs of the same seed: a and b"):
        tabulate(twice, Layout())
    options = [result("mixup", 0), result("mixup", 1, labels={"method.alpha": "2.0"})]
    with pytest.raises(UsageError, match=r"method.alpha is not said and 2.0"):
        tabulate(options, Layout())


def test_rows_are_told_apart_by_as_little_as_it_takes() -> None:
    def rows(*runs: RunResult, columns: Sequence[str] = ()) -> tuple[str, ...]:
        layout = layout_of(runs, columns=columns)
        tabulate(runs, layout)
        return layout.rows

    a, b = result("mixup", 0), result("mixup", 1)
    assert rows(a, b) == ("method",)
    assert rows(a, result("cutmix", 0)) == ("method",)
    other = {"method.alpha": "2.0", "dataset": "tiny"}
    assert rows(a, result("mixup", 1, labels=other)) == ("method", "dataset")
    alpha = result("mixup", 1, labels={"method.alpha": "2.0"})
    assert rows(a, b, alpha) == ("method", "method.alpha")
    assert rows(a, result("mixup", 0, labels={"run": "again"})) == ("method", "run")
    assert rows(a, result("mixup", 1, labels=other), columns=["dataset"]) == ("method",)
    foreign = [RunResult(labels={"name": name, "arch": "vit"}) for name in "ab"]
    assert rows(*foreign) == ("name",)


def test_seeds_may_be_rows() -> None:
    runs = [result("mixup", seed, clean__top1=0.5 + seed / 10) for seed in (1, 0)]
    table = tabulate(runs, Layout(rows=("method", "seed")))
    assert [row.title for row in table.rows] == ["mixup, seed 1", "mixup, seed 0"]


def test_sorting_puts_the_best_first_and_what_is_missing_last() -> None:
    errors = {"a": 0.3, "c": 0.1, "d": 0.2}
    runs = [result(name, fgsm__error=x, clean__top1=x) for name, x in errors.items()]
    runs.insert(1, result("b"))
    by_error = tabulate(runs, TWO, sort="fgsm.error")
    assert [row.title for row in by_error.rows] == ["c", "d", "a", "b"]
    by_accuracy = tabulate(runs, TWO, sort="clean.top1")
    assert [row.title for row in by_accuracy.rows] == ["a", "d", "c", "b"]
    with pytest.raises(UsageError, match=r"column xyz to sort by; choose from clean.top1, fgsm"):
        tabulate(runs, TWO, sort="xyz")
    with pytest.raises(UsageError, match=r"to sort by; did you mean 'clean.top1'"):
        tabulate(runs, TWO, sort="clean.tpo1")


def test_what_is_named_must_be_there() -> None:
    runs = [result("mixup", clean__top1=0.5, fgsm__error=0.5)]
    with pytest.raises(UsageError, match="no run has a label metod; did you mean method"):
        layout_of(runs, rows=["metod"])
    with pytest.raises(
        UsageError, match="neither a metric nor a label of a run; did you mean arch"
    ):
        layout_of(runs, columns=["archs"])
    with pytest.raises(
        UsageError, match=r"no run has the metric fgsm.eror; did you mean fgsm.error"
    ):
        refuse_misnamed(runs, layout_of(runs, columns=["fgsm.eror"]))
    refuse_misnamed(runs, layout_of(runs, columns=["fgsm.error"]))


def test_a_column_of_what_was_measured_otherwise_says_so() -> None:
    def run(method: str, eps: str) -> RunResult:
        one = result(method, clean__top1=0.5, fgsm__error=0.5)
        return replace(one, params={"fgsm": {"eps": eps, "norm": "linf"}, "clean": {}})

    unlike = tabulate([run("a", "8/255"), run("b", "4/255")], TWO)
    assert unlike.notes == ("fgsm.error was not measured alike: eps is 8/255 and 4/255 (a-0, b-0)",)
    assert tabulate([run("a", "8/255"), run("b", "8/255")], TWO).notes == ()


def test_a_table_of_every_run_by_every_run_is_refused() -> None:
    runs = [result(str(n), 0) for n in range(400)]
    with pytest.raises(UsageError, match="would have 160000 cells"):
        tabulate(runs, Layout(rows=("method",), across=("run",)))
