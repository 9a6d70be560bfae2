"""Two newcomers walk from README and the guides to what they came for; what they see is held.

In process here; slow, once more by the commands of a virtual environment that has nothing but the
wheel and what it asks for.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from robustmix import Report
from robustmix.cli.app import run
from robustmix.methods.registry import METHODS

ROOT = Path(__file__).parents[1]


class Done(NamedTuple):
    code: int
    out: str
    err: str


Shell = Callable[[str], Done]
"""Runs a line, as it is typed, in the folder of the walk."""


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)

    def typed(line: str) -> Done:
        program, *words = shlex.split(line)
        assert program == "robustmix"
        code = run(words)
        return Done(code, *capsys.readouterr())

    with METHODS.temporary():  # what a line imports stays, as it would not in a process of its own
        yield typed


def well(done: Done) -> str:
    assert done.code == 0, done.err
    return done.out.strip()


def top1(folder: Path) -> float:
    return Report.load(folder)["clean.top1"].value or 0.0


# A researcher: a method of one's own beside one that is there, and the table as LaTeX


def write_method(folder: Path) -> None:
    """Write the file that the guide shows."""
    page = ROOT / "docs" / "how-to" / "method.md"
    if not page.exists():
        pytest.skip("the guide is not beside the tests")
    block = re.search(r"```python\n(# band\.py\n.*?)```", page.read_text("utf-8"), re.DOTALL)
    assert block is not None
    (folder / "band.py").write_text(block[1], encoding="utf-8")


def cells(latex: str) -> dict[str, list[str]]:
    """Read the rows of a LaTeX table by their names, without what marks best and second."""
    bare = re.sub(r"\\(?:textbf|underline|texttt)\{([^{}]*)\}", r"\1", latex)
    rows = [line.rstrip("\\ ").split("&") for line in bare.splitlines() if "&" in line]
    return {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}


def assert_table(latex: str, rows: Mapping[str, tuple[float, float]]) -> None:
    assert r"\toprule" in latex
    found = cells(latex)
    for name, values in rows.items():
        assert found[name] == [f"{100 * value:.2f}" for value in values], name


@pytest.mark.slow
def test_a_researcher_sees_a_method_of_their_own_beside_a_published_one(
    shell: Shell, tmp_path: Path
) -> None:
    write_method(tmp_path)
    assert shell("robustmix train --dataset digits --arch resnet8 --method band").code == 2
    assert "band" in well(shell("robustmix list methods --import band.py"))
    rows: dict[str, tuple[float, float]] = {}
    for method in ("band", "cutmix"):
        seen = shell(
            f"robustmix train --dataset digits --arch resnet8 --method {method} --epochs 2 "
            f"--limit-train 60 --set limit_val=40 --set batch_size=20 --out runs/{method} "
            "--device cpu -q --import band.py"
        )
        last = well(seen)
        assert seen.err == ""
        place = f"runs/{method}/eval"
        line = f"robustmix eval {last} --suite fgsm --masking off --limit 30 --device cpu"
        well(shell(f"{line} --out {place} -q"))  # the network needs no method any more
        report = Report.load(tmp_path / place)
        assert report.content.dataset.n == 30
        log = (tmp_path / "runs" / method / "metrics.jsonl").read_text("utf-8")
        accuracies = [json.loads(line)["top1"] for line in log.splitlines()]
        assert len(accuracies) == 2
        rows[method] = (float(np.median(accuracies)), report["fgsm.robust_acc"].value or 0.0)
    line = "robustmix table runs --columns clean.top1,fgsm.robust_acc --rows method"
    assert_table(well(shell(f"{line} --format latex")), rows)


STUDY = """
title = "A band beside CutMix"
seeds = [0]
statistic = "last"
evaluate = { suite = ["fgsm"], limit = 30, options = { masking = "off" } }

[grid]
dataset = ["digits"]
arch = ["resnet8"]
method = ["cutmix", "band"]
epochs = [1]

[table]
rows = ["method"]
columns = ["clean.top1", "fgsm.robust_acc"]
"""


def study_walk(shell: Shell, folder: Path) -> None:
    write_method(folder)
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    line = "robustmix study run study.toml --limit-train 60 --out runs --device cpu -q"
    assert shell(line).code == 2  # band is not known
    assert well(shell(f"{line} --import band.py")) == "runs"
    well(shell("robustmix study table runs --format latex --out t.tex --import band.py"))
    rows = {}
    for place in (folder / "runs" / "runs").iterdir():
        method = next(one for one in ("cutmix", "band") if f"-{one}-" in place.name)
        (path,) = place.glob("eval/*/report.json")
        (line,) = (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        accuracy = json.loads(line)["top1"]
        rows[method] = (accuracy, Report.load(path)["fgsm.robust_acc"].value or 0.0)
    assert set(rows) == {"cutmix", "band"}
    assert_table((folder / "t.tex").read_text(encoding="utf-8"), rows)


# An engineer: a checkpoint of timm's train.py, 44 photos, and a job that gates


CLASSES = ("ant", "bee", "cat", "dog")
SIDE = 64


def photo(label: int, index: int) -> Image.Image:
    """Make a photo: noise with a square in the colour of its class, somewhere."""
    rng = np.random.default_rng([label, index])
    pixels = rng.integers(60, 180, (SIDE, SIDE, 3), dtype=np.uint8)
    y, x = rng.integers(0, SIDE // 2, 2)
    colour = np.array([(230, 30, 30), (30, 230, 30), (30, 30, 230), (230, 230, 30)][label])
    pixels[y : y + SIDE // 2, x : x + SIDE // 2] = colour
    return Image.fromarray(pixels)


def write_photos(folder: Path) -> None:
    for label, name in enumerate(CLASSES):
        place = folder / "photos" / name
        place.mkdir(parents=True)
        for index in range(11):
            photo(label, index).save(place / f"{index}.png")


def write_checkpoints(folder: Path) -> None:
    """Train a network of timm a little and save it as timm's train.py does; and a damaged copy."""
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=len(CLASSES))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    images = torch.stack(
        [
            torch.from_numpy(np.asarray(photo(label, index)).copy()).permute(2, 0, 1) / 255
            for index in range(100, 112)
            for label in range(len(CLASSES))
        ]
    )
    labels = torch.arange(len(images)) % len(CLASSES)
    for step in range(24):
        chosen = torch.arange(step % 3, len(images), 3)
        loss = F.cross_entropy(net((images[chosen] - 0.5) / 0.5), labels[chosen])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    args = argparse.Namespace(
        model="test_resnet", num_classes=len(CLASSES), img_size=SIDE, input_size=None,
        mean=[0.5] * 3, std=[0.5] * 3, crop_pct=1.0, interpolation="", gp=None, model_kwargs={},
    )  # fmt: skip
    saved = {
        "epoch": 7,
        "arch": "test_resnet",
        "state_dict": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "version": 2,
        "args": args,
        "metric": 97.7,
    }
    torch.save(saved, folder / "good.pth.tar")
    head = "fc.weight"
    damaged = {**net.state_dict(), head: net.state_dict()[head].roll(1, 0)}
    torch.save({**saved, "state_dict": damaged}, folder / "bad.pth.tar")


EVALUATE = "robustmix eval {model}.pth.tar --dataset folder:photos --suite fgsm --masking off"
JOB = (
    EVALUATE + " --device cpu --out {model} --force -q",
    "robustmix check {model} --baseline ci/baseline --junit {model}/junit.xml",
)
"""What the guide to CI tells to run, line after line, until one fails."""


def job(shell: Shell, model: str) -> tuple[int, list[Done]]:
    done: list[Done] = []
    for line in JOB:
        done.append(shell(line.format(model=model)))
        if done[-1].code:
            break
    return done[-1].code, done


def assert_gates(shell: Shell, folder: Path, summary: Path) -> None:
    """Walk from photos and checkpoints to a gate that passes, one that fails, and the page."""
    write_photos(folder)
    write_checkpoints(folder)
    assert len(list((folder / "photos").rglob("*.png"))) == 44
    well(shell(JOB[0].format(model="good")))
    well(shell("robustmix check good --baseline ci/baseline --update-baseline"))
    assert top1(folder / "ci" / "baseline") == top1(folder / "good") > 0.9

    code, done = job(shell, "good")
    assert (code, len(done)) == (0, 2), done[-1].err
    assert "::error" not in done[-1].out
    assert "pass" in summary.read_text(encoding="utf-8")
    assert 'failures="0"' in (folder / "good" / "junit.xml").read_text(encoding="utf-8")

    summary.write_text("", encoding="utf-8")
    code, done = job(shell, "bad")
    assert (code, len(done)) == (1, 2), done[-1].err
    assert "::error" in done[-1].out
    told = summary.read_text(encoding="utf-8")
    assert "fail" in told
    assert "clean.top1" in told
    assert top1(folder / "bad") < 0.1
    assert f"{100 * top1(folder / 'bad'):.2f}" in told
    assert 'failures="0"' not in (folder / "bad" / "junit.xml").read_text(encoding="utf-8")

    well(shell("robustmix report html ci/baseline bad --out page.html"))
    page = (folder / "page.html").read_text(encoding="utf-8")
    for report in ("ci/baseline", "bad"):
        assert f"{100 * top1(folder / report):.2f}" in page
    assert "http://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)


def test_an_engineer_gates_a_network_of_timm_on_photos(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert_gates(shell, tmp_path, tmp_path / "summary.md")


# Both, with what a wheel brings


@pytest.mark.slow
def test_the_walks_with_nothing_but_the_wheel(tmp_path: Path) -> None:
    """In a virtual environment of its own; packages come from the index that pip is set to."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("there is no checkout to build from")
    dist, venv = tmp_path / "dist", tmp_path / "venv"
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(dist), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = dist.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin" / "pip"), "install", "-q", str(wheel)], check=True)
    walks_in(venv, tmp_path)


def walks_in(venv: Path, place: Path) -> None:
    """Take both walks by the commands of a virtual environment."""
    for name, walk in (("researcher", study_walk), ("engineer", engineer_walk)):
        folder = place / name
        folder.mkdir()
        environ = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environ |= {"PATH": f"{venv / 'bin'}:{environ['PATH']}", "OMP_NUM_THREADS": "1"}
        environ |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}

        def typed(line: str, folder: Path = folder, environ: dict[str, str] = environ) -> Done:
            command = ["bash", "-e", "-c", line]
            done = subprocess.run(
                command, cwd=folder, env=environ, capture_output=True, text=True, check=False
            )
            return Done(done.returncode, done.stdout, done.stderr)

        assert str(venv) in well(typed("command -v robustmix"))
        walk(typed, folder)


def engineer_walk(shell: Shell, folder: Path) -> None:
    assert_gates(shell, folder, folder / "summary.md")
    script = "\n".join(line.format(model="bad") for line in JOB)
    assert shell(script).code == 1  # the job as one script: the gate ends it
