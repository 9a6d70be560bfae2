"""The page about studies: its file is a study, its commands exist, its Python runs."""

import re
import shlex
from pathlib import Path

import pytest

from robustmix.cli.app import app
from robustmix.studies.grid import study_runs
from robustmix.studies.study import study_of
from robustmix.toml_files import parse_toml

PAGE = Path(__file__).parents[2] / "docs" / "studies.md"


def blocks(language: str) -> list[str]:
    if not PAGE.exists():
        pytest.skip("the docs are not beside the tests")
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_file_is_a_study() -> None:
    (text,) = blocks("toml")
    study = study_of(parse_toml(text), "docs", "docs/studies.md")
    runs = study_runs(study)
    assert len(runs) == (5 + 1) * 3
    alphas = [run.labels.get("method.alpha") for run in runs[::3]]
    assert alphas == ["0.2", "0.5", "1", "2", "4", None]


def test_every_command_has_these_options() -> None:
    from typer.main import get_command

    study = get_command(app).commands["study"]  # type: ignore[attr-defined]
    seen = set()
    for block in blocks("bash"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] != ["robustmix", "study"]:
                continue
            command = study.commands[words[2]]
            seen.add(words[2])
            known = {flag for parameter in command.params for flag in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, line
    assert seen == {"list", "show", "run", "status", "table"}


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(code.replace("print(", "str("), str(PAGE), "exec"), names)
    assert len(names["table"].rows) == 5  # type: ignore[attr-defined]
