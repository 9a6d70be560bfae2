"""A set of which images are missing: an error, or carried by the run, the report and compare."""

import json
from pathlib import Path
from typing import Any

import pytest

from robustmix import evaluate, load_model, train
from robustmix.cli.app import run
from robustmix.comparison.pair import data_differences
from robustmix.errors import IntakeError
from robustmix.report.report import Report
from tests.data.sets.pictures import picture, write

BREEDS = [f"Breed_{chr(65 + n % 26)}{n}" for n in range(37)]


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image a breed in each split, of 3,680 and 3,669."""
    root = tmp_path_factory.mktemp("pets")
    home = root / "oxford-iiit-pet"
    for part, first in (("trainval", 0), ("test", 100)):
        names = [f"{breed}_{first + n}" for n, breed in enumerate(BREEDS)]
        rows = [f"{name} {n} 1 1" for n, name in enumerate(names, 1)]
        write(home / "annotations" / f"{part}.txt", *rows)
        for n, name in enumerate(names):
            picture(home / "images" / f"{name}.jpg", 6 * n, size=(40, 32))
    return root


SMALL: dict[str, Any] = {
    "dataset": "oxford-pets",
    "arch": "resnet8",
    "epochs": 1,
    "batch_size": 37,
    "img_size": 32,
    "device": "cpu",
    "progress": "none",
}


@pytest.fixture(scope="module")
def last(pets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    return train(out=out, data_dir=pets, allow_partial=True, **SMALL).last


def test_a_part_is_not_trained_on_unasked(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"37 of the 3,680 images of oxford-pets/train"):
        train(out=tmp_path, data_dir=pets, **SMALL)


def test_the_run_records_that_it_had_a_part(last: Path) -> None:
    recipe = (last.parents[1] / "recipe.toml").read_text(encoding="utf-8")
    assert "allow_partial = true" in recipe
    metrics = load_model(last).info.metrics or {}
    assert metrics["partial"] == {"train": [37, 3680], "test": [37, 3669]}


@pytest.fixture(scope="module")
def report(pets: Path, last: Path) -> Report:
    return evaluate(last, suites=["clean"], data_dir=pets, allow_partial=True, device="cpu")


def test_a_part_is_not_evaluated_unasked(pets: Path, last: Path) -> None:
    with pytest.raises(IntakeError, match=r"37 of the 3,669 images .* allow_partial"):
        evaluate(last, suites=["clean"], data_dir=pets, device="cpu")
    assert run(["eval", str(last), "--data-dir", str(pets)]) == 3


def test_the_report_says_so(report: Report) -> None:
    data = report.content.dataset
    assert (data.n_total, data.partial_of) == (37, 3669)
    assert data.layout == "images with annotations/test.txt"
    codes = {warning.code for warning in report.content.warnings}
    assert {"W-PARTIAL", "W-TRAINED-ON-PART"} <= codes


def test_a_part_is_not_compared_with_the_whole(report: Report) -> None:
    """Even of as many images: what is missing officially is a difference of its own."""
    whole = Report(report.content.model_copy(deep=True), report.samples)
    assert list(data_differences(report, whole)) == []
    whole.content.dataset.partial_of = None
    (difference,) = data_differences(report, whole)
    assert "only 37 of 3669 are here" in difference


def test_check_and_compare_refuse_a_part_beside_the_whole(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.save(tmp_path / "part")
    other = json.loads((tmp_path / "part" / "report.json").read_text())
    other["dataset"]["partial_of"] = None
    report.save(tmp_path / "whole")
    (tmp_path / "whole" / "report.json").write_text(json.dumps(other))
    part, whole = str(tmp_path / "part"), str(tmp_path / "whole")
    assert run(["compare", part, part]) == 0
    assert run(["compare", part, whole]) == 5
    assert "only 37 of 3669 are here" in capsys.readouterr().err
    assert run(["check", part, "--baseline", whole]) == 5
