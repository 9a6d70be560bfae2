"""The HTML page: what it says, what it never does, and how it reads without seeing it."""

import base64
import copy
import csv
import hashlib
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest

from robustmix.cli.app import run
from robustmix.comparison.compare import compare
from robustmix.comparison.paths import parse_path
from robustmix.errors import IntakeError
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.plan import Planned
from robustmix.evaluation.suite import Suite
from robustmix.evaluation.suites.attack import Attack
from robustmix.evaluation.suites.corruption import Corruption
from robustmix.evaluation.suites.fgsm import PaperFgsm
from robustmix.evaluation.suites.registry import SUITES as TABLE
from robustmix.pages.page import page_html, write_page
from robustmix.pages.picture import COLOURS
from robustmix.pages.sheets import SORTED, sheets_of
from robustmix.report import Report
from robustmix.report.schema import (
    OriginPart,
    Shown,
    SuitePart,
    TablePart,
    VerdictPart,
    Warn,
)
from robustmix.report.sheet import render_sheet
from robustmix.report.terminal import show_interval, show_value
from robustmix.report.text import BARS
from tests.evaluation.tiny import Net, tiny_images, tiny_model
from tests.pages.drawn import Drawn
from tests.pages.made import made as made_by_hand
from tests.pages.made import number
from tests.pages.toy import Toy
from tests.pages.webdriver import Browser, browser, needs_browser
from tests.report.latex_reader import rows_in_latex, shown_by_latex

SUITES: list[str | Suite | Planned] = [
    "clean",
    "calibration",
    Corruption(corruptions="fog,frost,contrast", severity=(1, 3)),
    Attack(attack="fgsm", masking="off"),
    Planned(suite=PaperFgsm(), preset="paper-adautomix"),
    "occlusion",
    "shuffle",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("page")
    for seed in (0, 3):
        model = tiny_model(Net(seed=seed))
        evaluate(model, tiny_images(64), SUITES, out=out / f"seed{seed}")
    return [out / "seed0", out / "seed3"]


@pytest.fixture
def reports(made: list[Path]) -> list[Report]:
    return [Report.load(path) for path in made]


class Page(HTMLParser):
    """What is on a page: elements with their attributes, tables, and the text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.inside: list[str] = []
        self.feed(html.replace("<wbr>", ""))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside.append(tag)
        if tag == "caption":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            while self.inside.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.inside):
            self.text.append(data)
        if {"th", "td"} & set(self.inside):
            self.rows[-1][-1] += data
        elif "caption" in self.inside:
            self.tables[data] = self.rows

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_the_page_says_what_the_report_says(reports: list[Report]) -> None:
    said = Page(page_html(reports[:1])).said
    for path in ("clean.top1", "calibration.ece_15", "fgsm.robust_acc", "occlusion.auc_mean"):
        suite, _, start = path.partition(".")
        part = reports[0].content.suites[suite]
        metric = next(m for name, m in part.metrics.items() if name.startswith(start))
        assert f"{show_value(metric)} {show_interval(metric)} {metric.n}" in said
    assert "frost was made with a substitute and is approximate" in said
    warning = next(w for w in reports[0].content.warnings if w.code == "W-SINGLE-STEP")
    # Where the attacks stand; the table of all warnings says so.
    assert said.count(warning.message) == 1
    assert "W-SINGLE-STEP fgsm see Attacks" in said
    assert "fgsm@paper-adautomix error_clamp_only" in said
    assert reports[0].content.run.fingerprint in said


def test_the_page_asks_nothing_of_the_network(reports: list[Report]) -> None:
    for html in (page_html(reports[:1]), page_html(reports)):
        page = Page(html)
        for tag, attributes in page.elements:
            for name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert (attributes.get(name) or "#").startswith("#"), (tag, name)
        assert "@import" not in html
        assert not re.search(r"url\((?!#)", html)
        policy = next(
            m["content"] for m in page.all("meta") if "http-equiv" in m
        )  # what even a fault of ours could not get past
        script = html[html.index("<script>") + 8 : html.index("</script>")]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert policy == (
            "default-src 'none'; style-src 'unsafe-inline'; "
            f"script-src 'sha256-{digest}'"
        )  # fmt: skip


@pytest.mark.parametrize("count", [1, 2])
def test_every_table_of_a_page_is_to_be_had_alone(
    reports: list[Report], made: list[Path], capsys: pytest.CaptureFixture[str], count: int
) -> None:
    page = Page(page_html(reports[:count]))
    sheets = sheets_of(reports[:count])
    titles = [caption.removesuffix(SORTED) for caption in page.tables]
    assert [sheet.title for sheet in sheets.values()] == titles
    for sheet, shown in zip(sheets.values(), page.tables.values(), strict=True):
        told = [[" ".join(cell.split()) for cell in row] for row in shown]
        tex = [
            [" ".join(shown_by_latex(cell).split()) for cell in row]
            for row in rows_in_latex(render_sheet(sheet, "latex"))
        ]
        assert tex[1:] == [[_in_latex(cell) for cell in row] for row in told[1:]]
        rows = list(csv.reader(io.StringIO(render_sheet(sheet, "csv"))))
        assert rows[0] == told[0]
        assert len(rows) == len(told)
    paths = [str(path) for path in made[:count]]
    assert run(["report", "tables", *paths, "--list"]) == 0
    assert [x.split("\t")[0] for x in capsys.readouterr().out.splitlines()] == list(sheets)
    name = list(sheets)[-1]
    assert run(["report", "tables", *paths, "--table", name, "--format", "csv"]) == 0
    assert capsys.readouterr().out == render_sheet(sheets[name], "csv")
    assert run(["report", "tables", *paths, "--format", "csv"]) == 2
    assert run(["report", "tables", *paths, "--table", name[:-1]]) == 2
    assert f"did you mean '{name}'" in capsys.readouterr().err


def _in_latex(text: str) -> str:
    """What is in no font of LaTeX's is left out (bars) or a question mark."""
    without = "".join(c for c in text if c not in BARS)
    return " ".join("".join(c if c.isascii() or c in "ΔΔ±→↑↓…" else "?" for c in without).split())


def test_who_cannot_see_it_is_told(reports: list[Report]) -> None:
    page = Page(page_html(reports[:1]))
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(ids)) == len(ids)
    drawings = [a for a in page.all("svg") if a.get("role") == "img"]
    # A reliability, a heat map, severities, the attacks, occlusion and shuffling.
    assert len(drawings) == 6
    for attributes in drawings:
        assert set((attributes["aria-labelledby"] or "").split()) <= set(ids)
    assert "Lowest: " in page.said
    for attributes in page.all("th"):
        assert attributes["scope"] in ("col", "row")
    assert len(page.all("caption")) == len(page.all("table"))
    assert len(page.all("h1")) == 1
    assert page.all("html")[0]["lang"] == "en"
    targets = [a["href"] for a in page.all("a")]
    assert all((target or "")[1:] in ids for target in targets)


def test_equal_reports_give_equal_pages(reports: list[Report]) -> None:
    assert page_html(reports) == page_html(reports)


def test_several_reports_are_compared_with_the_first(reports: list[Report]) -> None:
    said = Page(page_html(reports)).said
    for report in reports:
        assert show_value(report.metric("clean.top1")) in said
    assert "seed3 against seed0" in said
    delta = (reports[1].metric("clean.top1").value or 0) - (
        reports[0].metric("clean.top1").value or 0
    )
    assert f"{100 * delta:+.2f}" in said
    other = evaluate(tiny_model(), tiny_images(64, seed=9), ["clean"])
    assert "Not compared: error[" in Page(page_html([reports[0], other])).said


def test_a_comparison_that_was_made_is_shown_and_not_made_again(
    reports: list[Report], monkeypatch: pytest.MonkeyPatch
) -> None:
    document, expected = compare(*reports), page_html(reports)

    def refused(*_: object) -> None:
        raise AssertionError("compared again")

    monkeypatch.setattr("robustmix.pages.several_reports.compare", refused)
    with pytest.raises(AssertionError, match="compared again"):
        page_html(reports)
    assert page_html(reports, document) == expected
    few = compare(*reports, metrics=[parse_path("clean.top1")])
    assert "calibration.ece_15</td>" not in page_html(reports, few)


EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'$\\frac{a}${{7*7}}"


def test_a_strangers_names_are_text(reports: list[Report]) -> None:
    report = copy.deepcopy(reports[0])
    content = report.content
    content.run.name = content.model.source = content.dataset.name = EVIL
    content.run.argv = [EVIL]
    content.warnings.append(Warn(code=EVIL, suite=EVIL, message=EVIL))
    clean = content.suites["clean"]
    clean.details["per_class"][0]["class"] = EVIL
    clean.shown.section = clean.shown.note = EVIL
    clean.tables.append(TablePart(name="t", caption=EVIL, columns=[EVIL], rows=[[EVIL], [[EVIL]]]))
    clean.verdicts.append(VerdictPart(title=EVIL, verdict=EVIL, reason=EVIL, n=1))
    content.tool.plugins = [OriginPart(kind="suite", name=EVIL, module=EVIL, version=EVIL)]
    for html in (page_html([report]), page_html([report, reports[1]])):
        page = Page(html)
        assert len(page.all("script")) == 1
        assert page.all("img") == []
        assert not any("onerror" in attributes for _, attributes in page.elements)
        assert "alert(1)" in page.said
        assert "{{7*7}}" in page.said


@pytest.mark.parametrize(
    ("suite", "field", "value"),
    [
        ("calibration", "bins_15", [{"n": "many"}]),
        ("clean", "per_class", [{"class": 1}]),
        ("corruption", "approximate", 7),
        ("calibration", "temperature", {"bins_15": [1]}),
    ],
)
def test_tables_of_another_form_are_one_line(
    suite: str, field: str, value: object, reports: list[Report]
) -> None:
    report = copy.deepcopy(reports[0])
    report.content.suites[suite].details[field] = value
    with pytest.raises(IntakeError, match="another form"):
        page_html([report])


def test_every_suite_has_a_row() -> None:
    verdict = VerdictPart(title="masking", verdict="not_assessable", reason="few", n=3)
    page = Page(
        page_html(
            [
                made_by_hand(
                    {
                        "a": SuitePart(kind="a", status="failed", reason="no files"),
                        "b": SuitePart(kind="b", status="ok", verdicts=[verdict]),
                        "c": SuitePart(kind="c", status="ok", shown=Shown(note="nothing to say")),
                        "d": SuitePart(
                            kind="d",
                            status="ok",
                            metrics={"acc": number(0.5)},
                            shown=Shown(headline=["acc", "gone"]),
                            verdicts=[verdict],
                        ),
                    }
                )
            ]
        )
    )
    assert page.tables["The headline number of every suite"][1:] == [
        ["a", "failed", "-", "-", "-", "no files"],
        ["b", "verdict", "not assessable", "-", "3", "few"],
        ["c", "-", "-", "-", "-", "nothing to say"],
        ["d", "acc", "50.00 %", "[45.00, 55.00]", "20", ""],
    ]
    assert page.said.count("Masking: not assessable. Few.") == 1
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", page_html([made_by_hand({})]))
    assert headings == ["Summary", "Provenance"]


def test_a_suite_of_somebody_else_is_seen_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with TABLE.temporary():
        TABLE.register("toy", Toy)
        reports = [
            evaluate(tiny_model(Net(seed=seed)), tiny_images(64), ["toy"], name=f"seed{seed}")
            for seed in (0, 3)
        ]
    drawn = Drawn(monkeypatch)
    page = Page(page_html(reports[:1]))
    part = reports[0].content.suites["toy"]
    assert part.metrics["acc_dark"].value not in (None, 0, 1)
    heads = page.tables["The headline number of every suite"]
    for name, metric in part.metrics.items():
        cells = [show_value(metric), show_interval(metric), str(metric.n)]
        assert ["toy", name, *cells, ""] in heads
        assert ["toy", name, *cells] in page.tables["Toys: all numbers"]
    for level in ("0.25", "0.5", "1.0"):
        metric = part.condition(level)["acc"]
        cells = [show_value(metric), show_interval(metric), str(metric.n)]
        assert ["toy", level, "acc", *cells] in page.tables["Toys: every condition"]
    (line,) = drawn.lines
    assert line.y == [part.condition(level)["acc"].value for level in ("0.25", "0.5", "1.0")]
    assert len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 1
    right = page.tables["Images that are right"]
    assert right[0] == ["level", "right", "share", "dark"]
    assert [row[0] for row in right[1:]] == ["level 0.25", "level 0.5", "level 1.0"]
    assert [row[3] for row in right[1:]] == ["yes", "no", "no"]
    for row in right[1:]:
        assert row[2] == f"{100 * round(int(row[1]) / 64, 4):.2f} %"
    assert page.tables["Light: 1 check on 7 images"][1:] == [
        ["D1 too dark", "warn", "0.25", "0.1", "0.5", "dim"]
    ]
    for words in ("Light: rather dim. The lamp is old.", "toy: 2 lamps.", "Toys", "brightness"):
        assert words in page.said
    assert page.said.count("the lamp flickers") == 1  # at its suite
    assert "see Toys" in page.said  # in the table of warnings

    both = Page(page_html(reports))
    value = [show_value(report.metric("toy.acc_dark")) for report in reports]
    models = both.tables["Models side by side; the heads sort"]
    place = models[0].index("toy.acc_dark")
    assert [row[place] for row in models[1:]] == value
    assert [row[models[0].index("light")] for row in models[1:]] == ["rather dim"] * 2
    pair = both.tables["seed3 against seed0: differences, with 95 % intervals"]
    assert value in [row[1:3] for row in pair if row[0] == "toy.acc_dark"]
    assert pair[-1] == ["light of toy", "rather dim", "rather dim", "-", "-", "-", "-", "-"]
    assert "Curves of toy" in both.said
    assert len([svg for svg in both.all("svg") if svg.get("role") == "img"]) == 1


def test_a_changed_verdict_is_seen_beside_the_numbers(reports: list[Report]) -> None:
    reports = copy.deepcopy(reports)
    for report, word in zip(reports, ("clean", "masked"), strict=True):
        verdict = VerdictPart(title="masking", verdict=word, reason="because", n=3)
        report.content.suites["fgsm"].verdicts.append(verdict)
    page = Page(page_html(reports))
    pair = page.tables["seed3 against seed0: differences, with 95 % intervals"]
    dashes = ["-"] * 4
    assert ["masking of fgsm", "clean", "masked", *dashes, "changed"] in pair
    models = page.tables["Models side by side; the heads sort"]
    assert [row[-1] for row in models] == ["masking", "clean", "masked"]


def test_no_status_of_a_check_is_hidden_by_the_style() -> None:
    css = (files("robustmix") / "pages" / "templates" / "page.css").read_text(encoding="utf-8")
    for status in ("pass", "warn", "fail", "skip"):
        rules = re.findall(rf"[^{{}}]*(?<!a)\.{status}\b[^{{}}]*\{{([^}}]*)\}}", css)
        assert not [rule for rule in rules if "position" in rule or "display" in rule]


def colours() -> Iterator[tuple[str, dict[str, str]]]:
    css = (files("robustmix") / "pages" / "templates" / "page.css").read_text(encoding="utf-8")
    roots = re.findall(r":root \{([^}]*)\}", css)
    assert len(roots) == 3
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", roots[0]))
    yield "light", light
    yield "dark", light | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", roots[1]))


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in levels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_the_fixture_of_wcag() -> None:
    assert (luminance("#ffffff") + 0.05) / (luminance("#000000") + 0.05) == pytest.approx(21)
    assert (1.05) / (luminance("#767676") + 0.05) == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize(("mode", "named"), list(colours()), ids=["light", "dark"])
def test_text_has_contrast_aa(mode: str, named: dict[str, str]) -> None:
    for text in ("ink", "soft", "link", "good", "bad", "mark"):
        for ground in ("paper", "panel"):
            pair = sorted((luminance(named[text]), luminance(named[ground])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (mode, text, ground)


@pytest.mark.parametrize(("mode", "named"), list(colours()), ids=["light", "dark"])
def test_curves_have_contrast_and_the_grid_is_seen(mode: str, named: dict[str, str]) -> None:
    curves = [name for name in named if name.startswith("curve-")]
    assert len(curves) == len(COLOURS)
    for least, names in ((3.0, [*curves, "mute"]), (1.3, ["grid"])):
        for name in names:
            pair = sorted((luminance(named[name]), luminance(named["panel"])))
            assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, (mode, name)


def test_command(made: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert run(["report", "html", *map(str, made), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert out.read_text(encoding="utf-8") == page_html([Report.load(path) for path in made])
    assert run(["report", "html", str(tmp_path / "nowhere"), "--out", str(out)]) == 3


@pytest.fixture(scope="module", params=["light", "dark"])
def opened(
    request: pytest.FixtureRequest, made: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    page = tmp_path_factory.mktemp("html") / "page.html"
    write_page([Report.load(path) for path in made], page)
    with browser(dark=request.param == "dark") as session:
        session.open("about:blank")  # the browser's own first page asks for a good deal
        session.messages("browser")
        session.requests()
        session.open(page.as_uri())
        yield session


@needs_browser
def test_the_browser_asks_for_nothing_and_complains_of_nothing(opened: Browser) -> None:
    asked = [url for url in opened.requests() if not url.startswith("file:")]
    assert asked == []
    assert opened.messages("browser") == []
    # Two reliabilities and heat maps, mean severities, three corruptions, and three of the rest.
    assert opened.run("return document.querySelectorAll('svg[role=img]').length") == 11


@needs_browser
@pytest.mark.parametrize("width", [1280, 500, 390])
def test_the_page_does_not_scroll_sideways(opened: Browser, width: int) -> None:
    opened.resize(width, 900)
    wide = opened.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1]


@needs_browser
def test_a_long_word_in_a_warning_is_broken(tmp_path: Path) -> None:
    suites = {"a": SuitePart(kind="a", status="ok", shown=Shown(note="f9dc" * 30))}
    warnings = [Warn(code="W-LONG", suite="a", message="c496" * 30)]
    write_page([made_by_hand(suites, warnings=warnings)], tmp_path / "page.html")
    with browser() as session:
        session.open((tmp_path / "page.html").as_uri())
        session.resize(500, 900)
        width = "return Math.max(...[...document.querySelectorAll('p')].map(p => p.scrollWidth))"
        assert 100 < session.run(width) <= 500


@needs_browser
def test_columns_sort_by_keyboard(opened: Browser) -> None:
    sort = """
        const head = document.querySelector('table.sortable th:nth-child(2) button');
        head.focus(); head.click();
        const rows = document.querySelectorAll('table.sortable tbody tr');
        return [[...rows].map(r => Number(r.children[1].dataset.value)),
                head.closest('th').getAttribute('aria-sort'), document.activeElement === head];
    """
    rising, how, focused = opened.run(sort)
    assert (rising == sorted(rising), how, focused) == (True, "ascending", True)
    falling, how, _ = opened.run(sort)
    assert (falling, how) == (rising[::-1], "descending")


@needs_browser
def test_figures_take_the_ink_of_the_page(opened: Browser) -> None:
    ink = opened.run(
        "const text = document.querySelector('figure svg text');"
        "return [getComputedStyle(text).fill, getComputedStyle(document.body).color]"
    )
    assert ink[0] == ink[1]
