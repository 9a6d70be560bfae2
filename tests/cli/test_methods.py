import json
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from robustmix.cli.app import run
from robustmix.methods import METHODS
from robustmix.methods.method_card import method_card

MIXUP = """\
mixup: blend each image with a random partner, and their labels likewise

Paper       Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412,
            equation 1 and figure 1a.
Does        one lam ~ Beta(alpha, alpha) and one permutation a batch; the mixed image is lam x + (1
            - lam) x[perm], the loss lam CE(own) + (1 - lam) CE(partner).
Cost        3 forward passes a step; with a momentum pipeline 4 or 7, see 'momentum_mixing'.
Deviations  none in the arithmetic. As in OpenMixup's benchmark, mixing happens after normalisation,
            and an image may be its own partner.
Status      verified: equal to the published implementation on reference vectors

Options, set with --set method.OPTION=VALUE

  option      default    meaning
 ──────────────────────────────────────────────────────────────────────────────────────────────────
  alpha       1.0        Both parameters of the Beta distribution of lam; 1 is uniform, towards 0
                         mixes less.
  pipeline    none       AutoMix's momentum pipeline: 'none'; 'mp': a moving average of the
                         network is deployed; 'mp+ce': and clean images are learned too, by a head
                         of their own. (one of none, mp, mp+ce)
  ema         0.999      Weight of the old average at first.
  ema_end     0.999999   Weight of the old average that the run ends with.
  ema_start   0.1        Share of the run before the weight begins to rise.


Packaged recipes
"""

RECIPES: dict[str, dict[str, Any]] = {
    "d-r18-mixup": {"arch": "r18", "method": {"name": "mixup"}},
    "d-r34-mixup": {"arch": "r34", "method": {"name": "mixup", "alpha": 1.0}},
    "d-wide-mixup": {"arch": "wide", "extrapolated": True, "method": {"name": "mixup"}},
    "d-r50-mixup": {"arch": "r50", "method": {"name": "mixup", "alpha": 0.2}},
    "d-r18-cutmix": {"arch": "r18", "method": {"name": "cutmix", "alpha": 0.7}},
}

MIXUP_RECIPES = """\

  data set   architectures      options that differ from the default
 ────────────────────────────────────────────────────────────────────
  d          r18, r34, wide *   -
  d          r50                alpha=0.2

* extrapolated: nobody published this combination
"""


class Packaged(NamedTuple):
    """What the command reads of a packaged row."""

    name: str
    values: dict[str, Any]

    @property
    def method(self) -> str:
        return str(self.values["method"]["name"])

    def as_toml(self) -> dict[str, Any]:
        return {"dataset": "d", **self.values}


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(["methods", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return [line.rstrip().replace("\N{NO-BREAK SPACE}", " ") for line in captured.out.splitlines()]


def test_the_whole_card_of_a_small_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [Packaged(name, values) for name, values in RECIPES.items()]
    monkeypatch.setattr("robustmix.training.catalogue.list_rows", lambda: rows)
    assert output(capsys, "info", "mixup") == (MIXUP + MIXUP_RECIPES).splitlines()
    monkeypatch.setattr("robustmix.training.catalogue.list_rows", list)
    assert output(capsys, "info", "mixup")[-1] == "No packaged recipe."


@pytest.mark.parametrize("name", METHODS)
def test_cards_fit_100_columns_and_name_every_option(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = output(capsys, "info", name)
    assert max(map(len, lines)) <= 100
    words = {word for line in lines for word in line.split()}
    card = method_card(name)
    assert {p.name for p in card.parameters} <= words
    assert {choice for p in card.parameters for choice in p.choices} <= {
        w.strip("(,)") for w in words
    }
    assert all("…" not in line for line in lines), "something was cut off"


@pytest.mark.parametrize("name", METHODS)
def test_json_is_the_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    card = json.loads("\n".join(output(capsys, "info", name, "--json")))
    assert (card["name"], card["passes"]) == (name, METHODS.row(name).cost)
    assert {p["name"]: p["default"] for p in card["parameters"]} == {
        p.name: p.default for p in method_card(name).parameters
    }
    assert all(use["recipes"] and use["dataset"] and use["arch"] for use in card["uses"])


def test_list_tells_cost_and_paper(capsys: pytest.CaptureFixture[str]) -> None:
    lines = output(capsys, "list")
    assert max(map(len, lines)) <= 100
    text = " ".join(lines)
    for name, row in METHODS.rows().items():
        (line,) = (line for line in lines if line.startswith(f"  {name} "))
        assert f" {row.cost:g} " in line
        assert row.paper.split(",")[0] in line
        assert row.paper.partition("arXiv:")[2] in text


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads("\n".join(output(capsys, "list", "--json")))
    assert [row["name"] for row in rows] == list(METHODS)
    assert rows[0] == {
        "name": "vanilla",
        "summary": METHODS.row("vanilla").help,
        "paper": "",
        "status": "verified",
        "cost": 3,
        "origin": None,
    }


def test_unknown_method_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["methods", "info", "mixpu"]) == 2
    assert capsys.readouterr() == (
        "",
        "error[E-UNKNOWN-METHOD]: unknown method 'mixpu'; did you mean 'mixup'?\n",
    )


def test_cards_need_no_torch() -> None:
    code = """
import sys
from robustmix.cli.app import run
for command in (["list"], ["info", "adautomix"], ["info", "mixup", "--json"], ["--help"]):
    assert run(["methods", *command]) == 0
heavy = {"torch", "torchvision", "timm", "numpy", "scipy", "matplotlib", "pandas"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
