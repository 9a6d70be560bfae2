import csv
import io
import json
from pathlib import Path

import pytest

from robustmix.cli.app import run
from tests.comparison.reports import base, damaged, saved, sibling
from tests.studies.runs import add_report, make_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods of two seeds, each with a report, and one run that has just begun."""
    place = tmp_path_factory.mktemp("runs")
    for method, top1 in {"mixup": 0.5, "cutmix": 0.7}.items():
        for seed in (0, 1):
            name = f"{method}-{seed}"
            epochs = [0.1, 0.2, top1, top1 + seed / 10]
            one = make_run(place / name, epochs, method=method, seed=seed, dataset="digits")
            add_report(one)
    make_run(place / "fmix-0", (0.1,), method="fmix", dataset="digits")
    return place


def table(*words: object) -> int:
    return run(["table", *map(str, words)])


def read(text: str) -> dict[tuple[str, str], dict[str, str]]:
    return {(row["row"], row["metric"]): row for row in csv.DictReader(io.StringIO(text))}


def test_runs_of_a_folder_are_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert table(folder) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    lines = [line.split() for line in out.splitlines()]
    # Medians of .1 .2 .5 .5 and .1 .2 .5 .6: 35 and 35; of .1 .2 .7 .7 and .8: 45 and 45.
    assert ["cutmix", "45.00±0.00¹"] in [line[:2] for line in lines]
    assert ["mixup", "35.00±0.00²"] in [line[:2] for line in lines]
    assert ["fmix"] in lines
    assert "4 of 5 runs are complete" in out
    assert err == ""


@pytest.mark.parametrize(
    ("name", "means"),
    {"last": (0.75, 0.55), "best-last10": (0.75, 0.55), "median-last10": (0.45, 0.35)}.items(),
)
def test_the_statistic_is_the_one_asked_for(
    name: str, means: tuple[float, float], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table(folder, "--format", "csv", "--statistic", name) == 0
    rows = read(capsys.readouterr().out)
    found = [float(rows[method, "clean.top1"]["mean"]) for method in ("cutmix", "mixup")]
    assert found == pytest.approx(means)


def test_rows_columns_and_order_are_those_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--columns", "clean.nll,clean.top1", "--rows", "arch,method", "--format", "csv"]
    assert table(folder, *words, "--sort", "clean.top1") == 0
    rows = list(read(capsys.readouterr().out))
    assert rows[::2] == [(f"resnet18, {m}", "clean.nll") for m in ("cutmix", "mixup", "fmix")]
    assert table(folder, "--columns", "dataset", "--format", "csv", "--sort", "clean.top1") == 0
    assert [key[0] for key in read(capsys.readouterr().out)] == ["cutmix", "mixup", "fmix"]


def test_the_file_is_of_the_format_its_name_says(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    starts = {"md": "**Runs**", "tex": "% \\usepackage", "csv": "row,", "json": "{", "txt": "Runs"}
    starts["html"] = "<!doctype html>"
    for suffix, start in starts.items():
        out = tmp_path / f"table.{suffix}"
        assert table(folder, "--out", out) == 0
        assert capsys.readouterr().out == f"{out}\n"
        assert out.read_text(encoding="utf-8").startswith(start)
    document = json.loads((tmp_path / "table.json").read_text())
    report = document["rows"][0]["cells"][0]["seeds"][0]["report"]
    assert (tmp_path / report).resolve() == folder / "cutmix-0" / "eval" / "last" / "report.json"
    assert table(folder, "--out", tmp_path / "table.odd", "--format", "md", "--title", "T") == 0
    assert (tmp_path / "table.odd").read_text().startswith("**T**")
    capsys.readouterr()
    assert table(folder, "--out", "-", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "robustmix.table"


def test_published_figures_stand_beside_whole_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "mixup", [0.80] * 200, epochs=200)
    make_run(tmp_path / "cutmix", [0.80] * 4, method="cutmix", epochs=4)
    words = [tmp_path, "--rows", "method", "--format", "csv"]
    assert table(*words, "--published") == 0
    rows = read(capsys.readouterr().out)
    mixup, cutmix = (rows[method, "clean.top1"] for method in ("mixup", "cutmix"))
    assert float(mixup["published"]) == 0.7852
    assert float(mixup["difference"]) == pytest.approx(0.0148, abs=1e-12)
    assert (cutmix["published"], cutmix["difference"]) == ("", "")
    assert cutmix["reduced"] == "4 of 200 epochs"
    assert table(*words) == 0
    assert read(capsys.readouterr().out)["mixup", "clean.top1"]["published"] == ""


def test_figures_that_no_test_tells_from_the_best_are_marked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, report in (("a", base()), ("b", sibling()), ("c", damaged())):
        saved(report, tmp_path / name)
    words = [tmp_path, "--columns", "clean.top1", "--format", "csv"]
    assert table(*words, "--significance") == 0
    rows = read(capsys.readouterr().out)
    marks = {key[0]: row["not_tested_apart"] for key, row in rows.items()}
    best = next(key[0] for key, row in rows.items() if row["rank"] == "1")
    other = {"base": "sibling", "sibling": "base"}[best]
    assert marks == {best: "", other: "true", "damaged": "false"}
    assert table(*words) == 0
    assert {row["not_tested_apart"] for row in read(capsys.readouterr().out).values()} == {""}


def test_a_statistic_of_epochs_wants_runs_that_have_some(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = folder / "mixup-0" / "eval" / "last"
    assert table(report, "--columns", "clean.top1") == 0
    assert "last ten epochs" not in capsys.readouterr().out
    assert table(report, "--statistic", "last") == 2
    assert "error[E-UNUSED-OPTION]: --statistic is of the epochs" in capsys.readouterr().err
    assert table(report, "--statistic", "mean") == 2
    assert "unknown statistic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (["--statistic", "mean"], "unknown statistic 'mean'", 2),
        (["--format", "xls"], "unknown format 'xls'", 2),
        (["--out", "x.foo"], "--out x.foo", 2),
        (["--columns", "fgsm.eror"], "did you mean fgsm.error", 2),
        (["--rows", "metod"], "did you mean method", 2),
        (["--sort", "top1"], "there is no column top1", 2),
        (["--rows", "arch"], "make rows of arch, method", 2),
        (["nowhere"], "there is no report at nowhere", 3),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], told: str, code: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert table(folder, *words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[")
    assert told in err
    assert err.count("\n") == 1
