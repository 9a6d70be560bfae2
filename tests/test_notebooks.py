"""The notebooks: cell after cell as a reader runs them, and what is then there is right."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import robustmix
from robustmix import Report, attacks, corruptions, metrics
from robustmix.evaluation.recompute import recompute

FOLDER = Path(robustmix.__file__).resolve().parents[1] / "docs" / "notebooks"

if not FOLDER.exists():
    pytest.skip("the docs are not beside the tests", allow_module_level=True)

NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return found


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    with torch.random.fork_rng():
        yield
    plt.close("all")


def run(name: str) -> tuple[dict[str, Any], list[object]]:
    """Run every cell of code in turn: the names at the end, and what each cell shows."""
    names: dict[str, Any] = {"__name__": name}
    shown = []
    for cell in read(name)["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            last = tree.body[-1]
            value = tree.body.pop() if isinstance(last, ast.Expr) else None
            exec(compile(tree, name, "exec"), names)
            if isinstance(value, ast.Expr):
                expression = ast.Expression(value.value)
                shown.append(eval(compile(expression, name, "eval"), names))
    return names, shown


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_one_and_holds_no_output(name: str) -> None:
    notebook = read(name)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids) > 5
    assert notebook["cells"][0]["source"][0].startswith("# ")
    for cell in notebook["cells"]:
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_every_notebook_has_a_test_of_what_it_shows() -> None:
    assert NOTEBOOKS == ["compare", "evaluate", "pictures"]


def drawn(figure: object, axes: int) -> bool:
    assert isinstance(figure, Figure)
    return len([axis for axis in figure.axes if axis.has_data()]) >= axes


def test_evaluate() -> None:
    names, shown = run("evaluate")
    report = names["report"]
    assert isinstance(report, Report)
    assert report.content.run.status == "success"
    assert recompute(report) == []
    assert shown[0] is report
    assert shown[1] == (report["clean.top1"].value, report["clean.top1"].ci, "wilson95", 150)
    clean, macro, one_step, ten = (
        report[path].value or 0
        for path in ("clean.top1", "clean.macro_acc", "fgsm.robust_acc", "pgd.robust_acc")
    )
    assert clean > 0.8  # it has learnt
    assert 0 < ten <= one_step < clean
    for path, value in names["again"].items():
        assert value == pytest.approx(report[path].value, abs=1e-12), path
    low, high = names["interval"]
    assert low < macro < high
    assert drawn(names["overview"], 3)
    assert names["overview"]._repr_png_().startswith(b"\x89PNG")
    assert drawn(names["radius"], 1)
    assert drawn(names["reliability"], 1)
    part = report.content.suites["fgsm"]
    expected = [metric.value for metric in part.along(part.curves[0])]
    assert len(set(expected)) > 2
    lines = [line.get_ydata() for axis in names["radius"].axes for line in axis.get_lines()]
    assert any(np.asarray(line).tolist() == pytest.approx(expected) for line in lines)


def test_pictures() -> None:
    names, _ = run("pictures")
    photo, array = names["photo"], names["array"]
    assert isinstance(photo, Image.Image)
    assert (names["foggy"] == corruptions.corrupt(array, "fog", 3, seed=0)).all()
    assert abs(names["foggy"].astype(int) - array).mean() > 10
    np.testing.assert_allclose(names["as_floats"], names["foggy"] / 255, atol=1e-6)
    cells = [np.asarray(axis.get_images()[0].get_array()) for axis in names["grid"].axes]
    assert len(cells) == 20
    expected = corruptions.corrupt(photo, "motion_blur", 2, seed=0)
    assert (cells[6] == np.asarray(expected)).all()

    net, images, labels = names["net"], names["images"], names["labels"]
    clean = metrics.accuracy(net(images), labels)
    for name, found in names["attacked"].items():
        assert (found - images).abs().max() <= names["eps"] + 1e-6
        assert names["accuracy"][name] == metrics.accuracy(net(found), labels) < clean
    again = attacks.pgd(net, images, labels, eps=names["eps"], steps=10)
    assert torch.equal(again, names["outcome"].images)
    assert drawn(names["pairs"], 9)


def test_compare() -> None:
    names, shown = run("compare")
    reports, frame = names["reports"], names["differences"]
    paths = ["clean.top1", "calibration.ece_15", "pgd.robust_acc"]
    for report in reports.values():
        assert report.content.run.status == "success"
        assert report["clean.top1"].value > 0.8
    assert frame["path"].tolist() == paths
    for row in frame.to_dict("records"):
        first, second = (reports[name][row["path"]].value for name in ("plain", "mixup"))
        assert (row["a"], row["b"]) == (first, second)
        assert first != second
        assert row["delta"] == pytest.approx(second - first)
    table = shown[0].to_dict("records")  # type: ignore[attr-defined]
    assert {(row["name"], row["metric"]): row["mean"] for row in table} == {
        (name, path): report[path].value for name, report in reports.items() for path in paths
    }
    assert drawn(names["figure"], 1)
    assert [drawn(one, 1) for one in shown if isinstance(one, Figure)] == [True, True]
    again = robustmix.check(reports["mixup"], baseline=reports["plain"])
    assert shown[-1] == (again.verdict, again.exit_code)
