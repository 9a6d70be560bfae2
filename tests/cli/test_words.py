"""No word of the program's own language in what a user reads, and no typo without the right name.

The tour goes through what needs no training; what only a terminal or a rare state shows is below.
"""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from robustmix.cli.app import run
from robustmix.comparison.check import check
from robustmix.comparison.pair import protocol_difference
from robustmix.errors import UsageError
from robustmix.studies.results import RECIPE_FILE, read_run
from robustmix.training.progress import RichTalk
from robustmix.training.recipe_dict import recipe_difference
from robustmix.training.resolve import resolve_recipe
from tests.comparison.reports import base, saved

LISTS = (
    "archs", "attacks", "corruptions", "datasets", "exports", "methods", "metrics", "models",
    "protocols", "recipes", "saliency", "shift-sets", "suites",
)  # fmt: skip

TOUR = [
    *(["list", kind] for kind in LISTS),
    ["recipes", "show", "cifar100-resnet18-adautomix", "--origin"],
    ["recipes", "diff", "digits-resnet8-mixup", "imagenet-1k-resnet50-mixup-rsb-a3"],
    ["methods", "info", "adautomix"],
    ["eval", "--help-all"],
    ["data", "list"],
    ["data", "info", "cifar100"],
    ["study", "show", "poster-t3"],
    ["report", "show", "A"],
    ["report", "show", "A", "--metric", "fgsm.robust_acc", "--metric", "clean.top1"],
    *(["report", kind, "A"] for kind in ("md", "latex", "csv")),
    ["report", "tables", "A"],
    ["report", "tables", "A", "B", "--format", "latex"],
    ["compare", "A", "B", "--replicates", "100", "--all", "--markdown", "-"],
    ["compare", "A", "B", "--replicates", "100", "--csv", "-"],
    ["check", "A", "--metric", "clean.top1>=0.5", "--metric", "calibration.ece_15<=0.5"],
    ["check", "A", "--metric", "clean.top1>=0.5", "--markdown", "-"],
    *(["table", "A", "B", "--format", kind] for kind in ("terminal", "md", "latex", "csv")),
]  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tour")
    return {
        "A": str(saved(base(), folder / "a").parent),
        "B": str(saved(base(), folder / "b").parent),
    }


@pytest.mark.parametrize("command", TOUR, ids=" ".join)
def test_no_command_says_none(
    command: list[str], reports: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([reports.get(word, word) for word in command]) == 0
    said = capsys.readouterr()
    assert len(said.out) > 50
    assert re.findall(r".*\b(?:None|nan)\b.*", said.out + said.err) == []


def test_a_bar_whose_length_is_not_known_yet_says_nothing_of_it() -> None:
    def shown() -> str:
        assert isinstance(console.file, io.StringIO)
        talk.bar.refresh()
        return console.file.getvalue()

    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with RichTalk(console) as talk:
        assert "train" in shown()
        assert "None" not in shown()
        talk.begin(epochs=2, steps=5, done=3)
        assert "3/10 steps" in shown()
    assert "None" not in shown()


def test_parameters_that_only_one_side_has_are_told_in_words() -> None:
    left, right = base().content, base().content.model_copy(deep=True)
    suite = next(key for key, params in left.protocol.params.items() if params)
    key = next(iter(sorted(right.protocol.params[suite])))
    right.protocol.params[suite][key] = None
    told = protocol_difference(left, right, suite)
    assert told is not None
    assert told.endswith("against none")


def test_a_key_that_only_one_recipe_has_is_told_in_words() -> None:
    one = resolve_recipe("digits-resnet8-mixup")
    told = recipe_difference(one, resolve_recipe("digits-resnet8-vanilla"))
    assert told is not None
    assert "not set" in told


def test_a_run_of_an_unknown_number_of_epochs(tmp_path: Path) -> None:
    (tmp_path / RECIPE_FILE).write_text('method = "mixup"\n')
    assert read_run(tmp_path).why == "0 epochs, of an unknown number"


TYPOS = {
    "clean.tpo1": "clean.top1",
    "claen.top1": "clean.top1",
    "fgsm.robust_ac": "fgsm.robust_acc",
    "corruption.acc[brihgtness/4]": "corruption.acc[brightness/4]",
}


@pytest.mark.parametrize("typed", TYPOS)
def test_whatever_takes_a_metric_knows_what_was_meant(
    typed: str, reports: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, meant = reports["A"], reports["B"], TYPOS[typed]
    rules = tmp_path / "rules.toml"
    rules.write_text(f'[[rule]]\nmetric = "{typed}"\nkind = "absolute"\nlimit = 0.1\n')
    for command in (
        ["report", "show", a, "--metric", typed],
        ["compare", a, b, "--metric", typed],
        ["check", a, "--metric", f"{typed}>=0.5"],
        ["check", a, "--rules", str(rules)],
        ["table", a, "--columns", typed],
    ):
        assert run(command) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error[E-METRIC]")
        assert re.search(rf"did you mean '?{re.escape(meant)}", said.err), said.err
    with pytest.raises(KeyError, match=re.escape(f"did you mean {meant}")):
        base()[typed]
    with pytest.raises(UsageError, match=re.escape(f"did you mean {meant}")):
        check(base(), assertions=[f"{typed}>=0.5"])


def test_a_radius_is_a_number_and_not_a_text(
    reports: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = next(path for path in base() if path.startswith("fgsm.robust_acc[0.0078"))
    metric = base()["fgsm.robust_acc[2/255]"]
    assert metric == base()[named]
    assert run(["report", "show", reports["A"], "--metric", "fgsm.robust_acc[2/255]"]) == 0
    assert metric.value is not None
    assert f"{100 * metric.value:.2f} %" in capsys.readouterr().out
    assert "fgsm.robust_acc[9/255]" not in base()
    assert check(base(), assertions=["clean.top1>=0.01"]).exit_code == 0
