"""The README is a promise: its Python runs, its commands run as written, and do what they say."""

import csv
import json
import math
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from robustmix import Report
from robustmix.cli.app import run
from robustmix.errors import EXIT_CODES
from robustmix.evaluation.recompute import recompute
from robustmix.models.checkpoint import read_checkpoint
from robustmix.training.recipe_dict import recipe_from_dict, recipe_to_dict

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
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


class Command(NamedTuple):
    """A command line of the README."""

    words: tuple[str, ...]
    """What is not an option: the command, then what it works on."""

    options: Mapping[str, list[str]]
    """Option -> the values given to it; none for a switch."""

    def value(self, option: str) -> str | None:
        return next(iter(self.options.get(option, [])), None)


def parsed(arguments: list[str]) -> Command:
    words: list[str] = []
    options: dict[str, list[str]] = {}
    option: str | None = None
    for argument in arguments:
        if argument.startswith("--"):
            option, equals, value = argument.partition("=")
            options.setdefault(option, []).extend([value] if equals else [])
            option = None if equals else option
        elif option is not None:
            options[option].append(argument)
            option = None
        else:
            words.append(argument)
    return Command(tuple(words), options)


def typed(text: str) -> Any:
    """Return what an option's text means in TOML, else the text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, item in value.items():
        found |= flat(item, f"{prefix}.{key}" if prefix else key)
    return found


NOT_IN_A_RECIPE = {
    "--out", "--data-dir", "--device", "--resume", "--force", "--picture-every", "--progress",
    "--allow-download", "--import",
}  # fmt: skip
"""Options of train that decide how a run is made, not what it is."""

KEYS = {"--method": "method.name"}


def check_train(command: Command, printed: str) -> None:
    out = Path(command.value("--out") or "")
    recipes = sorted(out.rglob("recipe.toml"))
    assert recipes
    values = [flat(tomllib.loads(path.read_text(encoding="utf-8"))) for path in recipes]
    for option, given in command.options.items():
        pairs = [(KEYS.get(option, option[2:].replace("-", "_")), text) for text in given]
        if option == "--set":
            pairs = [(text.partition("=")[0], text.partition("=")[2]) for text in given]
        if option in NOT_IN_A_RECIPE:
            pairs = []
        for key, text in pairs:
            found = {str(value[key]) for value in values}  # several runs differ in the seed alone
            parts = text.split(",") if len(recipes) > 1 and "," in text else [text]
            assert found == {str(typed(part)) for part in parts}, key
    for path, value in zip(recipes, values, strict=True):
        check_run(path.parent, value)
    assert printed.split() == [str(path.parent / "checkpoints" / "last.pth") for path in recipes]


def check_run(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Look at the folder of a run: every epoch is logged, and the checkpoints are of this run."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["epoch"] for record in records] == list(range(1, recipe["epochs"] + 1))
    assert all(math.isfinite(record["train_loss"]) for record in records)
    written = recipe_from_dict(tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8")))
    for name in ("last", "best"):
        checkpoint = read_checkpoint(folder / "checkpoints" / f"{name}.pth")
        assert flat(checkpoint.recipe) == flat(recipe_to_dict(written)), name
        assert checkpoint.metrics["top1"] == records[checkpoint.epoch - 1]["top1"]
    assert read_checkpoint(folder / "checkpoints" / "last.pth").epoch == recipe["epochs"]


OF_NO_SUITE = {
    "--out", "--data-dir", "--device", "--resume", "--force", "--progress", "--suite", "--protocol",
    "--limit", "--batch-size", "--dataset", "--json", "--keep-going", "--name", "--seed",
}  # fmt: skip
"""Options of eval that are not the parameter of a suite."""


def check_eval(command: Command, printed: str) -> None:
    out = Path(command.value("--out") or "")
    report = Report.load(out)
    assert recompute(report) == []
    assert report.content.run.status == "success"
    assert printed.strip() == str(out / "report.json")
    asked = {name for text in command.options.get("--suite", []) for name in text.split(",")}
    assert asked <= set(report.content.suites)
    if limit := command.value("--limit"):
        assert report.content.dataset.n == int(limit)
    assert report.content.protocol.presets == command.options.get("--protocol", [])
    params = [part.params for part in report.content.suites.values()]
    for option in command.options.keys() - OF_NO_SUITE:
        key, text = option[2:].replace("-", "_"), command.options[option][0]
        assert any(str(one.get(key)) in (text, str(typed(text))) for one in params), option


def check_calibrate(command: Command, printed: str) -> None:
    before = read_checkpoint(Path(command.words[1]))
    after = read_checkpoint(Path(command.value("--out") or ""))
    assert before.calibration is None
    assert after.calibration is not None
    assert 0.05 <= after.calibration["T"] <= 20
    assert all((after.model[key] == value).all() for key, value in before.model.items())


def check_generate(command: Command, printed: str) -> None:
    out, count = Path(command.value("--out") or ""), int(command.value("--limit") or 0)
    assert np.load(out / "labels.npy", allow_pickle=False).shape == (5 * count,)
    for name in (command.value("--corruptions") or "").split(","):
        assert np.load(out / f"{name}.npy", allow_pickle=False).shape == (5 * count, 32, 32, 3)


def check_doctor(command: Command, printed: str) -> None:
    passed, every = re.findall(r"(\d+) of (\d+) self-tests passed", printed)[0]
    assert passed == every


def check_validate(command: Command, printed: str) -> None:
    assert "every number is what its rows give" in printed


def check_study(command: Command, printed: str) -> None:
    out = Path(command.value("--out") or "")
    assert printed.strip() == str(out)
    wanted = dict(text.split("=") for text in command.options["--only"])["method"].split(",")
    folders = sorted(path.parent for path in out.glob("runs/*/recipe.toml"))
    recipes = [tomllib.loads((one / "recipe.toml").read_text(encoding="utf-8")) for one in folders]
    assert sorted(recipe["method"]["name"] for recipe in recipes) == sorted(wanted)
    for text in command.options["--set"]:
        key, _, value = text.partition("=")
        assert {str(recipe[key]) for recipe in recipes} == {value}
    for folder, recipe in zip(folders, recipes, strict=True):
        assert str(recipe["seed"]) == command.value("--seeds")
        check_run(folder, recipe)
        (path,) = folder.glob("eval/*/report.json")
        report = Report.load(path)
        assert recompute(report) == []
        assert report.content.dataset.n == int(command.value("--limit") or 0)


CHECKS: dict[str, Callable[[Command, str], None]] = {
    "train": check_train,
    "eval": check_eval,
    "calibrate": check_calibrate,
    "corrupt generate": check_generate,
    "doctor": check_doctor,
    "report validate": check_validate,
    "study run": check_study,
}
"""What a command must have done; of the others that something was printed, or written."""


class _Page(HTMLParser):
    """Counts the elements of a page that are still open."""

    VOID = (
        *("meta", "link", "br", "wbr", "img", "input", "hr"),
        *("path", "use", "rect", "line", "circle"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_file(path: Path) -> None:
    """Read a file as what its name says that it is."""
    if path.suffix == ".png":
        with Image.open(path) as picture:
            assert np.asarray(picture.convert("L")).std() > 0
    elif path.suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    elif path.suffix == ".html":
        page = _Page()
        page.feed(path.read_text(encoding="utf-8"))
        assert page.open == []
        assert {"html", "table", "svg"} <= page.seen
    elif path.suffix == ".csv":
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1
    elif path.suffix == ".toml":
        assert tomllib.loads(path.read_text(encoding="utf-8"))
    else:
        assert any(path.iterdir()) if path.is_dir() else path.stat().st_size


def check(command: Command, printed: str) -> None:
    name = next((n for n in CHECKS if command.words[: len(n.split())] == tuple(n.split())), "")
    dry = "--dry-run" in command.options
    if name and not dry:
        CHECKS[name](command, printed)
    out = command.value("--out")
    assert printed.strip() or out
    if out and not dry:
        check_file(Path(out))


@pytest.mark.slow
def test_commands_run_in_order_and_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    ours = [line for line in commands if not line.startswith(NOT_HERE)]
    assert len(ours) >= 6
    for line in ours:
        program, *arguments = shlex.split(line)
        assert program == "robustmix"
        before = set(tmp_path.rglob("*"))
        assert run(arguments) == 0, (line, capsys.readouterr().err)
        command = parsed(arguments)
        check(command, capsys.readouterr().out)
        if "--dry-run" in command.options:
            assert set(tmp_path.rglob("*")) == before, line


def test_every_listed_kind_exists(capsys: pytest.CaptureFixture[str]) -> None:
    (kinds,) = re.findall(r"`robustmix list ([a-z|-]+)`", README.read_text(encoding="utf-8"))
    for kind in kinds.split("|"):
        assert run(["list", kind]) == 0
        said = capsys.readouterr().err
        assert ("robustmix recipes" in said) if kind == "recipes" else not said


@pytest.mark.parametrize("page", ["README.md", "docs/ci.md"])
def test_the_table_of_exit_codes_is_whole(page: str) -> None:
    if not (ROOT / page).exists():
        pytest.skip("the page is not beside the tests")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", (ROOT / page).read_text(encoding="utf-8"), re.M)
    assert [int(code) for code, _ in rows] == list(EXIT_CODES)
    if page == "README.md":
        assert {int(code): text for code, text in rows} == EXIT_CODES


def test_the_readme_is_short_enough_to_be_read() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 200
    links = re.findall(r"\]\(#([a-z-]+)\)", "\n".join(lines))
    heads = [line[3:].lower() for line in lines if line.startswith("## ")]
    anchors = [re.sub(r"[^a-z -]", "", head).replace(" ", "-") for head in heads]
    assert set(links) == {anchor for anchor in anchors if anchor != "licence"}
