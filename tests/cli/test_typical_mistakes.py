"""Slips of newcomers: one line that says what is wrong and what to type, and nothing is lost.

A row is a slip as it is typed, the exit code and the words of the answer. Options and commands that
an answer names have to exist, and a name that it suggests has to be known.
"""

import json
import os
import pickle
import re
import shlex
import shutil
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from typer.main import get_command

import robustmix
from robustmix import Report
from robustmix.cli.app import app, run
from robustmix.data.datasets import load_dataset
from robustmix.errors import EXIT_CODES, RobustmixError
from robustmix.evaluation.plan import every_option
from robustmix.locks import run_lock
from tests.training.runs import small_train

# What lies in the folder where the slips are made


class Code:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch executed",)


def picture(path: Path, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (40, 36, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def photos(root: Path, classes: str = "abc", splits: tuple[str, ...] = ("train", "test")) -> None:
    for split in splits:
        for name in classes:
            for i in range(2):
                picture(root / split / name / f"{i}.png")


def reports(home: Path, model: Path) -> None:
    """Write a report, and what becomes of reports: cut, forged, of other images, of the future."""
    for name, limit, eps in (("rep", 20, "8/255"), ("rep24", 24, "8/255"), ("rep4", 20, "4/255")):
        options: dict[str, Any] = {"limit": limit, "eps": eps, "masking": "off", "device": "cpu"}
        robustmix.evaluate(model, None, "fgsm", out=home / name, **options)
    text = (home / "rep" / "report.json").read_text(encoding="utf-8")

    def changed(name: str, change: Callable[[dict[str, Any]], str | None]) -> None:
        value = json.loads(text)
        written = change(value)
        shutil.copytree(home / "rep", home / name)
        (home / name / "report.json").write_text(written or json.dumps(value), encoding="utf-8")

    top1: Callable[[Any], Any] = lambda value: value["suites"]["clean"]["metrics"]["top1"]  # noqa: E731
    changed("nan", lambda value: top1(value).update(value=float("nan")))
    changed("forged", lambda value: top1(value).update(value=0.99))
    changed("newer", lambda value: value.update(schema_version="9.0"))
    changed("cut", lambda value: text[:500])
    changed("bare", lambda value: None)
    (home / "bare" / "samples.npz").unlink()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    done = small_train(home / "run", "vanilla", epochs=1)
    shutil.copy(done.last, home / "m.pth")
    reports(home, home / "m.pth")
    whole = (home / "m.pth").read_bytes()
    state = torch.load(home / "m.pth", weights_only=False)["model"]
    torch.save(state, home / "state.pth")
    torch.save({"model": Code()}, home / "code.pth")
    torch.save(nn.Linear(3, 2), home / "module.pth")
    with zipfile.ZipFile(home / "photos.zip", "w") as archive:
        archive.writestr("photos/a/1.png", "x")
    files: dict[str, bytes | str] = {
        "half.pth": whole[: len(whole) // 2],
        "empty.pth": b"",
        "lfs.pth": f"version https://git-lfs.github.com/spec/v1\noid sha256:{'a' * 64}\nsize 9\n",
        "page.pth": "<!DOCTYPE html><html>404 not found</html>",
        "weights.pkl": pickle.dumps({"a": Code()}),
        "recipe.yaml": "dataset: digits\narch: resnet8\n",
        "recipe.toml": 'dataset = "digits"\narch = "resnet8"\nmethod = "mixpu"\n',
        "any.json": '{"accuracy": 0.9}',
        "raises.py": "1 / 0\n",
        "lacks.py": "import not_installed_at_all\n",
        "syntax.py": "def f(:\n",
        "rules.toml": '[[rule]]\nmetric = "clean.top1"\nkind = "non-inferority"\n',
        "study.toml": 'title = "x"\nevalute = {}\n[grid]\ndataset = ["digits"]\n',
        "twice.toml": 'title = "x"\nseeds = [0, 0]\n[grid]\ndataset = ["digits"]\n'
        'arch = ["resnet8"]\nmethod = ["mixup"]\n',
    }
    for name, content in files.items():
        (home / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    photos(home / "photos")
    photos(home / "one", "a")
    photos(home / "broken")
    (home / "broken" / "test" / "a" / "0.png").write_text("no picture")
    for i in range(3):
        picture(home / "flat" / f"{i}.png")
    return home


@pytest.fixture(autouse=True)
def at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in the folder, without data sets; whatever was there has to be there afterwards."""
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    monkeypatch.delenv("ROBUSTMIX_DATA", raising=False)
    monkeypatch.setattr("robustmix.evaluation.forecast.forecast.__kwdefaults__", {"seconds": 0.0})
    before = found(home)
    yield
    assert found(home) == before


def found(home: Path) -> dict[str, tuple[int, int]]:
    others = {".cache", ".config"}  # what libraries keep for themselves at home
    files = [
        path
        for path in sorted(home.rglob("*"))
        if path.is_file() and path.name != ".lock" and not others & set(path.parts)
    ]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


# On the command line


class Slip(NamedTuple):
    line: str
    code: int
    says: str
    """Regular expression, found in the one line on stderr."""


EVAL, TRAIN, CHECK = "eval m.pth", "train digits-resnet8-mixup --out x", "check rep --baseline rep"
SLIPS = [
    # words that are not there
    Slip("evl m.pth", 2, "No such command 'evl'. Did you mean 'eval'"),
    Slip("eval", 2, "expected one model; robustmix eval MODEL --suite"),
    Slip(f"{EVAL} m.pth", 2, "expected one model, got m.pth m.pth"),
    Slip(f"{EVAL} --suit clean", 2, "unknown option '--suit'; did you mean '--suite'"),
    Slip(f"{EVAL} --suites clean", 2, "did you mean '--suite'"),
    Slip(f"{EVAL} --output o", 2, "did you mean '--out'"),
    Slip(f"{EVAL} --format html", 2, "unknown option '--format'; see robustmix eval --help-all"),
    Slip(f"{EVAL} -s clean", 2, "unknown option '-s'; see"),
    Slip(f"{TRAIN} --epoch 3", 2, "unknown option '--epoch'; did you mean '--epochs'"),
    Slip(f"{TRAIN} --workers 4", 2, "unknown option '--workers'; see robustmix train --help"),
    Slip("check rep --fail-if clean.top1<0.9", 2, "unknown option '--fail-if'; see robustmix ch"),
    Slip("check rep --basline rep", 2, "did you mean '--baseline'"),
    Slip("--verison", 2, "did you mean '--version'"),
    Slip("--suite clean eval m.pth", 2, "--suite stands before its command; write robustmix eval"),
    Slip("--eps 8/255 eval m.pth --suite fgsm", 2, "--eps stands before its command"),
    Slip("report --out o.html html rep", 2, "write robustmix report html ... --out"),
    Slip("list suite", 2, "did you mean 'suites'"),
    # suites, protocols and their options
    Slip(f"{EVAL} --suite fgmss", 2, "did you mean 'fgsm'"),
    Slip(f"{EVAL} --suite FGSM", 2, "unknown suite 'FGSM'; did you mean 'fgsm'"),
    Slip(f"{EVAL} --suite fgsm corruption", 2, r"got m.pth corruption; .*--suite fgsm,corruption"),
    Slip(f"{EVAL} --suite fgsm, corruption", 2, r"--suite fgsm,corruption"),
    Slip(f"{EVAL} --suite 'fgsm pgd'", 2, "separate names by commas: fgsm,pgd"),
    Slip(f"{EVAL} --suite 'fgsm;pgd'", 2, "separate names by commas: fgsm,pgd"),
    Slip(f"{EVAL} pgd", 2, "expected one model, got m.pth pgd; robustmix eval MODEL --suite pgd"),
    Slip(f"{EVAL} --suite clean,clean", 2, "suite 'clean' is asked for twice"),
    Slip(f"{EVAL} --protocol standart", 2, "did you mean 'standard'"),
    Slip(f"{EVAL} --suite clean --eps 8/255", 2, "of these is run: clean is; add --suite fgsm"),
    Slip(f"{EVAL} --suite fgsm --eps 8", 2, "in .0, 1. pixel units, got 8; did you mean 8/255"),
    Slip(f"{EVAL} --suite fgsm --eps 0,031", 2, "got 31"),
    Slip(f"{EVAL} --suite fgsm --eps 8:255", 2, "cannot read '8:255' as a length; write 8/255"),
    Slip(f"{EVAL} --suite fgsm --eps", 2, "--eps needs a value; write --eps 8/255"),
    Slip(f"{EVAL} --suite fgsm --epsilon 8/255", 2, "did you mean '--eps'"),
    Slip(f"{EVAL} --suite pgd --norm Linf", 2, "choose linf or l2"),
    Slip(f"{EVAL} --suite corruption --severity 6", 2, "severities are 1 to 5"),
    Slip(f"{EVAL} --suite corruption --corruptions fogg", 2, "did you mean 'fog'"),
    Slip("eval --help fgms", 2, "did you mean 'fgsm'"),
    # numbers and devices
    Slip(f"{EVAL} --batch-size 0", 2, "expected --batch-size from 1"),
    Slip(f"{EVAL} --batch-size -4", 2, "expected --batch-size from 1"),
    Slip(f"{EVAL} --seed abc", 2, "--seed.*see robustmix eval --help"),
    Slip(f"{EVAL} --limit 10%", 2, "write 500 or 0.1"),
    Slip(f"{EVAL} --device gpu", 2, "no device 'gpu' here; use --device auto or cpu"),
    Slip(f"{EVAL} --mean 0.5,0.5,0.5", 2, "--mean and --std go together"),
    Slip(f"{TRAIN} --seed 1.5", 2, "'1.5' is no seed; give 0, or several: 0,1,2"),
    Slip(f"{TRAIN} --epochs three", 2, "--epochs.*integer"),
    # empty words, as unset variables of a shell are
    Slip(f"{EVAL} --suite=", 2, "the value of --suite is empty"),
    Slip(f"{EVAL} --out ''", 2, "the value of --out is empty; .*a variable of the shell"),
    Slip("eval '' --suite clean", 2, "argument 2 is empty"),
    # models
    Slip("eval nope.pth", 3, "no file nope.pth; check the path"),
    Slip("eval '~/nope.pth'", 3, "no file /.*/nope.pth"),
    Slip("eval https://example.org/m.pth", 3, "is an address, .*; download the file"),
    Slip("eval run", 3, "run is not a file; give run/checkpoints/best.pth"),
    Slip("eval rep", 3, "holds a report, which `robustmix report show` reads"),
    Slip("eval rep/report.json", 3, "JSON, not weights; .*`robustmix report show`"),
    Slip("eval empty.pth", 3, "empty.pth is empty; download or save it again"),
    Slip("eval page.pth", 3, "a web page, not weights"),
    Slip("eval lfs.pth", 3, "Git LFS pointer.*git lfs pull"),
    Slip("eval half.pth", 3, "truncated or damaged"),
    Slip("eval photos.zip", 3, "a zip file but no torch archive"),
    Slip("eval code.pth", 3, "tries to run posix.system when loaded; nothing was run"),
    Slip("eval weights.pkl", 3, "E-UNSAFE-PICKLE|E-FORMAT"),
    Slip("eval module.pth", 3, r"save only its state_dict\(\), or pass --trust-checkpoint"),
    Slip("eval state.pth", 3, "look like --arch resnet8-cifar and 10 classes; pass --norm-preset"),
    Slip("eval state.pth --arch resnet18 --norm-preset none", 3, "does not fit the architecture"),
    Slip(f"{EVAL} --num-classes 5", 3, "has 10 classes, expected 5"),
    # data
    Slip(f"{EVAL} --dataset cifar100", 3, "CIFAR-100 is not there: .*ROBUSTMIX_DATA"),
    Slip(f"{EVAL} --dataset digts", 2, "did you mean 'digits'"),
    Slip(f"{EVAL} --dataset photos", 2, "unknown dataset 'photos'; write folder:photos"),
    Slip(f"{EVAL} --dataset folder:photos", 3, "the model has 10 classes, folder:photos has 3"),
    Slip(f"{EVAL} --dataset folder:~/no", 3, "no folder at /.*/no; check the path"),
    Slip(f"{EVAL} --dataset folder:flat", 3, "no class folders, .*put each into a folder named"),
    Slip(f"{EVAL} --dataset folder:one", 3, "has not two class folders"),
    Slip(f"{EVAL} --dataset folder:broken", 3, "cannot decode broken/test/a/0.png: not an image"),
    # recipes and runs
    Slip("train digits-resnet8-mixpu", 2, "did you mean 'digits-resnet8-mixup'"),
    Slip("train mixup", 2, "write --method mixup; `robustmix recipes list --method mixup`"),
    Slip("train run", 2, "a folder is no recipe; its own is run/recipe.toml"),
    Slip("train recipe.yaml", 3, "is not valid TOML.*`robustmix recipes list`"),
    Slip("train m.pth", 3, "cannot read recipe m.pth.*`robustmix recipes list`"),
    Slip("train recipe.toml", 2, "did you mean 'mixup'"),
    Slip(f"{TRAIN} --set alpha=0.4", 2, "unknown recipe key 'alpha'; .* method.alpha"),
    Slip(f"{TRAIN} method.alpha=0.4", 2, "write --set method.alpha=0.4"),
    Slip(f"{TRAIN} --set method.alpah=0.4", 2, "did you mean 'alpha'"),
    Slip("train digits-resnet8-vanilla --out run --epochs 1", 5, "another --out, or .*--resume"),
    Slip(
        "train digits-resnet8-attentivemix --out x",
        2,
        "needs a trained teacher; give its checkpoint as --te",
    ),
    Slip("methods info mixpu", 2, "did you mean 'mixup'"),
    Slip("study run qick --out s", 2, "did you mean 'quick'"),
    Slip("study run study.toml --out s", 2, "unknown study key 'evalute'; did you mean 'evaluate'"),
    Slip("study run twice.toml --out s", 2, "name one twice"),
    Slip("study run quick --out s --only meth=mixup", 2, "did you mean 'method'"),
    # reports
    Slip("report show m.pth", 3, "no report but an archive, .*`robustmix eval`"),
    Slip("report show run", 3, "evaluate first: robustmix eval run/checkpoints/last.pth"),
    Slip("report show any.json", 3, "is not a robustmix report"),
    Slip("report show cut", 3, "is not readable JSON"),
    Slip("report show nan", 3, "NaN is no JSON"),
    Slip("report show newer", 5, "update robustmix"),
    Slip("report show lfs.pth", 3, "Git LFS pointer, not the report.*git lfs pull"),
    Slip("compare rep", 2, "expected two reports or more; robustmix compare A.json B.json"),
    Slip("compare rep rep24", 5, "number of samples: 20 against 24"),
    Slip("compare rep rep4", 5, "protocol of fgsm: eps 8/255 against 4/255"),
    Slip("compare rep rep --metric clean.tpo1", 2, "did you mean clean.top1"),
    Slip("check rep", 2, "nothing to check; give --baseline, --rules or --metric"),
    Slip("check rep rep24", 2, "write --baseline rep24"),
    Slip("check rep --metric 'clean.top1>=99%'", 2, "write 0.99"),
    Slip("check rep --metric 'clean.top1>=99'", 2, "did you mean 0.99"),
    Slip("check rep --metric 'top1>=0.5'", 2, "write suite.metric"),
    Slip("check rep --rules rules.toml", 2, "did you mean 'non-inferiority'"),
    Slip(f"{CHECK} --margin 1", 2, "did you mean 1pp .points. or 1% "),
    Slip("check forged --baseline rep", 3, "the rows give .*, the report states 0.99"),
    Slip("check m.pth --baseline rep", 3, "no report but an archive"),
    # results over what is there
    Slip(f"{EVAL} --suite clean --out rep", 2, "already holds a report; choose another --out"),
    Slip(f"{EVAL} --suite clean --out m.pth", 4, "a file has this name; choose another --out"),
    Slip(f"{EVAL} --suite clean --out m.pth/o", 4, "a file has the name of a folder"),
    Slip("report html rep --out m.pth", 2, "m.pth is there already and is of another kind"),
    Slip("report html rep --out rep/report.json", 2, "is there already and is a report"),
    Slip(f"{CHECK} --json rep/report.json", 2, "is there already and is a report"),
    Slip("table rep --out rep/report.json", 2, "is there already and is a report"),
    Slip("export m.pth --to safetensors --out m.pth", 2, "exists; choose another --out"),
    Slip("recipes copy digits-resnet8-cutmix recipe.toml", 2, "exists; choose another name"),
    Slip("corrupt preview flat/0.png --corruptions fog --out flat/0.png", 2, "the picture itself"),
    # what others made
    Slip("list suites --import raises.py", 3, "raised while it was imported .ZeroDivisionError"),
    Slip("list suites --import lacks.py", 3, "No module named 'not_installed_at_all'"),
    Slip("list suites --import syntax.py", 3, "SyntaxError"),
    Slip("list suites --import nope.py", 2, "no file or module nope.py"),
    Slip("list suites -q -v", 2, "exclude each other"),
]


def test_there_are_enough_and_none_twice() -> None:
    assert len(SLIPS) >= 60
    assert len({slip.line for slip in SLIPS}) == len(SLIPS)


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.line)
def test_a_slip_is_answered_in_one_line(slip: Slip, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(slip.line)
    code = run(words)
    shown = capsys.readouterr()
    assert code == slip.code, shown.err
    assert code in EXIT_CODES
    line = last_line(shown.err)
    assert re.search(slip.says, line), line
    assert line == shown.err.rstrip("\n") or words[0] == "check", shown.err
    message, semicolon, cure = line.partition("; ")
    assert re.match(r"error\[E-[A-Z-]+\]: \S", message)
    assert semicolon or re.search("at least|expected|exclude|got", message), line
    assert_exists(cure, words)
    suggested = re.search(r"unknown (\w+) '([^']+)'; did you mean '([^']+)'\?$", line)
    if suggested and suggested[1] in ("suite", "dataset", "method", "corruption", "list"):
        assert_known(words, suggested[2], suggested[3], capsys)


def last_line(text: str) -> str:
    lines = text.splitlines()
    assert lines, "nothing was said"
    assert "Traceback" not in text
    return lines[-1]


def flags(command: object) -> set[str]:
    return {flag for one in getattr(command, "params", ()) for flag in one.opts}


@cache
def parser() -> tuple[object, set[str]]:
    suites = {option.flag for one in every_option().values() for option in one.values()}
    return get_command(app), suites


def assert_exists(cure: str, words: list[str]) -> None:
    """Hold every command and option of an answer against what there is."""
    program, known = parser()
    commands: dict[str, Any] = getattr(program, "commands", {})
    command = commands.get(next((word for word in words if word in commands), ""), program)
    known = known | flags(command) | {"--help", "--help-all", "--import"}
    for inner in getattr(command, "commands", {}).values():
        known |= flags(inner)
    for name, rest in re.findall(r"robustmix ([a-z]+)((?: [^;`]*)?)", cure):
        assert name in commands, cure
        below = getattr(commands[name], "commands", None)
        second = rest.split()[0] if rest.split() else ""
        assert below is None or second in below or second.startswith("--"), cure
        known |= flags(below[second]) if below and second in below else flags(commands[name])
    for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", cure):
        assert flag in known, f"{flag} of: {cure}"


def assert_known(
    words: list[str], wrong: str, right: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Type the suggestion in place of the slip: it is no unknown name."""
    mended = [word.replace(wrong, right) for word in words]
    if mended[0] in ("eval", "train") and "--help" not in mended:
        mended += ["--dry-run", "--limit" if mended[0] == "eval" else "--limit-train", "8"]
        mended = [word if word != "recipe.toml" else "digits-resnet8-mixup" for word in mended]
    run(mended)
    assert "E-UNKNOWN" not in capsys.readouterr().err


# Slips that are no mistakes: what is typed acts, or is said


def test_a_model_beside_help_is_no_suite(capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("eval m.pth --help", "eval m.pth --suite fgsm -h"):
        assert run(shlex.split(line)) == 0
        assert "--suite" in capsys.readouterr().out


def test_a_report_beside_itself_shows_no_difference(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", "rep", "rep"]) == 0
    assert "no difference is shown" in " ".join(capsys.readouterr().err.split())
    assert run(["check", "rep", "--baseline", "rep"]) == 0
    assert "check: pass" in capsys.readouterr().err


def test_a_report_without_its_rows_is_incomplete(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "bare", "--baseline", "rep"]) == 4
    assert "came without its" in capsys.readouterr().err


def test_a_rule_on_a_suite_that_was_not_run_is_incomplete(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["check", "rep", "--metric", "pgd.robust_acc>=0.5"]) == 4
    assert "there is no suite pgd in the report" in capsys.readouterr().err


def test_a_finished_evaluation_is_not_made_again(capsys: pytest.CaptureFixture[str]) -> None:
    line = "eval m.pth --suite fgsm --limit 20 --eps 8/255 --masking off --device cpu --out rep"
    assert run(shlex.split(f"{line} --resume")) == 0  # and the files are as they were
    assert capsys.readouterr().out == "rep/report.json\n"
    assert run(shlex.split(f"{line.replace('8/255', '2/255')} --resume")) == 5
    assert "of another model, data set or parameters" in capsys.readouterr().err


def test_a_folder_in_which_another_process_works(capsys: pytest.CaptureFixture[str]) -> None:
    with run_lock(Path("rep24")):
        assert run(shlex.split(f"{EVAL} --suite clean --out rep24 --force")) == 4
    line = last_line(capsys.readouterr().err)
    assert "rep24" in line
    assert "; " in line


@pytest.mark.parametrize(
    ("line", "lacking", "says"),
    [
        ("eval m.pth --suite torchattacks:FGSM", "torchattacks", r"robustmix\[torchattacks\]"),
        ("export m.pth --to onnx --out m.onnx", "onnx", r"robustmix\[export\]"),
        ("eval m.pth --dataset hf:beans", "datasets", r"robustmix\[hf\]"),
    ],
)
def test_an_extra_that_is_not_installed_is_named(
    line: str,
    lacking: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(__import__("sys").modules, lacking, None)
    assert run(shlex.split(line)) in (2, 3)
    assert re.search(says, last_line(capsys.readouterr().err))


@pytest.mark.parametrize("where", ["nowhere", "m.pth"])
def test_a_wrong_data_folder_is_named(
    where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROBUSTMIX_DATA", where)
    assert run(shlex.split(f"{EVAL} --dataset cifar100")) == 3
    assert f"{where}/cifar-100-python" in last_line(capsys.readouterr().err)


@pytest.mark.parametrize("line", ["'~/o'", "--out=~/o"])
def test_home_is_found_where_the_shell_does_not_write_it_out(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    words = line if line.startswith("--out") else f"--out {line}"
    assert run(shlex.split(f"{EVAL} --suite clean --limit 4 {words} -q")) == 0
    assert (tmp_path / "o" / "report.json").is_file()
    assert not Path("~").exists()


def test_pictures_of_other_modes_are_taken_and_told(tmp_path: Path) -> None:
    for name, mode in (("a/0.png", "L"), ("b/0.png", "RGBA"), ("c/0.jpg", "CMYK")):
        picture(tmp_path / "test" / name, mode)
    data = load_dataset(f"folder:{tmp_path}", "test", img_size=32)
    assert "3 of 3 images converted to RGB (1 CMYK, 1 L, 1 RGBA)" in " ".join(data.notes)


# From Python


def pixels(n: int = 12) -> Tensor:
    return torch.rand(n, 3, 8, 7, generator=torch.Generator().manual_seed(0))


def labels(n: int = 12) -> Tensor:
    return torch.arange(n) % 3


class Net(nn.Module):
    def __init__(self, change: Callable[[Tensor], Any] = lambda out: out, classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 7, classes)
        self.change = change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.layer(images.flatten(1)))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([(pixels()[0], 0)])


def evaluate(model: Any = None, data: Any = None, suites: Any = ("clean",), **more: Any) -> Report:
    norm: dict[str, Any] = {"mean": (0.5,) * 3, "std": (0.25,) * 3, **more}
    if model is None:
        model = Net()
    return robustmix.evaluate(
        model, (pixels(), labels()) if data is None else data, suites, device="cpu", **norm
    )


def rep() -> Report:
    return Report.load("rep")


PYTHON: dict[str, tuple[Callable[[], object], str]] = {
    # models
    "a class": (lambda: evaluate(Net), r"give an instance: Net\(...\)"),
    "a function": (lambda: evaluate(lambda x: x), "a function is no model; give a torch.nn.Module"),
    "a state dict": (lambda: evaluate(Net().state_dict()), "a state dict is no network"),
    "no weights": (lambda: evaluate(Net().to("meta")), "is on the meta device"),
    "logits with an axis more": (
        lambda: evaluate(Net(lambda out: out[:, None])),
        r"wrap it in a module whose forward returns the logits \(N, K\)",
    ),
    "the two swapped": (
        lambda: robustmix.evaluate("digits", Net()),  # type: ignore[arg-type]
        "cannot evaluate on a Net; the model comes first",
    ),
    "a checkpoint that is not there": (lambda: robustmix.evaluate("nope.pth"), "no file nope.pth"),
    "a report for a checkpoint": (lambda: robustmix.evaluate("rep/report.json"), "not weights"),
    "classes": (lambda: evaluate(num_classes=5), "has 3 classes, expected 5"),
    "fewer classes than labels": (lambda: evaluate(Net(classes=2)), "has 2 classes, tensors has 3"),
    "means of 0 to 255": (lambda: evaluate(mean=(127,) * 3, std=(60,) * 3), "divide both by 255"),
    "one mean": (lambda: evaluate(mean=0.5, std=0.25), "mean 0.5 is one number; give one a chan"),
    # images and labels
    "floats of 0 to 255": (lambda: evaluate(data=(pixels() * 255, labels())), "divide by 255"),
    "normalised": (lambda: evaluate(data=(pixels() * 4 - 2, labels())), "take Normalize out"),
    "channels last": (
        lambda: evaluate(data=(pixels().permute(0, 2, 3, 1), labels())),
        r"images.permute\(0, 3, 1, 2\)",
    ),
    "an array with channels first": (
        lambda: evaluate(data=(pixels().numpy(), labels().numpy())),
        r"give uint8 \(N, H, W, 3\), or a tensor \(N, 3, H, W\)",
    ),
    "no labels": (lambda: evaluate(data=pixels()), "images without labels; give a pair"),
    "labels from 1": (lambda: evaluate(data=(pixels(), labels() + 1)), "count them from 0"),
    "labels one-hot": (
        lambda: evaluate(data=(pixels(), nn.functional.one_hot(labels(), 3))),
        "give class indices, not one-hot vectors",
    ),
    "labels of floats": (lambda: evaluate(data=(pixels(), labels().float())), r"labels.long\(\)"),
    "too few labels": (lambda: evaluate(data=(pixels(), labels(5))), "12 images have 5 labels"),
    "a generator": (
        lambda: evaluate(data=((image, 0) for image in pixels())),
        "a generator; it can be read only once: give a list",
    ),
    "an iterator": (
        lambda: evaluate(data=iter(DataLoader(TensorDataset(pixels(), labels())))),
        "it can be read only once",
    ),
    "a stream": (lambda: evaluate(data=Stream()), "Stream has no length and no order; give a map"),
    "a folder": (lambda: evaluate(data=Path("photos")), "give 'folder:photos'"),
    "a name of none": (lambda: evaluate(data="digts"), "did you mean 'digits'"),
    # arguments
    "a suite": (lambda: evaluate(suites=["clean", "fgms"]), "did you mean 'fgsm'"),
    "no name": (lambda: evaluate(suites=[3]), "3 is no suite; give names: suites clean,fgsm"),
    "suite": (lambda: evaluate(suite="clean"), "unknown argument .suite.; did you mean .suites."),
    "protocols": (lambda: evaluate(protocols="quick"), "did you mean .protocol."),
    "a protocol": (lambda: evaluate(protocol="standart"), "did you mean 'standard'"),
    "bath_size": (lambda: evaluate(bath_size=8), "did you mean .batch_size."),
    "epsilon": (lambda: evaluate(suites="fgsm", epsilon=8 / 255), "did you mean 'eps'"),
    "eps of pixels": (lambda: evaluate(suites="fgsm", eps=8), "got 8; did you mean 8/255"),
    "eps without attack": (lambda: evaluate(eps="8/255"), "add suites fgsm, or leave eps out"),
    "batch size": (lambda: evaluate(batch_size=0), "expected batch_size from 1"),
    "limit": (lambda: evaluate(limit="10"), "cannot take limit '10'; give a number"),
    "seed": (lambda: evaluate(seed=1.5), "expected a whole number as seed, got 1.5"),
    "out": (lambda: evaluate(out="rep"), "choose another out, or add force to replace it"),
    # reports
    "a metric": (lambda: rep()["clean.tpo1"], "no clean.tpo1; did you mean clean.top1"),
    "a comparison's metric": (
        lambda: robustmix.compare(rep(), rep(), metrics=["clean.tpo1"]),
        "did you mean clean.top1",
    ),
    "nothing to check": (lambda: robustmix.check(rep()), "give baseline, rules or metric"),
    "a margin": (lambda: robustmix.check(rep(), rep(), margin=1), "did you mean 1pp .points. or"),
    "a percentage": (
        lambda: robustmix.check(rep(), assertions=["clean.top1>=99%"]),
        "write 0.99",
    ),
    "rules in a list": (
        lambda: robustmix.check(rep(), rules=["clean.top1>=0.9"]),  # type: ignore[arg-type]
        r"assertions=\['clean.top1>=0.75'\]",
    ),
    "a recipe": (
        lambda: robustmix.train("digits-resnet8-mixpu", out="x"),
        "did you mean 'digits-resnet8-mixup'",
    ),
    "a key": (lambda: robustmix.train("digits-resnet8-mixup", out="x", epoch=1), "mean 'epochs'"),
    "a method's option": (
        lambda: robustmix.train("digits-resnet8-mixup", out="x", alpha=1.0),
        "an option of the method is method.alpha",
    ),
    # the parts alone
    "fgsm of bytes": (
        lambda: robustmix.attacks.fgsm(
            Net().eval(), (pixels() * 255).byte(), labels(), eps=8 / 255
        ),
        r"got torch.uint8 \(12, 3, 8, 7\); divide uint8 by 255",
    ),
    "fgsm of float labels": (
        lambda: robustmix.attacks.fgsm(Net().eval(), pixels(), labels().float(), eps=8 / 255),
        r"expected int64 labels \(12,\), got torch.float32",
    ),
    "fgsm in train mode": (
        lambda: robustmix.attacks.fgsm(Net(), pixels(), labels(), eps=8 / 255),
        "attacks need eval mode",
    ),
    "a corruption": (
        lambda: robustmix.corruptions.corrupt(pixels(), "fogg", 3),
        "did you mean 'fog'",
    ),
}
IN_PYTHON_ALONE = ("a metric", "fgsm of bytes", "fgsm of float labels", "fgsm in train mode")
"""Those that are Python's own errors."""


@pytest.mark.parametrize("name", PYTHON)
def test_a_slip_in_python_names_arguments(name: str) -> None:
    call, says = PYTHON[name]
    kinds = (KeyError, ValueError) if name in IN_PYTHON_ALONE else (RobustmixError,)
    with pytest.raises(kinds, match=says) as caught:
        call()
    assert " --" not in str(caught.value)


def test_a_misspelt_function_is_suggested_by_the_interpreter() -> None:
    with pytest.raises(AttributeError) as caught:
        robustmix.evalute  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("evalute", robustmix)


def right(report: Report) -> float:
    return report["clean.top1"].value or 0.0


def test_what_can_be_meant_in_one_way_alone_is_taken() -> None:
    net = Net().train()
    images, truth = pixels(), labels()
    bytes_, weights = (images * 255).round().byte(), net.layer.weight.clone()
    pairs = [(image, int(label)) for image, label in zip(bytes_, truth, strict=True)]
    shuffled = DataLoader(TensorDataset(bytes_, truth), batch_size=5, shuffle=True)
    array = bytes_.permute(0, 2, 3, 1).numpy(), truth.numpy()
    expected = right(evaluate(net, (bytes_, truth)))
    for data in (pairs, shuffled, array, (images, truth.tolist())):
        assert right(evaluate(net, data)) == expected
    assert net.training
    assert torch.equal(net.layer.weight, weights)
    for change in (lambda out: (out, out), lambda out: {"logits": out}):
        told = Net(change)
        told.load_state_dict(net.state_dict())
        assert right(evaluate(told, (bytes_, truth))) == expected
    warned = evaluate(net, shuffled).content.warnings
    assert any(one.code == "W-LOADER" and "shuffles" in one.message for one in warned)


def test_a_report_may_be_written_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    evaluate(out="~/mine")
    assert (tmp_path / "mine" / "report.json").is_file()
