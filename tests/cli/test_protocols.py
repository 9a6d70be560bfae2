"""``robustmix eval --protocol`` and ``--dry-run``, in process."""

import json
from pathlib import Path

import pytest
import torch

from robustmix.cli.app import run
from robustmix.models.registry import build_model
from robustmix.report import Report


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "net.pth"
    torch.save(build_model("resnet8", num_classes=10, input_size=(3, 32, 32)).state_dict(), path)
    return [
        "eval", str(path), "--arch", "resnet8", "--num-classes", "10", "--dataset", "digits",
        "--mean", "0.5,0.5,0.5", "--std", "0.2,0.2,0.2", "--limit", "24", "--progress", "none",
    ]  # fmt: skip


def test_protocols_side_by_side(network: list[str], tmp_path: Path) -> None:
    protocols = ["--protocol", "standard,paper-adautomix", "--protocol", "openmixup-2025"]
    chosen = ["--suite", "calibration,fgsm", "--masking", "off"]
    assert run([*network, *protocols, *chosen, "--out", str(tmp_path)]) == 0
    report = Report.load(tmp_path)
    assert report.content.protocol.presets == ["standard", "paper-adautomix", "openmixup-2025"]
    assert list(report.content.ordered_suites()) == [
        "clean", "calibration", "calibration@paper-adautomix", "fgsm", "fgsm@paper-adautomix",
    ]  # fmt: skip
    assert report.content.protocol.nonstandard_suites == [
        "calibration@paper-adautomix", "fgsm@paper-adautomix",
    ]  # fmt: skip
    assert run(["report", "validate", str(tmp_path)]) == 0


def test_options_change_a_protocol(network: list[str], tmp_path: Path) -> None:
    chosen = ["--protocol", "quick", "--suite", "corruption,pgd"]
    changed = ["--eps", "2/255", "--steps", "3", "--corruptions", "fog"]
    assert run([*network, *chosen, *changed, "--out", str(tmp_path)]) == 0
    params = Report.load(tmp_path).content.protocol.params
    assert params["pgd"]["eps"] == "2/255"
    assert params["pgd"]["steps"] == 3
    assert params["corruption"]["corruptions"] == ["fog"]
    assert params["corruption"]["severities"] == [1, 3, 5]  # as the protocol has it
    assert "masking" not in params


def test_suites_that_no_protocol_has_are_added(
    network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--protocol", "standard", "--suite", "fgsm,shuffle", "--masking", "off", "--dry-run"]
    assert run([*network, *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [suite["key"] for suite in found["suites"]] == ["clean", "fgsm", "shuffle"]


def test_a_dry_run_says_what_would_be_run_and_runs_nothing(
    network: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--suite", "corruption,fgsm", "--masking", "off", "--corruptions", "fog,snow"]
    out = ["--out", str(tmp_path / "out"), "--dry-run"]
    assert run([*network, *asked, *out]) == 0
    shown = capsys.readouterr().out
    assert all(len(line) <= 100 for line in shown.splitlines())
    rows = {line.split()[0]: line.split()[1:5] for line in shown.splitlines() if line.strip()}
    assert rows["corruption"] == ["10", "24", "240", "0"]
    assert rows["fgsm"] == ["10", "24", "240", "24"]
    assert "data: digits (test), 24 of 500 images" in shown
    assert "corruption: generated images" in shown
    assert not (tmp_path / "out").exists()
    assert run([*network, *asked, *out, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [suite["key"] for suite in found["suites"]] == ["clean", "corruption", "fgsm"]
    assert found["suites"][1]["forwards"] == 240
    assert found["seconds"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "standrd"], "error[E-UNKNOWN-PROTOCOL]"),
        (["--protocol", "robustbench", "--suite", "fgsm"], "error[E-PROTOCOL]"),
        (["--protocol", "quick,quick"], "error[E-PROTOCOL]"),
        (["--protocol", "naseer-patchdrop"], "error[E-GRID]"),
        (["--protocol", "quick", "--severity", "7"], "error[E-SEVERITY]"),
    ],
)
def test_what_cannot_be_meant(
    arguments: list[str],
    said: str,
    network: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run([*network, *arguments, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(said), line
    assert not (tmp_path / "out").exists()


def test_protocols_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "protocols"]) == 0
    assert "paper-adautomix" in capsys.readouterr().out
