"""robustmix from Python and in notebooks: what a call is given acts, what it gives is seen."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import robustmix
from robustmix import Report
from robustmix.cli.app import run
from robustmix.errors import IntakeError, UsageError, as_arguments
from robustmix.evaluation import progress
from robustmix.evaluation.module_model import loaded
from robustmix.evaluation.progress import Bar, PlainLines, Silence, shown_by
from robustmix.evaluation.suite import Scene
from robustmix.evaluation.suites.clean import Clean, PreparedClean
from robustmix.pages.drawings import DRAWINGS
from robustmix.report import terminal

EVIL = "<b>&amp;</b>"


def brightest(side: tuple[int, int] = (32, 32)) -> nn.Module:
    """Three classes: which channel's mean is largest, of the images as they come."""

    class Brightest(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[-2:] == side, x.shape
            return 20 * x.mean(dim=(2, 3))

    return Brightest()


def pictures(n: int = 24, side: tuple[int, int] = (32, 32)) -> tuple[Tensor, Tensor]:
    images = torch.rand(n, 3, *side, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(n) % 3
    images[torch.arange(n), labels] += 0.01
    return images.clamp(0, 1), labels


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return robustmix.evaluate(
        brightest(),
        pictures(),
        {
            "calibration": {},
            "fgsm": {"eps": "4/255"},
            "corruption": {"corruptions": "contrast,fog"},
        },
        masking="off",
        name="mine",
        out=tmp_path_factory.mktemp("api") / "report",
    )


# A network of the caller's own


def test_what_a_module_does_not_say_is_found_or_told(report: Report) -> None:
    images, labels = pictures()
    levels = (images * 255).round() / 255
    right = (levels.mean(dim=(2, 3)).argmax(dim=1) == labels).double().mean()
    assert report["clean.top1"].value == pytest.approx(float(right))
    assert 0.4 < float(right) < 1
    assert [w.code for w in report.content.warnings if w.code == "W-NORM-ASSUMED"]


def test_a_stated_normalisation_is_used_and_nothing_is_assumed() -> None:
    found = robustmix.evaluate(
        brightest(), pictures(), ["clean"], mean=(0.9, 0.1, 0.1), std=(0.01, 0.01, 0.01)
    )
    images, labels = pictures()
    offset = torch.tensor([0.9, 0.1, 0.1])  # red never wins
    right = ((images.mean(dim=(2, 3)) - offset).argmax(dim=1) == labels).double().mean()
    assert found["clean.top1"].value == pytest.approx(float(right))
    assert float(right) < 2 / 3 + 1e-9
    assert "W-NORM-ASSUMED" not in [w.code for w in found.content.warnings]


@pytest.mark.parametrize(
    "data",
    [pictures(9, (20, 28)), TensorDataset(*pictures(9, (20, 28)))],
    ids=["tensors", "data set"],
)
def test_the_images_tell_their_size(data: object) -> None:
    assert loaded(brightest((20, 28)), data, {}).input_size == (3, 20, 28)


def test_timm_s_configuration_on_a_network_says_how_it_normalises() -> None:
    net = timm.create_model("resnet10t.c3_in1k", num_classes=4)
    net.pretrained_cfg = {**net.pretrained_cfg, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    robust = loaded(net, pictures(2), {})
    np.testing.assert_allclose(robust.mean.flatten(), [0.1, 0.2, 0.3])
    np.testing.assert_allclose(robust.std.flatten(), [0.4, 0.5, 0.6])
    assert (robust.num_classes, robust.info.notes) == (4, ())
    own = loaded(net, pictures(2), {"mean": (0.5,) * 3, "std": (0.25,) * 3})
    np.testing.assert_allclose(own.std.flatten(), 0.25)


def test_half_a_normalisation_is_refused() -> None:
    with pytest.raises((UsageError, IntakeError), match="mean and std"):
        robustmix.evaluate(brightest(), pictures(), ["clean"], mean=(0.5,) * 3)


def test_num_classes_acts_on_a_model_that_is_loaded_here_alone() -> None:
    with pytest.raises(IntakeError):
        robustmix.evaluate(brightest(), pictures(), ["clean"], num_classes=4)
    ready = loaded(brightest(), pictures(), {})
    with pytest.raises(UsageError, match="num_classes of a model that was loaded already"):
        robustmix.evaluate(ready, pictures(), ["clean"], num_classes=3)


# Suites and their options


def test_options_of_a_suite_are_its_alone(report: Report) -> None:
    suites = report.content.suites
    assert suites["fgsm"].params["eps"] == "4/255"
    assert suites["corruption"].params["corruptions"] == ["fog", "contrast"]
    with pytest.raises(UsageError, match=r"option of .* none of these is run: fgsm"):
        robustmix.evaluate(brightest(), pictures(), {"fgsm": {"corruptions": "fog"}})
    with pytest.raises(UsageError, match="unknown option 'epsilon'; did you mean 'eps'"):
        robustmix.evaluate(brightest(), pictures(), {"fgsm": {"epsilon": 0.1}})


def test_one_protocol_may_be_given_as_text() -> None:
    found = robustmix.evaluate(brightest(), pictures(), "fgsm", protocol="quick", masking="off")
    assert found.content.protocol.presets == ["quick"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("protocols", "protocol"), ("suite", "suites"), ("num_clases", "num_classes")],
)
def test_a_misspelt_argument_is_told_from_an_option_of_a_suite(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"unknown argument '{typed}'; did you mean '{meant}'"):
        robustmix.evaluate(brightest(), pictures(), **{typed: "quick"})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Limited(Clean):
    """A suite of nobody's table, with an option that looks like an argument."""

    limits: bool = False
    """Refuse to begin."""

    def prepare(self, scene: Scene) -> PreparedClean:
        if self.limits:
            raise UsageError("limits came through")
        return super().prepare(scene)


def test_an_option_of_a_suite_of_ones_own_may_look_like_an_argument() -> None:
    with pytest.raises(UsageError, match="limits came through"):
        robustmix.evaluate(brightest(), pictures(), [Limited()], limits=True)
    with pytest.raises(UsageError, match="unknown argument 'limits'; did you mean 'limit'"):
        robustmix.evaluate(brightest(), pictures(), ["clean"], limits=True)


@pytest.mark.parametrize(
    ("kind", "shown"), [("plain", PlainLines), ("none", Silence), ("auto", Silence), ("rich", Bar)]
)
def test_progress_by_name(kind: str, shown: type) -> None:
    found = shown_by(kind)
    found.close()
    assert type(found) is shown
    assert shown_by(found) is found


def test_a_notebook_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Console, "is_jupyter", True, raising=False)
    monkeypatch.setattr(progress, "Console", lambda **_: FakeConsole())
    assert isinstance(shown_by("auto"), PlainLines)


class FakeConsole:
    is_jupyter = True
    is_terminal = False


def test_unknown_progress_is_refused() -> None:
    with pytest.raises(UsageError, match="did you mean 'plain'"):
        robustmix.evaluate(brightest(), pictures(), ["clean"], progress="plane")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: robustmix.evaluate(brightest(), pictures(), batch_size=-1), "expected batch_size"),
        (lambda: robustmix.evaluate(brightest(), pictures(), limit=0), "cannot take limit 0"),
        (lambda: robustmix.evaluate(brightest(), pictures(), "fgsm", trials=2), "^trials is an"),
    ],
)
def test_errors_name_arguments_and_on_the_command_line_options(
    call: Callable[[], object], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert re.search(said, str(caught.value))
    assert " --" not in f" {caught.value}"
    assert "--" in caught.value.line()


def test_whole_commands_and_dashes_of_other_kinds_stay() -> None:
    assert as_arguments("see `robustmix eval --help` or --data-dir") == (
        "see `robustmix eval --help` or data_dir"
    )
    assert as_arguments("write robustmix compare --group A=a.json") == (
        "write robustmix compare --group A=a.json"
    )
    assert as_arguments("add --suite fgsm -- or a--b, --1") == "add suites fgsm -- or a--b, --1"


# The report


def test_it_says_in_a_line_what_it_holds(report: Report) -> None:
    value = 100 * (report["clean.top1"].value or 0)
    assert repr(report).startswith("<Report mine on ")
    assert f"24 images: clean top1 {value:.2f} %, " in repr(report)


def test_numbers_are_found_by_their_paths(report: Report) -> None:
    assert report["corruption.acc[fog/3]"] == report.metric("corruption.acc[fog/3]")
    paths = list(report)
    frame = report.metrics()
    assert len(paths) == len(set(paths)) == len(frame)
    assert [report[path].n for path in paths] == frame["n"].tolist()
    assert "clean.top1" in report
    assert "clean.top9" not in report
    with pytest.raises(KeyError, match=r"no clean\.topp1; did you mean clean\.top1"):
        report["clean.topp1"]
    with pytest.raises(KeyError, match="no zzz; suites: clean, calibration"):
        report["zzz"]


def test_metrics_may_be_of_some_suites(report: Report) -> None:
    some = report.metrics("clean", "fgsm")
    whole = report.to_frame()
    pd.testing.assert_frame_equal(
        some, whole[whole["suite"].isin(["clean", "fgsm"])].reset_index(drop=True)
    )
    with pytest.raises(UsageError, match="unknown suite 'fgms'; did you mean 'fgsm'"):
        report.metrics("fgms")


def test_a_notebook_shows_a_table_without_a_stranger_s_markup(report: Report) -> None:
    run_part = report.content.run.model_copy(update={"name": EVIL})
    failed = report.content.suites["fgsm"].model_copy(update={"status": "failed", "reason": EVIL})
    suites = {**report.content.suites, "fgsm": failed}
    content = report.content.model_copy(update={"run": run_part, "suites": suites})
    named = Report(content, report.samples)
    html = named._repr_html_()
    assert EVIL not in html
    assert html.count("&lt;b&gt;&amp;amp;&lt;/b&gt;") == 2
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    shown = [
        cell for part in suites.values() for row in terminal.summary_rows(part)
        for cell in row
    ]  # fmt: skip
    assert {cell for cell in shown if "%" in cell} <= set(cells)
    assert "W-NORM-ASSUMED" in html


def words_of(text: str) -> list[str]:
    """All but the lines between, which are as long as the terminal is wide."""
    return [word for word in text.split() if set(word) != {"─"}]


def test_show_prints_what_the_command_prints(
    report: Report,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    report.save(tmp_path)
    report.show()
    mine = capsys.readouterr().out
    assert run(["report", "show", str(tmp_path)]) == 0
    theirs = capsys.readouterr()
    assert words_of(theirs.out) == words_of(mine)[: len(words_of(theirs.out))]
    assert len(words_of(theirs.out)) > 30
    assert "W-NORM-ASSUMED" in mine


def lines_of(figure: Figure) -> list[list[float]]:
    return [
        np.asarray(line.get_ydata()).tolist() for axis in figure.axes for line in axis.get_lines()
    ]


def test_the_figure_of_the_radius_holds_the_report_s_numbers(report: Report) -> None:
    part = report.content.suites["fgsm"]
    (curve,) = part.curves
    expected = [metric.value for metric in part.along(curve)]
    for what in ("eps", "fgsm", "attack-curves"):
        figure = report.plot(what)
        assert isinstance(figure, Figure)
        assert any(found == pytest.approx(expected) for found in lines_of(figure))


@pytest.mark.parametrize("what", ["overview", "corruption", "heatmap", "reliability"])
def test_every_figure_can_be_saved(report: Report, what: str) -> None:
    buffer = io.BytesIO()
    report.plot(what).savefig(buffer, format="png")
    assert buffer.getbuffer().nbytes > 5000


def test_a_figure_shows_itself_where_nobody_imported_pyplot(report: Report) -> None:
    figure = report.plot("reliability")
    figure.axes[0].set_title("mine")  # what was changed is shown as well
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    png = io.BytesIO(figure._repr_png_())  # type: ignore[attr-defined]
    with Image.open(png) as shown, Image.open(buffer) as saved:
        assert shown.size == saved.size
        assert shown.tobytes() == saved.tobytes()


def test_what_cannot_be_drawn_is_told(report: Report) -> None:
    with pytest.raises(UsageError, match="unknown plot 'reliabilty'; did you mean 'reliability'"):
        report.plot("reliabilty")
    with pytest.raises(UsageError, match="nothing is drawn of suite 'clean'; plot one of overview"):
        report.plot("clean")
    with pytest.raises(IntakeError):
        report.plot("occlusion-curves")
    with pytest.raises(UsageError, match="unknown suite 'fgms'"):
        report.plot("eps", suite="fgms")


def test_a_drawing_that_makes_its_own_file_is_shown_as_a_picture(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    def theirs(reports: object, suites: object, path: Path) -> str:
        figure = Figure(figsize=(2, 1), dpi=50)
        figure.add_subplot().plot([0, 1])
        figure.savefig(path)
        return "a line"

    row = DRAWINGS.row("heatmap")
    monkeypatch.setitem(DRAWINGS._rows, "heatmap", type(row)(theirs, "", title="x", together=False))
    (axis,) = report.plot("heatmap").axes
    (image,) = axis.get_images()
    assert np.asarray(image.get_array()).shape[:2] == (50, 100)


# Comparisons and tables


def test_compare_takes_paths_as_text(report: Report) -> None:
    document = robustmix.compare(report, report, metrics=["clean.top1", "corruption.acc[fog/3]"])
    frame = document.to_frame()
    assert frame["path"].tolist() == ["clean.top1", "corruption.acc[fog/3]"]
    assert frame["a"].tolist() == [report[path].value for path in frame["path"]]
    with pytest.raises(UsageError):
        robustmix.compare(report, report, metrics=["clean.topp1"])


def test_check_gives_its_rules_as_a_frame(report: Report) -> None:
    document = robustmix.check(report, report)
    frame = document.to_frame()
    assert frame["outcome"].tolist() == ["pass"] * len(document.rules)
    assert "clean.top1" in frame["path"].tolist()


def test_the_table_is_that_of_the_command(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.save(tmp_path / "a")
    made = robustmix.table(tmp_path / "a", columns=["clean.top1", "fgsm.robust_acc"], rows=["name"])
    frame = made.to_frame()
    assert frame["mean"].tolist() == [report[path].value for path in frame["metric"]]
    words = ["table", str(tmp_path / "a"), "--columns", "clean.top1,fgsm.robust_acc"]
    assert run([*words, "--rows", "name", "--format", "csv"]) == 0
    printed = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert printed["mean"].tolist() == pytest.approx(frame["mean"].tolist())


def test_recipes_and_studies_are_within_reach() -> None:
    names = robustmix.recipes.list_recipes()
    assert "cifar100-resnet18-adautomix" in names
    assert robustmix.recipes.load_recipe("cifar100-resnet18-adautomix").method == "adautomix"
    study = robustmix.studies.read_study("quick")
    assert "adautomix" in study.grid[0]["method"]
    assert "quick" in robustmix.studies.packaged_studies()


@pytest.mark.parametrize(
    ("of", "names"),
    [
        (robustmix, {"evaluate", "compare", "check", "table", "recipes", "studies", "Report"}),
        (robustmix.attacks, {"fgsm", "pgd", "fab", "autoattack"}),
        (robustmix.metrics, {"expected_calibration_error", "wilson"}),
        (robustmix.studies, {"read_study", "table"}),
    ],
)
def test_tab_completion_shows_the_names(of: object, names: set[str]) -> None:
    assert names <= set(dir(of))


def test_the_page_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of docs/python.md, block after block."""
    page = Path(__file__).parents[1] / "docs" / "python.md"
    if not page.exists():
        pytest.skip("the page is not beside the tests")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    assert isinstance(names["figure"], Figure)
    assert (tmp_path / "runs" / "mine" / "report.json").is_file()
