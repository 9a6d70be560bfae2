"""Commands that are typed in a folder which has been deleted meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from robustmix.cli.app import WITHOUT_FOLDER, app, run

LINE = (
    "error[E-NO-FOLDER]: the current folder has been deleted; go to one that is there, as with "
    "`cd ~`, and type the command again\n"
)
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in WITHOUT_FOLDER])
def test_every_command_that_may_need_a_folder_says_so(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "x"]) == 3
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", LINE)


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize(
    "words",
    [
        ["version"],
        ["--version"],
        ["list"],
        ["list", "archs"],
        ["--help"],
        ["eval", "--help"],
        ["check", "-h"],
    ],
    ids=" ".join,
)
def test_what_needs_none_works(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words) == 0
    told = capsys.readouterr()
    assert told.out
    assert "error[" not in told.err


def test_a_process_says_it_before_libraries_end_it(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir ../gone && exec "$0" -m robustmix eval x', sys.executable],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", LINE)
