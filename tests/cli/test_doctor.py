import json
from pathlib import Path

import pytest

import robustmix
from robustmix.cli.app import run
from robustmix.data.manifests import DATASETS
from robustmix.doctor import CHECKS, metric_checks


@pytest.fixture(autouse=True)
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustmix.doctor.machine.PROBE_ARCH", "resnet8")
    monkeypatch.setattr("robustmix.doctor.machine.probe_speed.__kwdefaults__", {"seconds": 0.01})


def test_one_line_a_check_then_the_machine(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["doctor", "--data-dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert [line.partition(":")[0] for line in lines[: len(CHECKS)]] == [f"ok {n}" for n in CHECKS]
    about = lines[len(CHECKS) :]
    assert about[0].startswith(f"robustmix {robustmix.__version__}, Python 3.")
    assert about[1].startswith("packages: torch ")
    assert about[2].startswith("device: ")
    assert about[2].endswith(" threads")
    others = len(DATASETS) - 1
    assert about[3] == (
        f"data: digits embedded; {others} others are not here (robustmix data list)"
    )
    assert about[4].startswith("speed: resnet8 at 32x32, ")
    assert about[5] == f"{len(CHECKS)} of {len(CHECKS)} self-tests passed"


def test_a_broken_stack_is_exit_4(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metric_checks, "wilson", lambda right, n: (0.0, 1.0))
    assert run(["doctor", "--check", "intervals", "--check", "uint8_wrap"]) == 4
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "FAILED intervals: the interval of 80/100 is 0, 1, expected 0.711171"
    )
    assert lines[1].startswith("ok uint8_wrap: ")
    assert lines[-1] == "1 of 2 self-tests passed"


def test_json_is_the_whole_of_stdout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["doctor", "--json", "--check", "intervals,paper_ece"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["kind"] == "robustmix.doctor"
    assert [check["name"] for check in result["checks"]] == ["intervals", "paper_ece"]
    assert result["checks"][1]["traps"] == [9]
    monkeypatch.setattr(metric_checks, "wilson", lambda right, n: (0.0, 1.0))
    assert run(["doctor", "--json", "--check", "intervals"]) == 4
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_unknown_checks_and_devices_are_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--check", "intervalls"]) == 2
    assert "did you mean 'intervals'?" in capsys.readouterr().err
    assert run(["doctor", "--device", "abacus"]) == 2
    assert capsys.readouterr().err.startswith("error[E-DEVICE]: ")
