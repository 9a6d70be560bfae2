"""The page about logging: its commands and its Python run, in a folder of its own."""

import re
import shlex
from pathlib import Path

import pytest

from robustmix.cli.app import app, run
from robustmix.loggers import LOGGERS, events
from tests.loggers.runs import without

PAGE = Path(__file__).parents[2] / "docs" / "logging.md"


def blocks(language: str) -> list[str]:
    if not PAGE.exists():
        pytest.skip("the docs are not beside the tests")
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def typed(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "robustmix"
    fewer = {"train": ["--limit-train", "64"], "eval": ["--limit", "20"]}
    assert run([*words, *fewer.get(words[0], [])]) == 0, line


def test_every_command_has_these_options() -> None:
    from typer.main import get_command

    known = get_command(app).commands  # type: ignore[attr-defined]
    for line in "".join(blocks("sh")).splitlines():
        program, command, *words = shlex.split(line)
        assert program == "robustmix"
        flags = {flag for parameter in known[command].params for flag in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= flags | {"--import"}, line


@pytest.mark.slow
@without("tensorboard")
def test_the_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = blocks("sh")
    for line in first.splitlines():
        typed(line)
    found = {path.relative_to("runs").as_posix() for path in Path("runs").glob("*/log/*")}
    names = ("csv.json", "scalars.csv", "tensorboard", "tensorboard.json")
    suites = ("csv.json", "suites.csv", "tensorboard", "tensorboard.json")
    assert found == {f"mixup/log/{name}" for name in names} | {
        f"mixup-report/log/{name}" for name in suites
    }
    (plugin,) = (code for code in blocks("python") if code.startswith("# lines.py"))
    Path("lines.py").write_text(plugin)
    with LOGGERS.temporary():
        typed(second)
    assert re.fullmatch(r"lines 2 0\.\d{4}\n", Path("runs/lines/log/lines.txt").read_text())


def test_the_hook_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("python")[0]
    assert code.count("epochs=1, ") == code.count('suites="calibration", ') == 1
    code = code.replace("epochs=1, ", "epochs=1, limit_train=64, ")
    code = code.replace('suites="calibration", ', 'suites="calibration", limit=20, ')
    exec(compile(code, str(PAGE), "exec"), {})
    assert re.fullmatch(r"step 2: \d+\.\d%\ndone\n", capsys.readouterr().out)
    assert Path("runs/hook-report/log/suites.csv").is_file()


def test_the_tables_name_every_logger_and_every_field() -> None:
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else pytest.skip("no docs")
    assert re.findall(r"^\| `([a-z]+)` \|", text, re.MULTILINE) == [
        "csv", "tensorboard", "wandb", "mlflow",
    ]  # fmt: skip
    assert set(LOGGERS) >= {"csv", "tensorboard", "wandb", "mlflow"}
    for kind in (
        events.RunStarted, events.Scalars, events.Pictures, events.SuiteFinished,
        events.RunFinished,
    ):  # fmt: skip
        (row,) = re.findall(rf"^\| `{kind.__name__}` \| (.*) \|$", text, re.MULTILINE)
        fields = re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row))
        assert fields == list(kind.__dataclass_fields__), kind
