"""What torchrun starts: processes that know of each other, and an evaluation they share."""

from pathlib import Path

import pytest
import torch

import robustmix
from robustmix.cli.app import run
from robustmix.environment import choose_device
from robustmix.errors import UsageError
from robustmix.launch import Launch, launched
from robustmix.report.report import Report
from tests.launch import torchrun
from tests.shards.test_shards import assert_same

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8"}


def test_the_environment_of_torchrun_is_read_and_no_other() -> None:
    assert launched(TORCHRUN) == Launch(5, 1, 8)
    assert launched({}) == Launch(0, 0, 1)
    assert not launched({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}).together
    other = {key: value for key, value in TORCHRUN.items() if key != "TORCHELASTIC_RUN_ID"}
    assert launched(other) == Launch()


@pytest.mark.parametrize(
    "wrong",
    [{"RANK": "8"}, {"RANK": "-1"}, {"RANK": "x"}, {"LOCAL_RANK": "-1"}, {"WORLD_SIZE": ""}],
)
def test_an_environment_that_contradicts_itself_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        launched({**TORCHRUN, **wrong})
    assert caught.value.code == "E-LAUNCH"


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_takes_a_card_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in TORCHRUN.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device(name) == torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="process 2 on this machine has no card of its own"):
        choose_device(name)


def test_processes_of_torchrun_share_an_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robustmix.train(
        "digits-resnet8-vanilla", out=tmp_path / "run", epochs=1, limit_train=64, progress="none"
    )
    checkpoint = str(tmp_path / "run" / "checkpoints" / "last.pth")
    asked = ["eval", checkpoint, "--suite", "fgsm", "--masking", "off", "--limit", "21"]
    logged = ["--logger", "csv", "--out", str(tmp_path / "both")]
    both = torchrun(["-m", "robustmix", *asked, *logged], processes=2)
    assert both.returncode == 0, both.stderr
    assert both.stdout.split() == [str(tmp_path / "both" / "report.json")]
    whole = robustmix.evaluate(checkpoint, None, "fgsm", masking="off", limit=21)
    merged = Report.load(tmp_path / "both")
    merged.content.artifacts = []
    assert_same(merged, whole)
    (table,) = tmp_path.rglob("suites.csv")  # of the whole, not of the shards
    assert f"clean,top1,{whole['clean.top1'].value!r}\n" in table.read_text()
    for key, value in {**TORCHRUN, "RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(key, value)
    assert run([*asked, "--out", str(tmp_path / "both")]) == 2
    assert "already holds a report" in capsys.readouterr().err
    assert run(asked) == 2
    assert "name it with --out" in capsys.readouterr().err


def test_processes_that_torchrun_did_not_start_do_not_each_evaluate_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    asked = ["eval", str(tmp_path / "none.pth"), "--suite", "clean"]
    assert run(asked) == 2
    assert "take a share with --shard auto" in capsys.readouterr().err
    assert run([*asked, "--shard", "1/4"]) == 3  # goes on, and misses the checkpoint
