"""The page of a table: read as a parser does, and sorted by a browser."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from robustmix.report.text import plain
from robustmix.studies.curves import curves_of
from robustmix.studies.formats import render
from robustmix.studies.layout import Layout, layout_of
from robustmix.studies.published import find_published
from robustmix.studies.results import read_results
from robustmix.studies.tabulate import printed_figures, tabulate
from tests.pages.test_page import Page
from tests.pages.webdriver import Browser, browser, needs_browser
from tests.studies.runs import add_report, make_run, result
from tests.studies.test_formats import hostile, reduced, whole

METHODS = {"mixup": 0.5, "cutmix": 0.7, "fmix": 0.6}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of two methods with reports, one of a third without, and their page."""
    place = tmp_path_factory.mktemp("page")
    for method, top1 in METHODS.items():
        for seed in (0, 1) if method != "fmix" else (0,):
            name = f"javascript:{method} {seed}"
            run = make_run(
                place / "runs" / name,
                [top1 + seed / 50] * 200,
                method=method,
                seed=seed,
                epochs=200,
            )
            if method != "fmix":
                add_report(run)
    found = read_results([place / "runs"])
    columns = ["clean.top1", "fgsm.error"]
    table = tabulate(
        found.results,
        layout_of(found.results, columns=columns),
        figure_of=printed_figures(),
        title="A table",
    )
    out = place / "page" / "table.html"
    out.parent.mkdir()
    out.write_text(render(table, "html", where=out), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def page(place: Path) -> Page:
    return Page((place / "page" / "table.html").read_text(encoding="utf-8"))


def test_the_table_holds_the_figures(page: Page) -> None:
    heads, *rows = page.tables["A table"]
    assert [head.replace(" ", "") for head in heads] == ["method", "clean.top1↑", "fgsm.error↓"]
    found = {row[0]: row[1] for row in rows}
    # 70 and 72: mean 71, standard deviation sqrt(2). Published of 200 epochs: 79.45.
    assert found["cutmix"].startswith("71.00 ± 1.41 (n=2)")
    assert "[79.45? -8.45*]" in found["cutmix"]
    assert found["fmix"].startswith("60.00 (n=1)")
    missing = {row[0]: row[2] for row in rows}["fmix"]
    assert missing == "no report"


def test_every_run_is_linked_to_its_report_by_a_relative_path(page: Page, place: Path) -> None:
    links = [
        str(attributes["href"])
        for tag, attributes in page.elements
        if tag == "a" and not str(attributes["href"]).startswith("#")
    ]
    assert len(links) == 5
    assert all(":" not in link for link in links)
    targets = {(place / "page" / unquote(link)).resolve() for link in links}
    want = {path.resolve() for path in (place / "runs").glob("*/eval/last/report.json")}
    assert targets == want | {(place / "runs" / "javascript:fmix 0").resolve()}


def test_published_figures_stand_with_their_source_and_note(page: Page) -> None:
    (rows,) = (rows for caption, rows in page.tables.items() if caption.startswith("Published"))
    assert rows[0] == ["method", "column", "figure", "table", "statistic", "source", "note"]
    for method in METHODS:
        first, *others = find_published(
            dataset="cifar100", arch="resnet18", epochs=200, method=method, metric="clean.top1"
        )
        want = [first, *(one for one in others if one.value != first.value)]
        assert [row[2:] for row in rows if row[0] == method] == [
            [one.printed, f"{one.study}, {one.table}", one.stat, one.source, plain(one.note, 1000)]
            for one in want
        ]
    assert len(rows) > 4


def test_pictures_are_inline_and_said_in_words(page: Page) -> None:
    kinds = [tag for tag, attributes in page.elements if tag == "svg"]
    assert len(kinds) >= 2
    assert "Hollow: the log that was released with AdAutoMix" in " ".join(page.text)


def test_reduced_runs_are_called_so_on_top() -> None:
    page = Page(render(reduced(), "html"))
    said = " ".join(page.text)
    assert "Runs (reduced)" in said
    assert "2 of 200 epochs" in said


def test_nothing_of_a_stranger_is_markup() -> None:
    page = Page(render(hostile(), "html"))
    assert [tag for tag, _ in page.elements if tag == "script"] == ["script"]
    assert not [tag for tag, _ in page.elements if tag == "b"]


def test_a_table_of_nothing_yet_is_a_page_too() -> None:
    empty = tabulate(
        [replace(one, values={}, complete=False, why="waiting") for one in whole().results[:1]],
        Layout(),
    )
    page = Page(render(empty, "html"))
    said = " ".join(page.text)
    assert "No run has a number yet" in said
    assert "0 of 1 runs are complete" in said


@pytest.fixture(scope="module")
def opened(place: Path) -> Iterator[Browser]:
    with browser() as session:
        session.open("about:blank")
        session.messages("browser")
        session.requests()
        session.open((place / "page" / "table.html").as_uri())
        yield session


@needs_browser
def test_the_browser_asks_for_nothing_and_complains_of_nothing(opened: Browser) -> None:
    assert [url for url in opened.requests() if not url.startswith("file:")] == []
    assert opened.messages("browser") == []


@needs_browser
def test_columns_sort_and_what_is_missing_comes_last(opened: Browser) -> None:
    sort = """
        const head = document.querySelector('table.sortable th:nth-child(%d) button');
        head.click();
        const rows = document.querySelectorAll('table.sortable')[0].tBodies[0].rows;
        return [...rows].map(row => row.cells[0].textContent);
    """
    assert opened.run(sort % 2) == ["mixup", "fmix", "cutmix"]
    assert opened.run(sort % 2) == ["cutmix", "fmix", "mixup"]
    assert opened.run(sort % 3)[-1] == "fmix"
    assert opened.run(sort % 3)[-1] == "fmix"
    assert opened.run(sort % 1) == ["cutmix", "fmix", "mixup"]


@needs_browser
@pytest.mark.parametrize("width", [1280, 500, 390])
def test_the_page_does_not_scroll_sideways(opened: Browser, width: int) -> None:
    opened.resize(width, 900)
    wide = opened.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]


@needs_browser
def test_no_cell_runs_into_its_neighbour(opened: Browser) -> None:
    opened.resize(1280, 900)
    script = """
        return [...document.querySelectorAll('table td')].filter(
            cell => cell.scrollWidth > cell.clientWidth + 1).map(cell => cell.textContent);
    """
    assert opened.run(script) == []


@needs_browser
def test_best_is_bold_and_second_underlined(opened: Browser) -> None:
    script = """
        const style = name => getComputedStyle(document.querySelector(`td span.${name}`));
        const small = getComputedStyle(document.querySelector('td small'));
        return [style('best').fontWeight, style('second').textDecorationLine,
                small.fontWeight, small.textDecorationLine];
    """
    assert opened.run(script) == ["700", "underline", "400", "none"]


def test_no_released_log_stands_beside_a_reduced_run() -> None:
    one = result("mixup", 0, clean__top1=0.5)
    whole, cut = (
        tabulate([replace(one, reduced=why)], Layout()) for why in ((), ("2 of 200 epochs",))
    )
    (shown,), (left_out,) = curves_of(whole), curves_of(cut)
    epoch, top1 = shown.published[-1]
    assert epoch == 200
    assert top1 == pytest.approx(0.7782)
    assert left_out.published == []


def test_a_run_that_shows_nothing_says_once_why_and_leads_nowhere(tmp_path: Path) -> None:
    one = result("mixup", 0, complete=False, why="waiting for its turn")
    runs = [replace(one, run=tmp_path / "not there")]
    table = tabulate(runs, Layout(metrics=("clean.top1", "fgsm.error")))
    page = Page(render(table, "html"))
    (line,) = page.tables["Every run, with links to its reports"][1:]
    assert line == ["mixup", "mixup-0waiting for its turn", "0", "", ""]
    links = [str(a["href"]) for tag, a in page.elements if tag == "a"]
    assert all(link.startswith("#") for link in links)
    (row,) = page.tables["Runs"][1:]
    assert row == ["mixup", "waiting for its turn", "waiting for its turn"]
