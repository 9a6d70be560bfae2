"""The README is a promise: its Python runs, and its commands run as written."""

import re
import shlex
from pathlib import Path

import pytest

from robustmix.cli.app import run

README = Path(__file__).parents[1] / "README.md"
NOT_HERE = ("python -m pip", "robustmix demo")  # run by the continuous integration itself


def blocks(language: str) -> list[str]:
    if not README.exists():
        pytest.skip("the README is not beside the tests")
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = blocks("python")
    assert len(found) == 2
    for block in found:
        exec(compile(block.replace("print(", "str("), str(README), "exec"), names)
    assert {"report", "noisy", "attacked"} <= set(names)


@pytest.mark.slow
def test_commands_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    ours = [line for line in commands if not line.startswith(NOT_HERE)]
    assert len(ours) >= 6
    for line in ours:
        program, *arguments = shlex.split(line)
        assert program == "robustmix"
        assert run(arguments) == 0, line


def test_every_listed_kind_exists(capsys: pytest.CaptureFixture[str]) -> None:
    (kinds,) = re.findall(r"`robustmix list ([a-z|]+)`", README.read_text(encoding="utf-8"))
    for kind in kinds.split("|"):
        assert run(["list", kind]) == 0
    assert capsys.readouterr().err == ""
