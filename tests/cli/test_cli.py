import json
import os
from pathlib import Path

import pytest
import torch

import robustmix
from robustmix.cli.app import run
from robustmix.cli.listing import KINDS
from robustmix.errors import UsageError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that was trained for one epoch on 100 digits."""
    out = tmp_path_factory.mktemp("run")
    result = robustmix.train(
        "digits-resnet8-vanilla", out=out, epochs=1, limit_train=100, limit_val=50, progress="none"
    )
    return result.last


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert lines(capsys) == ([f"robustmix {robustmix.__version__}"], [])


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        (["nonsense"], 2, "error[E-USAGE]: No such command 'nonsense'; see robustmix --help"),
        (
            ["eval"],
            2,
            "error[E-USAGE]: expected one model; robustmix eval MODEL --suite",
        ),
        (["eval", "x.pth", "y.pth"], 2, "error[E-USAGE]: expected one model, got x.pth y.pth"),
        (
            ["eval", "x.pth", "--batch-size", "many"],
            2,
            "error[E-USAGE]: expected --batch-size auto",
        ),
        (["eval", "x.pth", "--precision", "fp16"], 2, "error[E-UNKNOWN-PRECISION]: unknown"),
        (
            ["eval", "x.pth", "--precision", "tf32", "--device", "cpu"],
            2,
            "error[E-PRECISION]: --precision tf32 is a way in which NVIDIA's GPUs multiply",
        ),
        (
            ["eval", "x.pth", "--suite", "oclusion"],
            2,
            "error[E-UNKNOWN-SUITE]: unknown suite 'oclusion'; did you mean 'occlusion'?",
        ),
        (
            ["eval", "x.pth", "--suite", "fgsm", "--eps", "8"],
            2,
            "error[E-EPS]: eps is in [0, 1] pixel units, got 8; did you mean 8/255?",
        ),
        (
            ["eval", "x.pth", "--suite", "pgd", "--eps", "a/b"],
            2,
            "error[E-EPS]: cannot read 'a/b' as a length",
        ),
        (
            ["eval", "x.pth", "--severity", "3"],
            2,
            "error[E-UNUSED-OPTION]: --severity is an option of corruption, and none of these is",
        ),
        (
            ["eval", "x.pth", "--suite", "corruption", "--severity", "7"],
            2,
            "error[E-SEVERITY]: severities are 1 to 5",
        ),
        (
            ["eval", "x.pth", "--suite", "corruption", "--corruptions", "pixlate"],
            2,
            "error[E-UNKNOWN-CORRUPTION]: unknown corruption 'pixlate'; did you mean 'pixelate'?",
        ),
        (
            ["eval", "x.pth", "--suite", "occlusion", "--grid", "8"],
            2,
            "error[E-GRID]: cannot read grid '8'",
        ),
        (["eval", "x.pth", "--limit", "-3"], 2, "error[E-USAGE]: cannot read limit '-3'"),
        (["eval", "nowhere.pth"], 3, "error["),
        (["list", "arch"], 2, "error[E-UNKNOWN-LIST]: unknown list 'arch'; did you mean 'archs'?"),
        (["train", "--method", "mixpu"], 2, "error[E-UNKNOWN-METHOD]: unknown method 'mixpu'"),
        (["train", "cifar100-resnet18-mixpu"], 2, "error[E-UNKNOWN-RECIPE]: unknown recipe"),
        (["train", "--set", "epochz=3"], 2, "error[E-UNKNOWN-RECIPE-KEY]: unknown recipe key"),
        (["train", "--arch", "resnet19", "--dataset", "digits"], 2, "error[E-UNKNOWN-ARCH]"),
        (["train", "--dataset", "cifar101"], 2, "error[E-UNKNOWN-DATASET]: unknown dataset"),
        (["report", "show", "nowhere.json"], 3, "error[E-INTAKE]: there is no report at"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_input_is_one_line_and_an_exit_code(
    command: list[str],
    code: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command) == code
    out, err = lines(capsys)
    assert out == []
    assert len(err) == 1
    assert err[0].startswith(line), err[0]
    assert list(tmp_path.iterdir()) == []


def test_missing_data_names_path_and_remedy(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = run(
        [
            "train",
            "--dataset",
            "cifar100",
            "--data-dir",
            str(tmp_path),
            "--out",
            str(tmp_path / "o"),
        ]
    )
    assert code == 3
    (line,) = lines(capsys)[1]
    assert line.startswith("error[E-DATA]: ")
    assert str(tmp_path / "cifar-100-python") in line
    assert "16019d7e3df5f24257cddd939b257f8d" in line or "eb9058c3a382ffc7106e4002c42a8d85" in line


@pytest.mark.parametrize("kind", KINDS)
def test_lists_print_tables_of_100_columns(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", kind]) == 0
    out, err = lines(capsys)
    assert err == []
    assert len(out) > 3
    assert max(map(len, out)) <= 100


def test_train_prints_the_checkpoint_and_continues(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    command = [
        "train", "digits-resnet8-cutmix", "--epochs", "1", "--limit-train", "64", "--set",
        "limit_val=20", "--out", str(tmp_path), "--progress", "none",
    ]  # fmt: skip
    assert run(command) == 0
    out, _ = lines(capsys)
    assert out == [str(tmp_path / "checkpoints" / "last.pth")]
    written = (tmp_path / "checkpoints" / "last.pth").stat().st_mtime_ns
    assert run(command) == 0
    assert (tmp_path / "checkpoints" / "last.pth").stat().st_mtime_ns == written
    assert run([*command[:3], "2", *command[4:]]) == 5
    assert "epochs is 1 there, 2 here" in capsys.readouterr().err


def test_eval_show_and_validate(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    out = tmp_path / "report"
    command = [
        "eval", str(checkpoint), "--suite", "clean,fgsm", "--suite", "occlusion", "--limit", "24",
        "--trials", "1", "--eps", "4/255", "--out", str(out), "--progress", "none",
    ]  # fmt: skip
    assert run(command) == 0
    printed, talk = lines(capsys)
    assert printed == [str(out / "report.json")]
    assert any("top1" in line for line in talk)
    report = robustmix.Report.load(out)
    assert list(report.content.suites) == ["clean", "fgsm", "masking", "occlusion"]
    assert report.content.dataset.name == "digits"
    assert report.content.protocol.params["fgsm"]["eps"] == "4/255"

    assert run(command) == 2
    assert "--force" in capsys.readouterr().err

    assert str(tmp_path) not in (out / "report.json").read_text()
    assert report.content.run.argv[:4] == ["eval", "last.pth", "--suite", "clean,fgsm"]

    assert run(["report", "show", str(out)]) == 0
    assert any("robust_acc" in line for line in lines(capsys)[0])
    assert run(["report", "validate", str(out)]) == 0
    assert "every number is what its rows give" in lines(capsys)[0][0]

    value = json.loads((out / "report.json").read_text())
    value["suites"]["clean"]["metrics"]["top1"]["value"] += 0.01
    (out / "report.json").write_text(json.dumps(value))
    assert run(["report", "validate", str(out)]) == 3
    assert "clean.metrics.top1.value" in capsys.readouterr().err


def test_json_is_the_whole_of_stdout(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    command = ["eval", str(checkpoint), "--suite", "clean", "--limit", "8", "--json"]
    assert run([*command, "--out", str(tmp_path / "o"), "--progress", "plain"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "robustmix.report"


def test_a_checkpoint_chosen_on_the_test_images_is_warned_of(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    for name, warned in (("best.pth", True), ("last.pth", False)):
        out = tmp_path / name
        command = ["eval", str(checkpoint.with_name(name)), "--suite", "clean", "--limit", "8"]
        assert run([*command, "--out", str(out)]) == 0
        assert ("warning[W-SELECTED-ON-TEST]" in capsys.readouterr().err) == warned


def test_report_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "ReportModel"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_exit_4(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    tmp_path.chmod(0o500)
    code = run(["eval", str(checkpoint), "--limit", "8", "--out", str(tmp_path / "o")])
    tmp_path.chmod(0o700)
    assert code == 4
    assert "error[E-WRITE]" in capsys.readouterr().err


def test_an_out_that_is_a_file_is_exit_4(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, checkpoint: Path
) -> None:
    (tmp_path / "o").write_text("mine")
    code = run(["eval", str(checkpoint), "--limit", "8", "--out", str(tmp_path / "o")])
    assert code == 4
    assert "error[E-WRITE]" in capsys.readouterr().err
    assert (tmp_path / "o").read_text() == "mine"


def test_a_hostile_checkpoint_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    torch.save({"model": Bomb()}, tmp_path / "bomb.pth")
    assert run(["eval", str(tmp_path / "bomb.pth"), "--out", str(tmp_path / "o")]) == 3
    assert len(lines(capsys)[1]) == 1
    assert not (tmp_path / "exploded").exists()


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(UsageError):
        run(["--debug", "list", "arch"])
