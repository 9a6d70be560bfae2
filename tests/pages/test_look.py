"""How the page looks: on a telephone, on a wide screen, in the dark, in print, without a mouse."""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from robustmix.pages.drawings import draw, pictures_of
from robustmix.pages.elements import Grid, Section, heads_of
from robustmix.pages.page import page_html, page_of
from robustmix.pages.picture import style_of
from robustmix.pages.severity_curves import draw_severities, draw_severity
from robustmix.report import Report
from robustmix.report.schema import (
    CheckPart,
    ConditionPart,
    CurvePart,
    Shown,
    SuitePart,
    TablePart,
    VerdictPart,
    Warn,
)
from tests.pages.drawn import Drawn
from tests.pages.made import made, number, points
from tests.pages.test_page import Page, luminance
from tests.pages.webdriver import Browser, browser, needs_browser

NAMES = [
    "vanilla",
    "cifar100-resnet18-adautomix-with-a-long-name-of-many-words-that-has-to-wrap",
    "AnotherNameOfOneWordAloneThatIsAsLongAsANameMayBeAndHasNoPlaceWhereItMayBeBroken",
]
CORRUPTIONS = ("fog", "gaussian_noise", "jpeg_compression")
SEVERITIES = (1, 3, 5)


def accuracy(place: int, corruption: str, severity: int) -> float:
    """Give another number for each report, corruption and severity."""
    return 0.9 - 0.1 * place - 0.02 * CORRUPTIONS.index(corruption) - 0.08 * severity


def mean(place: int, severity: int) -> float:
    return sum(accuracy(place, name, severity) for name in CORRUPTIONS) / len(CORRUPTIONS)


def report_of(place: int) -> Report:
    """Give a report with every kind of table, note, verdict and picture."""
    bins = [
        {
            "lo": n / 15,
            "hi": (n + 1) / 15,
            "n": 7 * (n % 4),
            "confidence": (n + 0.5) / 15,
            "accuracy": max(0.0, (n - place) / 15),
            "ci": [max(0.0, (n - place) / 15 - 0.1), (n - place) / 15 + 0.1],
        }
        for n in range(15)
    ]
    scaled = {"bins_15": bins, "T": 0.7, "split": "two-fold", "ece_after": {"value": 0.05}}
    cells = {f"{name}/{s}": accuracy(place, name, s) for name in CORRUPTIONS for s in SEVERITIES}
    by_severity = [
        ConditionPart(name=f"by_severity:{s}", metrics={"acc_mean": number(mean(place, s))})
        for s in SEVERITIES
    ]
    eps = CurvePart(name="eps", x_label="eps", x=[0, 2 / 255, 8 / 255], at=["0", "2", "8"])
    modes = [
        CurvePart(name=mode, x_label="share", x=[0, 0.5, 1], at=[f"{mode}:{i}" for i in range(3)])
        for mode in ("random", "salient")
    ]
    check = CheckPart(
        id="G1", title="gradients", status="warn", value=0.2, warn=0.1, fail=0.5, n=20, text="few"
    )
    bound = "a_number_of_a_metric_whose_name_is_long_mean_over_all_of_them_subset"
    suites = {
        "clean": SuitePart(
            kind="clean",
            status="ok",
            metrics={"top1": number(0.9 - place / 10), bound: number(0.5)},
            shown=Shown(headline=["top1", bound], compared=["top1", bound], gated=["top1"]),
            details={"per_class": [{"class": "x" * 60, "acc": 0.5, "correct": 10, "n": 20}]},
        ),
        "calibration": SuitePart(
            kind="calibration",
            status="ok",
            metrics={"ece_15": number(0.1 + place / 50)},
            details={"bins_15": bins, "temperature": scaled},
            shown=Shown(drawings=["reliability"], compared=["ece_15"]),
        ),
        "corruption": SuitePart(
            kind="corruption",
            status="ok",
            conditions=[*points(**cells), *by_severity],
            shown=Shown(drawings=["heatmap"]),
        ),
        "fgsm": SuitePart(
            kind="attack",
            status="ok",
            conditions=points(**{"0": 0.9 - place / 10, "2": 0.5, "8": 0.1 + place / 20}),
            curves=[eps],
            details={"norm": "linf"},
            shown=Shown(drawings=["attack-curves"]),
            verdicts=[
                VerdictPart(title="masking", verdict="clean", reason="none", n=20, checks=[check])
            ],
        ),
        "occlusion": SuitePart(
            kind="occlusion",
            status="ok",
            conditions=points(
                **{f"{c.name}:{i}": 0.8 - i / 3 - place / 20 for c in modes for i in range(3)}
            ),
            curves=modes,
            details={"grid": "8x8", "fill": "mean", "mask_scope": "sample"},
            shown=Shown(drawings=["occlusion-curves"]),
            tables=[
                TablePart(
                    name="t",
                    caption="A table of many columns",
                    columns=[f"column_{n}_of_them" for n in range(9)],
                    rows=[["row", *(1234.5678 + n for n in range(8))]] * 3,
                )
            ],
        ),
        "failed": SuitePart(kind="x", status="failed", reason="because of " + "f9dc" * 30),
    }
    warnings = [Warn(code="W-OF-SOMETHING-LONG", suite="nothing", message="c496" * 30)]
    return made(suites, name=NAMES[place], warnings=warnings)


REPORTS = [report_of(place) for place in range(3)]


@cache
def html_of(count: int) -> str:
    return page_html(REPORTS[:count])


class Seen(NamedTuple):
    """A page and the browser it is open in."""

    browser: Browser
    reports: int

    def look(self, width: int, *, dark: bool = False, media: str = "screen") -> "Seen":
        self.browser.emulate(width, dark=dark, media=media)
        return self

    def run(self, script: str) -> Any:
        return self.browser.run(script)


@pytest.fixture(scope="module")
def session() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("look")
    for count in (1, 3):
        (folder / f"{count}.html").write_text(html_of(count), encoding="utf-8")
    return {count: folder / f"{count}.html" for count in (1, 3)}


@pytest.fixture(params=[1, 3], ids=["one", "three"])
def seen(request: pytest.FixtureRequest, session: Browser, pages: dict[int, Path]) -> Seen:
    session.emulate(1280)
    session.open(pages[request.param].as_uri())
    return Seen(session, request.param)


OUTSIDE = """
    for (const part of document.querySelectorAll("details")) part.open = true;
    const region = (part) => {
      const found = part.closest(".scroll");
      return found && found.tabIndex === 0 && found.getAttribute("aria-label");
    };
    const text = "h1, h2, h3, p, li, dt, dd, th, td, summary, caption, figcaption, figure, svg";
    return [...document.querySelectorAll(text)].filter((part) => {
      const box = part.getBoundingClientRect();
      if (!box.width || part.closest("thead, a.skip") || region(part)) return false;
      return box.left < 0 || box.right > innerWidth + 0.5 || part.scrollWidth > box.width + 1;
    }).map((part) => part.tagName + " " + part.textContent.trim().slice(0, 60));
"""


@needs_browser
@pytest.mark.parametrize("width", [390, 700, 1280])
def test_nothing_is_cut(width: int, seen: Seen) -> None:
    assert seen.look(width).run(OUTSIDE) == []
    assert seen.run("return document.scrollingElement.scrollWidth") <= width
    assert seen.run("return innerWidth") == width


@needs_browser
def test_on_a_telephone_rows_are_cards_that_name_their_values(seen: Seen) -> None:
    cells = seen.look(390).run(
        "return [...document.querySelectorAll('table.wide')].map((table) => [table.role,"
        " [...table.tHead.rows[0].cells].map((head) => head.textContent),"
        " [...table.tBodies[0].rows[0].cells].map((cell) =>"
        "   [cell.role, cell.dataset.head, getComputedStyle(cell, '::before').content])])"
    )
    assert len(cells) > 1
    for role, heads, row in cells:
        assert role == "table"
        assert [cell.replace("\u200b", "") for _, cell, _ in row] == heads
        assert [one for one, _, _ in row] == ["rowheader", *["cell"] * (len(row) - 1)]
        assert all(shown == f'"{head}"' for _, head, shown in row[1:])
    wide = seen.look(1280).run(
        "return getComputedStyle(document.querySelector('table.wide td'), '::before').content"
    )
    assert wide == "none"


@needs_browser
def test_figures_scale_and_two_share_a_row(seen: Seen) -> None:
    boxes = (
        "return [...document.querySelectorAll('{}')].map((part) => {{"
        " const box = part.getBoundingClientRect(); return [box.left, box.top, box.width]; }})"
    )
    narrow = seen.look(390).run(boxes.format("figure svg[role=img]"))
    assert all(100 < width <= 390 for _, _, width in narrow)
    assert {left for left, _, _ in seen.run(boxes.format("figure"))} == {16}
    wide = seen.look(1280).run(boxes.format("figure"))
    rows: dict[float, int] = {}
    for _, top, _ in wide:
        rows[top] = rows.get(top, 0) + 1
    assert max(rows.values()) == 2
    assert max(left + width for left, _, width in wide) > 1200
    # Of several corruptions many stand side by side, on a telephone two.
    if seen.reports > 1:
        small = "figure[aria-labelledby=curves-figure-6] .panel"
        for width, most in ((1280, 3), (390, 2)):
            tops = [top for _, top, _ in seen.look(width).run(boxes.format(small))]
            assert max(map(tops.count, tops)) == most


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_what_is_drawn_is_seen(dark: bool, seen: Seen) -> None:
    found = seen.look(1280, dark=dark).run("""
        const ground = getComputedStyle(document.querySelector("figure")).backgroundColor;
        const of = (name, property) => [...document.querySelectorAll("figure *")].filter((part) =>
          (part.getAttribute("style") || part.getAttribute(property) || "").includes(name)
        ).map((part) => getComputedStyle(part)[property]).filter((colour) => colour !== "none");
        const text = [...document.querySelectorAll("figure svg text")].map((part) =>
          getComputedStyle(part).fill);
        return [ground, of("var(--curve", "stroke"), of("var(--grid", "stroke"),
                text.filter((colour) => !["rgb(254, 254, 254)", "rgb(0, 0, 0)"].includes(colour))];
    """)
    ground, *drawn = found
    assert (rgb(ground) < 0.2) == dark
    for least, colours in zip((3.0, 1.3, 7.0), drawn, strict=True):
        assert len(colours) > 10
        for colour in set(colours):
            pair = sorted((rgb(ground), rgb(colour)))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, (colour, ground)
    assert len(set(drawn[0])) >= seen.reports


def rgb(colour: str) -> float:
    """Give the luminance of a colour as browsers write it."""
    parts = [int(part) for part in re.findall(r"\d+", colour)[:3]]
    return luminance("#" + "".join(f"{part:02x}" for part in parts))


@needs_browser
def test_in_print_all_is_dark_on_white_and_nothing_is_folded(seen: Seen) -> None:
    seen.look(800, dark=True)
    tables = "return [...document.querySelectorAll('table')].map((one) => one.checkVisibility())"
    shown = seen.run(tables)
    assert all(shown) == (seen.reports > 1)  # on the screen the long ones of one report are folded
    assert all(seen.look(800, dark=True, media="print").run(tables))
    ink = "return getComputedStyle(document.body)"
    assert rgb(seen.run(f"{ink}.color")) < 0.01
    assert rgb(seen.run(f"{ink}.backgroundColor")) == 1
    assert seen.run("return getComputedStyle(document.querySelector('nav')).display") == "none"


@needs_browser
def test_keys_alone_sort_and_reach_what_scrolls(seen: Seen) -> None:
    seen.look(1280).run("document.querySelector('table.sortable th:nth-child(2) button').focus()")
    head = "return document.activeElement.closest('th').getAttribute('aria-sort')"
    values = (
        "return [...document.activeElement.closest('table').tBodies[0].rows]"
        ".map((row) => Number(row.cells[1].dataset.value))"
    )
    before = seen.run(values)
    for key, order in (("\ue007", "ascending"), (" ", "descending")):
        seen.browser.press(key)
        assert seen.run(head) == order
        assert seen.run(values) == sorted(before, reverse=order == "descending")
    regions = seen.look(700).run(
        "return new Promise((done) => setTimeout(done, 100)).then(() =>"
        " [...document.querySelectorAll('.scroll')].filter((part) => part.checkVisibility())"
        ".map((part) => [part.scrollWidth > part.clientWidth, part.tabIndex === 0,"
        " part.getAttribute('role'), part.getAttribute('aria-label')]))"
    )
    assert any(scrolls for scrolls, _, _, _ in regions)
    for scrolls, reached, role, label in regions:
        assert (reached, role) == (scrolls, "region")
        assert label


def axe() -> Path | None:
    """Find axe-core in a package that brings it along, without importing that."""
    for name in ("axe_playwright_python", "axe_core_python"):
        spec = find_spec(name)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / "axe.min.js").exists():
                return Path(place) / "axe.min.js"
    return None


@needs_browser
@pytest.mark.skipif(axe() is None, reason="axe-core is not here; pip install axe-core-python")
@pytest.mark.parametrize(
    "modes",
    [
        ((1280, False), (390, True)),
        pytest.param(((1280, True), (390, False)), marks=pytest.mark.slow),
    ],
    ids=["day-and-night", "night-and-day"],
)
def test_axe_finds_no_fault(modes: tuple[tuple[int, bool], ...], seen: Seen) -> None:
    file = axe()
    assert file is not None
    seen.run("for (const part of document.querySelectorAll('details')) part.open = true")
    seen.run(file.read_text(encoding="utf-8"))
    for width, dark in modes:
        seen.look(width, dark=dark)
        found = seen.browser.run_async(
            "const done = arguments[0];"
            "axe.run(document, {resultTypes: ['violations']}).then((result) =>"
            " done([result.passes.length, result.violations.map((one) =>"
            "  [one.id, one.nodes[0].target.join(' '), one.nodes[0].failureSummary])]))"
        )
        assert found[0] > 10
        assert found[1] == [], (width, dark)


def test_reports_are_called_by_their_names() -> None:
    page = Page(html_of(3))
    for place in (1, 2):
        title = f"{NAMES[place]} against {NAMES[0]}: differences, with 95 % intervals"
        heads = page.tables[title][0]
        assert heads[1:3] == [NAMES[0], NAMES[place]]
        assert not {"A", "B"} & {cell for row in page.tables[title] for cell in row}
    assert f"suite failed is failed in {NAMES[1]}" in page.said
    assert not re.search(r"\bin [AB]\b", page.said)
    for name in NAMES:
        assert page.said.count(name) > 10
    keys = [text.strip() for text in page.text]
    assert all(keys.count(name) >= 5 for name in NAMES)  # legends of the pictures


def test_a_table_and_its_section_of_one_name_are_two_landmarks() -> None:
    grid = Grid(caption="Runs", heads=heads_of("run", "seed"), rows=[])
    section = Section(id="runs", title="Runs", tables=[grid])
    page = Page(page_of([section], title="t", subtitle="s", footer="f"))
    labels = [a["aria-label"] for a in page.all("div") if a.get("role") == "region"]
    assert labels == ["Table: Runs"]


def test_equal_names_are_numbered() -> None:
    clean = {"clean": REPORTS[0].content.suites["clean"]}
    twice = [made(clean, name=NAMES[place]) for place in (1, 0, 1)]
    models = Page(page_html(twice)).tables["Models side by side; the heads sort"]
    assert [row[0] for row in models[1:]] == [f"{NAMES[1]} (1)", NAMES[0], f"{NAMES[1]} (2)"]


def test_headings_are_in_order_and_every_figure_is_named() -> None:
    for count in (1, 3):
        html = html_of(count)
        levels = [int(level) for level in re.findall(r"<h([1-6])\b", html)]
        assert levels[0] == 1
        steps = pairwise(levels)
        assert all(after <= before + 1 for before, after in steps)
        page = Page(html)
        ids = {a["id"] for _, a in page.elements if "id" in a}
        drawn = [a for a in page.all("svg") if a.get("aria-hidden") != "true"]
        assert len(drawn) > 5
        for attributes in [*drawn, *page.all("figure")]:
            assert set((attributes["aria-labelledby"] or "").split()) <= ids
        assert all(attributes["role"] == "img" for attributes in drawn)
        # What a drawing uses of itself is there.
        used = set(re.findall(r'url\(#([^)"]*)\)|xlink:href="#([^"]*)"', html))
        assert used
        assert {first or second for first, second in used} <= ids


def test_severity_curves_are_the_numbers_of_the_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    said = draw_severity(REPORTS, ["corruption"], tmp_path / "a.svg")
    assert [line.x for line in drawn.lines] == [[0, *SEVERITIES]] * 3
    for place, line in enumerate(drawn.lines):
        assert line.y == pytest.approx([0.9 - place / 10, *(mean(place, s) for s in SEVERITIES)])
        assert (line.style["label"], line.style["color"]) == (NAMES[place], style_of(place).colour)
    assert f"vanilla from 90.00 % to {100 * mean(0, 5):.2f} %" in said
    drawn.lines.clear()
    said = draw_severities(REPORTS, ["corruption"], tmp_path / "b.svg")
    # As the benchmark orders them, whatever the reports do.
    assert drawn.titles[-3:] == ["gaussian noise", "fog", "jpeg compression"]
    lines = iter(drawn.lines)
    for name in ("gaussian_noise", "fog", "jpeg_compression"):
        for place in range(3):
            line = next(lines)
            expected = [accuracy(place, name, s) for s in SEVERITIES]
            assert line.y == pytest.approx([0.9 - place / 10, *expected])
            assert line.style["label"] == NAMES[place]
    worst = accuracy(0, "jpeg_compression", 5)
    assert f"vanilla: at its highest severity lowest under jpeg compression, {100 * worst:.2f} %"
    assert f"lowest under jpeg compression, {100 * worst:.2f} %" in said


def test_a_report_looks_the_same_in_every_panel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    styles = [style_of(place) for place in range(6)]
    for part in ("colour", "marker"):
        assert len({getattr(style, part) for style in styles}) == 6
    assert len({style.line for style in styles[:3]}) == 3
    drawn = Drawn(monkeypatch)
    # The second report lacks the suite, and the third keeps its own look.
    lacking = made({"clean": REPORTS[1].content.suites["clean"]}, name="lacking")
    reports = [REPORTS[0], lacking, REPORTS[2]]
    said = draw("curves-together", reports, tmp_path / "a.svg", suite="occlusion")
    assert drawn.titles == ["occlusion: random", "occlusion: salient"]
    lines = [line for line in drawn.lines if "label" in line.style]
    assert [line.style["label"] for line in lines] == [NAMES[0], NAMES[2]] * 2
    for place, line in zip((0, 2) * 2, lines, strict=True):
        assert line.y == pytest.approx([0.8 - i / 3 - place / 20 for i in range(3)])
        look = (line.style["color"], line.style["marker"], line.style["linestyle"])
        assert look == style_of(place)
    assert f"occlusion: salient: {NAMES[0]} from 80.00 % to 13.33 %" in said
    drawn.lines.clear()
    draw("attacks-together", reports, tmp_path / "b.svg")
    assert [line.y for line in drawn.lines] == [
        pytest.approx([0.9, 0.5, 0.1]),
        pytest.approx([0.7, 0.5, 0.2]),
    ]
    assert [line.style["color"] for line in drawn.lines] == [styles[0].colour, styles[2].colour]
    assert drawn.titles[-1] == "fgsm, linf"


def test_reliability_of_several_reports_stands_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = Drawn(monkeypatch)
    said = draw("reliability-together", REPORTS, tmp_path / "a.svg")
    before = [f"{name}\nas the model is\nECE {10 + 2 * i}.00 %" for i, name in enumerate(NAMES)]
    after = [f"{name}\nafter scaling, T = 0.700 (two folds)\nECE 5.00 %" for name in NAMES]
    assert drawn.titles == [*before, *after]
    assert "vanilla: surer than right in 11 of 11 bins, after scaling in 11 of 11 bins" in said
    filled = REPORTS[1].content.suites["calibration"].details["bins_15"]
    own = drawn.points[11:22]
    assert [y for _, y, *_ in own] == [row["accuracy"] for row in filled if row["n"]]


def test_a_page_writes_titles_and_legends_of_its_panels_itself() -> None:
    pictures = {one.title: one for one in pictures_of(REPORTS, ["occlusion"], key="k")}
    picture = pictures["Accuracy with hidden patches"]
    assert [panel.title for panel in picture.panels] == ["occlusion: random", "occlusion: salient"]
    assert [key.label for key in picture.keys] == [*NAMES, "chance"]
    assert [key.colour for key in picture.keys[:3]] == [f"var(--curve-{n})" for n in (1, 2, 3)]
    assert [(key.marker, key.line) for key in picture.keys] == [
        *((style_of(place).marker, style_of(place).line) for place in range(3)),
        ("", ":"),
    ]
    written = [re.findall(r"<text[^>]*>([^<]*)", panel.text) for panel in picture.panels]
    assert all("share" in texts for texts in written)
    assert not {*NAMES, "chance"} & {text for texts in written for text in texts}
    # One report: two curves whose legends name the modes.
    (alone,) = pictures_of(REPORTS[:1], ["occlusion"], key="k")
    assert [key.label for key in alone.keys] == ["random", "salient", "chance"]
