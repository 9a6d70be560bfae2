"""``robustmix study``: what is typed is what runs, and what is there is what is shown."""

import json
from pathlib import Path
from typing import Any

import pytest

from robustmix.cli.app import run
from robustmix.studies.grid import study_runs
from robustmix.studies.results import RunResult
from robustmix.studies.run_reports import Value
from robustmix.studies.run_state import LOGS, Failure, evaluation_folder, write_failure
from robustmix.studies.study import Study, packaged_studies, read_study
from robustmix.studies.study_results import _with_numbers_of_parts
from robustmix.training.recipe_dict import write_recipe

SMALL = """
title = "Two methods"
seeds = [0, 1]
statistic = "last"
evaluate = { suite = "clean", limit = 20 }
grid = { dataset = "digits", arch = "resnet8", method = ["vanilla", "mixup"], epochs = 2 }
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def ran(*words: str) -> int:
    return run(["study", *words])


def refused(capsys: pytest.CaptureFixture[str], code: int, said: str, *words: str) -> None:
    assert ran(*words) == code
    error = capsys.readouterr().err
    assert said in error, error


def finished(study: Study, folder: Path) -> None:
    """Make the runs of a study as if they had been made, with accuracies that tell them apart."""
    for place, one in enumerate(study_runs(study)):
        run_folder = folder / one.name
        write_recipe(run_folder / "recipe.toml", one.recipe)
        (run_folder / "checkpoints").mkdir()
        (run_folder / "checkpoints" / "last.pth").touch()
        line = {"epoch": 2, "top1": 0.5 + place / 100, "selected_on": "test"}
        (run_folder / "metrics.jsonl").write_text(
            json.dumps({**line, "epoch": 1}) + "\n" + json.dumps(line) + "\n"
        )


def test_list_tells_what_every_study_costs(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("list", "--json") == 0
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(found) == list(packaged_studies())
    quick = found["quick"]
    assert (quick["runs"], quick["data"], quick["missing"]) == (10, ["digits"], [])
    assert quick["steps"] == 10 * 3 * 41
    assert quick["passes"] == 1297 * 3 * 2 * (3 * 3 + 9 + 12)
    assert ran("list") == 0
    shown = capsys.readouterr().out
    assert "quick" in shown
    assert max(map(len, shown.splitlines())) <= 100


def test_show_tells_recipes_and_what_was_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("show", "quick") == 0
    shown = capsys.readouterr().out
    assert "digits-resnet8-mixup, epochs=3" in " ".join(shown.split())
    assert "clean.top1: last of the epochs; seeds 0, 1" in shown
    assert ran("show", "quick", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["study"]["grid"][0]["epochs"] == [3]
    assert {one["seed"] for one in told["of_runs"]} == {0, 1}


def test_show_tells_printed_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'published = "poster-t3"\n'
        'grid = { dataset = "cifar100", arch = "resnet18", method = "adautomix", epochs = 200 }'
    )
    assert ran("show", str(path)) == 0
    assert "top1 81.55" in capsys.readouterr().out


def test_dry_run_writes_nothing(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--set", "epochs=1", "--limit-train", "64", "--limit", "10", "--only", "method=mixup"]
    assert ran("run", str(small), "--out", str(out), "--dry-run", *words) == 0
    shown = capsys.readouterr().out
    assert "2 runs for 2 cells and seeds; 4 steps, 384 passes" in shown
    assert "epochs 1 instead of 2; limit_train 64; evaluated on 10 images" in shown
    assert not out.exists()


def test_a_run_with_everything_there_makes_nothing_and_ends_well(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, out = read_study(small), tmp_path / "out"
    finished(study, out / "runs")
    for one in study_runs(study):
        assert study.evaluate is not None
        folder = evaluation_folder(out / "runs" / one.name, study.evaluate)
        folder.mkdir(parents=True)
        (folder / "report.json").write_text('{"run": {"status": "success"}}')
    assert ran("run", str(small), "--out", str(out)) == 0
    told = capsys.readouterr()
    assert told.out.strip() == str(out)
    assert told.err.count("done") == 8
    assert "4 of 4 done" in told.err
    assert read_study(out / "study.toml").seeds == (0, 1)


def test_a_folder_keeps_its_study(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "out", SMALL.replace('evaluate = { suite = "clean", limit = 20 }', "")
    small.write_text(text)
    finished(read_study(small), out / "runs")
    assert ran("run", str(small), "--out", str(out)) == 0
    small.write_text(text.replace('"last"', '"best-last10"'))
    refused(
        capsys,
        5,
        "holds another study: its statistic is last, here it is best-last10",
        *("run", str(small), "--out", str(out)),
    )
    small.write_text(text)
    finished(read_study(small).model_copy(update={"seeds": (7,)}), out / "runs")
    assert ran("run", str(small), "--out", str(out), "--seeds", "7") == 0
    assert read_study(out / "study.toml").seeds == (0, 1, 7)
    assert ran("run", "--out", str(out)) == 0  # what is there, without its name
    assert "6 of 6 done" in capsys.readouterr().err


def test_status_and_table_tell_what_is_there(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SMALL.replace('evaluate = { suite = "clean", limit = 20 }', "")
    small.write_text(text)
    study, out = read_study(small), tmp_path / "out"
    finished(study, out / "runs")
    assert ran("run", str(small), "--out", str(out)) == 0
    last = out / "runs" / study_runs(study)[-1].name
    (last / "checkpoints" / "last.pth").unlink()
    (last / LOGS).mkdir(exist_ok=True)
    error = "error[E-DATA]: nothing is there"
    write_failure(last, Failure(command="train", exit_code=3, error=error))
    capsys.readouterr()
    assert ran("status", str(out), "--json") == 0
    states = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in states] == ["done", "done", "done", "failed"]
    assert states[3]["error"] == error
    assert ran("status", str(out)) == 0
    shown = capsys.readouterr().out
    assert "3 done, 1 failed" in shown
    assert error in shown
    assert ran("status", str(out), "--watch") == 0  # all have ended

    (last / "metrics.jsonl").unlink()
    assert ran("table", str(out), "--format", "csv") == 0
    assert ran("table", str(out), "--format", "json") == 0
    told = capsys.readouterr().out
    made = json.loads(told[told.index("{") :])
    vanilla, mixed = made["rows"]
    assert vanilla["cells"][0]["mean"] == pytest.approx(0.505)
    assert mixed["cells"][0]["mean"] == pytest.approx(0.52)
    assert mixed["cells"][0]["n"] == 1
    assert error in json.dumps(mixed)


def test_runs_can_be_shared_between_studies(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "shared"
    small.write_text(SMALL.replace('evaluate = { suite = "clean", limit = 20 }', ""))
    finished(read_study(small), shared)
    for name in ("one", "two"):
        words = ("--out", str(tmp_path / name), "--runs", str(shared))
        assert ran("run", str(small), *words) == 0
        assert "4 of 4 done" in capsys.readouterr().err
    assert ran("table", str(tmp_path / "two"), "--format", "json") == 0
    cells = [row["cells"][0] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert [cell["n"] for cell in cells] == [2, 2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["run", "qick"], "did you mean 'quick'"),
        (["run"], "expected a study"),
        (["run", "quick", "--jobs", "0"], "--jobs 0: expected a number from 1"),
        (["run", "quick", "--jobs", "2", "--gpus", "all"], "--jobs and --gpus"),
        (["run", "quick", "--gpus", "all", "--device", "cpu"], "contradict"),
        (["run", "quick", "--launcher", "slurn"], "did you mean 'slurm'"),
        (["run", "quick", "--slurm", "time=5"], "no effect without --launcher slurm"),
        (["run", "quick", "--launcher", "slurm", "--gpus", "all"], "ask Slurm for them"),
        (["run", "quick", "--launcher", "slurm", "--slurm", "time=x"], "no time limit"),
        (["run", "quick", "--launcher", "slurm", "--slurm", "gpus=0"], "a number from 1"),
        (["run", "quick", "--launcher", "slurm", "--slurm", "gpus"], "cannot read 'gpus'"),
        (["run", "quick", "--launcher", "slurm", "--slurm", "array=1-3"], "sets itself"),
        (["run", "quick", "--seeds", "1,1"], "--seeds 1,1 names a seed twice"),
        (["run", "quick", "--only", "method=mxup"], "did you mean 'mixup'"),
        (["run", "quick", "--set", "epoks=2"], "did you mean 'epochs'"),
        (["run", "quick", "--set", "epochs=0"], "epochs"),
        (["run", "quick", "--limit", "0"], "cannot read limit"),
        (["status", ".", "--watch", "--json"], "two ways"),
        (["table", "--format", "xml", "."], "format"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBUSTMIX_RUNS", raising=False)
    refused(capsys, 2, said, *words)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_study_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("status", "table"):
        refused(capsys, 3, "holds no study", command, str(tmp_path))
    refused(capsys, 3, "holds no study", "run", "--out", str(tmp_path))
    (tmp_path / "study.toml").write_text("title = 'no grid'")
    refused(capsys, 2, "grid is missing", "table", str(tmp_path))


def test_data_that_are_not_here_leave_a_cell_empty_and_the_others_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROBUSTMIX_DATA", str(tmp_path / "none"))
    path, out = tmp_path / "two.toml", tmp_path / "out"
    path.write_text(
        'grid = { dataset = ["digits", "cifar100"], arch = "resnet8", method = "mixup", '
        'epochs = 2 }\ntable = { rows = "method", across = "dataset" }'
    )
    study = read_study(path)
    digits = study.model_copy(update={"grid": ({**study.grid[0], "dataset": ("digits",)},)})
    finished(digits, out / "runs")
    assert ran("run", str(path), "--out", str(out)) == 4
    told = capsys.readouterr()
    assert "error[E-DATA]: cifar100 is not in" in told.err
    assert ran("table", str(out), "--format", "json") == 0
    cells = json.loads(capsys.readouterr().out)["rows"][0]["cells"]
    assert [cell["mean"] for cell in cells] == [0.5, None]
    assert "cifar100 is not in" in json.dumps(cells[1])


def test_a_reduced_study_shows_the_numbers_of_parts() -> None:
    part = Value(value=0.25, unit="fraction", direction="higher")
    whole = Value(value=0.5, unit="fraction", direction="higher")
    found = RunResult(
        labels={}, values={"corruption.acc_mean_all19_subset": part, "fgsm.robust_acc": whole}
    )
    columns = ("corruption.acc_mean_all19", "fgsm.robust_acc", "occlusion.auc")
    shown = _with_numbers_of_parts(found, columns)
    assert [shown.find(column) for column in columns] == [part, whole, None]
