"""The GitHub action: its shell runs here, with stand-ins for what only GitHub has."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustmix.comparison.markdown import CHECK_MARKER
from robustmix.comparison.rules import rules_from
from tests.comparison.reports import base, damaged, saved

ROOT = Path(__file__).parents[1]
ACTION, GUIDE = ROOT / "action.yml", ROOT / "docs" / "ci.md"


@pytest.fixture(scope="module")
def action() -> dict[str, Any]:
    if not ACTION.exists():
        pytest.skip("the action is not beside the tests")
    return yaml.safe_load(ACTION.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def step(action: dict[str, Any], name: str) -> dict[str, Any]:
    return next(s for s in action["runs"]["steps"] if s.get("name") == name)


def test_no_input_is_pasted_into_a_script(action: dict[str, Any]) -> None:
    """Inputs may be a stranger's words: they reach the shell as variables only."""
    scripts = [s for s in action["runs"]["steps"] if "run" in s]
    assert len(scripts) == 4
    for found in scripts:
        assert "${{" not in found["run"]
        assert found["shell"] == "bash"
        subprocess.run(["bash", "-n"], input=found["run"], text=True, check=True)


def test_every_input_is_used_and_described(action: dict[str, Any]) -> None:
    text = ACTION.read_text(encoding="utf-8")
    for name, given in action["inputs"].items():
        assert given["description"].endswith(".")
        assert f"inputs.{name} " in text
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == set(action["inputs"])


@pytest.mark.parametrize(("side", "code", "verdict"), [("good", 0, "pass"), ("bad", 1, "fail")])
def test_the_check_step(
    action: dict[str, Any], tmp_path: Path, side: str, code: int, verdict: str
) -> None:
    saved(base(), tmp_path / "baseline")
    saved(base() if side == "good" else damaged(), tmp_path / "out dir")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "robustmix").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m robustmix "$@"\n')
    (tools / "robustmix").chmod(0o755)
    output, summary = tmp_path / "output", tmp_path / "summary"
    environment = os.environ | {
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "BASELINE": "baseline",
        "RULES": "",
        "STRICT": "false",
        "OUT": "out dir",
        "GITHUB_OUTPUT": str(output),
        "GITHUB_STEP_SUMMARY": str(summary),
    }
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step(action, "Check")["run"]],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert output.read_text() == f"verdict={verdict}\n"
    assert summary.read_text(encoding="utf-8").startswith(CHECK_MARKER)
    assert ("::error title=robustmix clean::" in done.stdout) == (side == "bad")
    assert {"junit.xml", "comment.md", "check.json"} <= {
        path.name for path in (tmp_path / "out dir").iterdir()
    }


def test_the_comment_is_found_by_the_marker(action: dict[str, Any]) -> None:
    assert f'startswith("{CHECK_MARKER}")' in step(action, "Comment")["run"]


def blocks(language: str) -> list[str]:
    if not GUIDE.exists():
        pytest.skip("the guide is not beside the tests")
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_rules_and_workflows_of_the_guide_are_read(action: dict[str, Any]) -> None:
    (rules,) = blocks("toml")
    assert len(rules_from(tomllib.loads(rules)).rules) == 4
    github, gitlab = (yaml.safe_load(block) for block in blocks("yaml"))
    used = github["jobs"]["check"]["steps"][1]["with"]
    assert set(used) <= set(action["inputs"])
    assert gitlab["robustness"]["artifacts"]["reports"]["junit"] == "report/junit.xml"


def test_the_commands_of_the_guide_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shlex

    from robustmix.cli.app import run

    monkeypatch.chdir(tmp_path)
    saved(base(), tmp_path / "report")
    ran = []
    for block in blocks("sh"):
        for line in block.strip().splitlines():
            program, *arguments = shlex.split(line)
            assert program == "robustmix"
            if arguments[0] == "eval":
                continue
            if any("fog" in argument for argument in arguments):
                arguments = [a.replace("fog/3", "brightness/4") for a in arguments]
            assert run(arguments) == 0, line
            ran.append(arguments[0])
    assert ran == ["check", "check", "compare", "compare", "compare"]
    shutil.rmtree(tmp_path / "ci")
