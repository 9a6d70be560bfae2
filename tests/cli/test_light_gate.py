"""Judging reports imports neither torch nor what draws: a gate must not wait for what trains."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from robustmix import __version__
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.masking.gradients import probabilities
from robustmix.later import RobustModel, Tensor
from robustmix.models.checks import looks_like_probabilities
from robustmix.rng import sample_keys, seeded_subset, subset_positions
from tests.comparison.reports import digits_model

RUN = """
import json, sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if any(f"{name}.".startswith(f"{one}.") for one in json.loads(sys.argv[1])):
            raise RuntimeError(f"imports {name}")
sys.meta_path.insert(0, Refused())
from robustmix.cli.app import run
sys.exit(run([*json.loads(sys.argv[2]), "--debug"]))
"""
HEAVY = ["torch", "torchvision", "timm", "sklearn", "pandas", "scipy.stats"]
"""``report html`` and ``table --format html`` alone draw."""

IN_PART = ["scipy.optimize", "scipy.sparse", "PIL", "platformdirs", "robustmix.report.schema_1"]
"""What neither judges accuracies nor shows numbers."""


def ran(*words: str, refused: list[str]) -> "subprocess.CompletedProcess[str]":
    """Run a command line in a process that cannot import some packages."""
    line = [sys.executable, "-c", RUN, json.dumps(refused), json.dumps(words)]
    return subprocess.run(line, capture_output=True, text=True)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two reports with suites of many kinds."""
    names = "clean,calibration,corruption,fgsm,pgd,occlusion,shuffle"
    folder = tmp_path_factory.mktemp("light")
    made = [str(folder / name) for name in ("a", "b")]
    for seed, out in enumerate(made):
        evaluate(
            digits_model(seed),
            "digits",
            names.split(","),
            limit=24,
            out=out,
            corruptions="fog",
            ratios=(0.25, 0.5),
            eps=("1/255",),
            steps=2,
            masking="off",
        )
    return made[0], made[1]


@pytest.mark.parametrize(
    "command", ["check", "compare", "table", "page", "show", "validate", "md", "csv", "html"]
)
def test_reports_of_every_suite_are_judged_without_torch(
    command: str, pair: tuple[str, str], tmp_path: Path
) -> None:
    first, second = pair
    words = {
        "check": ["check", first, "--baseline", second],
        "compare": ["compare", second, first, "--replicates", "500"],
        "table": ["table", first, second, "--published", "--significance"],
        "page": ["table", first, second, "--format", "html", "--out", str(tmp_path / "page.html")],
        "html": ["report", "html", first, second, "--out", str(tmp_path / "page.html")],
    }.get(command, ["report", command, first])
    refused = HEAVY if command in ("html", "page") else [*HEAVY, "matplotlib"]
    done = ran(*words, refused=[name for name in refused if command != "csv" or name != "pandas"])
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two reports of accuracies alone."""
    folder = tmp_path_factory.mktemp("small")
    made = [str(folder / name) for name in ("a", "b")]
    for seed, out in enumerate(made):
        evaluate(
            digits_model(seed),
            "digits",
            ["clean", "corruption", "fgsm"],
            limit=24,
            out=out,
            corruptions="fog",
            severity=(1,),
            eps=("1/255",),
            masking="off",
        )
    return made[0], made[1]


@pytest.mark.parametrize("command", ["check", "table", "show", "md", "csv"])
def test_what_a_small_check_does_not_use_is_not_imported(
    command: str, small: tuple[str, str]
) -> None:
    first, second = small
    words = ["report", command, first]
    if command == "check":
        words = ["check", first, "--baseline", second]
    if command == "table":
        words = ["table", first, second]
    refused = [*HEAVY, *IN_PART, "matplotlib"]
    refused += [] if command == "check" else ["scipy"]
    done = ran(*words, refused=refused)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("words", ["--version", "--help", "list suites", "recipes list"])
def test_who_only_asks_waits_for_nothing_heavy(words: str) -> None:
    refused = [*HEAVY, "scipy", "PIL", "matplotlib"]
    done = ran(*words.split(), refused=refused)
    assert done.returncode == 0, done.stderr


def test_every_suite_and_attack_can_be_read_back_without_torch() -> None:
    code = """
import sys
from robustmix.attacks import ATTACKS
from robustmix.evaluation.suites.registry import SUITES
import robustmix.evaluation.recompute
assert all([*SUITES.values(), *ATTACKS.values()])
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_guard_sees_an_import_of_torch(tmp_path: Path) -> None:
    (tmp_path / "added.py").write_text("import torch\n")
    added = ["--import", str(tmp_path / "added.py")]
    assert "imports torch" in ran(*added, "--version", refused=["torch"]).stderr


def test_the_version_is_an_option_too() -> None:
    done = ran("--version", refused=[*HEAVY, "scipy", "matplotlib"])
    assert (done.returncode, done.stdout) == (0, f"robustmix {__version__}\n")


def test_what_stands_for_a_class_answers_as_it_does() -> None:
    assert isinstance(torch.zeros(1), Tensor)
    assert not isinstance(np.zeros(1), Tensor)
    assert isinstance(digits_model(0), RobustModel)
    assert not isinstance(torch.nn.Identity(), RobustModel)


@pytest.mark.parametrize("count", [0, 1, 37, 99, 100, 101])
def test_a_subset_is_the_same_with_and_without_torch(count: int) -> None:
    ids = [f"image/{i}" for i in range(100)]
    plain, chosen = subset_positions(3, ids, count), seeded_subset(3, ids, count)
    if count >= 100:
        assert plain is None
        assert chosen is None
        return
    by_torch = sample_keys(3, "subset", "", 0, ids).argsort(stable=True)[:count].sort().values
    assert plain is not None
    assert plain.dtype == np.int64
    assert chosen is not None
    assert torch.equal(chosen, by_torch)
    assert np.array_equal(plain, by_torch.numpy())


def test_probabilities_are_known_as_with_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 10, generator=generator)
    cases = [
        logits,
        logits.softmax(1),
        logits.log_softmax(1),
        logits.sigmoid(),
        logits[:1].sigmoid(),
        logits.softmax(1) + 1e-3,
        logits.softmax(1)[:, :1],
        torch.full((3, 10), torch.nan),
        torch.full((3, 10), torch.inf),
        torch.eye(10),
        torch.zeros(3, 10),
        torch.ones(0, 10),
        logits.abs() + 1,
    ]
    for case in cases:
        expected = looks_like_probabilities(case) and bool((case >= 0).all())
        assert probabilities(case.numpy()) is expected
