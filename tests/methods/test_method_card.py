import dataclasses
import re
import sys
import typing
from pathlib import Path

import pytest

from robustmix.errors import UsageError
from robustmix.methods import METHODS
from robustmix.methods.method_card import (
    MethodCard,
    Parameter,
    RecipeUse,
    card_sections,
    config_parameters,
    method_card,
    recipe_uses,
)
from robustmix.methods.registry import config_class
from robustmix.training.catalogue import list_rows
from robustmix.training.recipe_dict import recipe_from_dict


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_card(name: str) -> None:
    card, row = method_card(name), METHODS.row(name)
    assert (card.name, card.summary, card.status) == (name, row.help, row.status)
    assert all((card.paper, card.does, card.cost))
    assert bool(card.deviations) == bool(row.paper)
    for number in re.findall(r"arXiv:[\d.]+\d", row.paper):
        assert number in card.paper
    assert card.passes == row.cost
    assert card.cost.startswith(f"{row.cost:g} forward passes a step")


@pytest.mark.parametrize("name", METHODS)
def test_options_are_those_of_the_config_class_and_explained(name: str) -> None:
    config = config_class(name)
    parameters = method_card(name).parameters
    fields = {field.name: field for field in dataclasses.fields(config)}
    assert [p.name for p in parameters] == list(fields)
    hints = typing.get_type_hints(config)
    for parameter in parameters:
        default = fields[parameter.name].default
        assert (parameter.default, type(parameter.default)) == (default, type(default))
        assert len(parameter.meaning.split()) >= 3, f"{name}.{parameter.name} is not explained"
        hint = hints[parameter.name]
        literal = typing.get_origin(hint) is typing.Literal
        assert parameter.choices == (typing.get_args(hint) if literal else ())
        assert bool(parameter.type) != literal


def test_every_packaged_recipe_of_a_method_is_on_its_card() -> None:
    presets = {row.name: row.as_toml() for row in list_rows()}
    shown: dict[str, tuple[str, MethodCard, RecipeUse]] = {}
    for method in METHODS:
        card = method_card(method, presets)
        shown |= {recipe: (method, card, use) for use in card.uses for recipe in use.recipes}
    assert shown.keys() == presets.keys()
    for name, (method, card, use) in shown.items():
        recipe = recipe_from_dict(presets[name])
        assert (recipe.method, recipe.dataset, recipe.arch) == (method, use.dataset, use.arch)
        defaults = {p.name: p.default for p in card.parameters}
        assert {**defaults, **use.options} == {**defaults, **recipe.method_options}
        assert all(defaults[key] != value for key, value in use.options.items())


def test_unknown_method() -> None:
    with pytest.raises(UsageError, match="unknown method 'mixpu'; did you mean 'mixup'"):
        method_card("mixpu")


DOCSTRING = """Blend: stir.

A word before it: no entry.

Method card
    Paper: A and B 2020, "T: U",
        arXiv:2001.00001.
    Does: x ``y``
        z: w.

        More.
    Deviations: none.

After the card: no entry either.
"""


def test_sections_join_lines_and_end_with_the_card() -> None:
    assert card_sections(DOCSTRING) == {
        "Paper": 'A and B 2020, "T: U", arXiv:2001.00001.',
        "Does": "x 'y' z: w. More.",
        "Deviations": "none.",
    }
    assert card_sections("No card.") == {}


def test_recipes_differ_where_they_do() -> None:
    def preset(arch: str, method: str, **options: object) -> dict[str, object]:
        return {"dataset": "d", "arch": arch, "method": {"name": method, **options}}

    presets: dict[str, dict[str, object]] = {
        "a": preset("r18", "m", y="t", x=2),
        "a-400": preset("r18", "m", x=2.0, y="t"),
        "b": preset("r50", "m", x=1, y="s"),
        "c": preset("r18", "other", x=9),
        "e": {**preset("r18", "m", x=2.0, y="t"), "extrapolated": True},
        "no-method": {"dataset": "d"},
    }
    uses = recipe_uses("m", {"x": 1.0, "y": "s"}, presets)
    assert [dataclasses.astuple(use) for use in uses] == [
        ("d", "r18", {"x": 2, "y": "t"}, ("a", "a-400"), False),
        ("d", "r50", {}, ("b",), False),
        ("d", "r18", {"x": 2, "y": "t"}, ("e",), True),
    ]
    assert list(uses[0].options) == ["x", "y"]


BASE = '''
STEP: float = -0.5

class BaseConfig:
    step: float = STEP
    """How far."""

    title: str = "base"
    """Named ``elsewhere``."""
'''

SOURCE = '''
from typing import Literal
from robustmix.methods.method_card import CARD as TITLE
from .base import BaseConfig
Mode = Literal["soft", "hard"]

class PlainConfig(BaseConfig):
    """Not a field."""

    mode: Mode = "soft"
    """How it
    is done."""

    title: str = TITLE
    LIMIT = 3
    none: float | None = None
    share: float = 8 / 255

class OtherConfig:
    no: int = 0

class Plain:
    config: PlainConfig

class Quoted:
    config: "OtherConfig"

class Without:
    pass
'''


def test_names_are_followed_without_importing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cardbox").mkdir()
    (tmp_path / "cardbox" / "__init__.py").touch()
    (tmp_path / "cardbox" / "base.py").write_text(BASE)
    (tmp_path / "cardbox" / "plain.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    mode = ("soft", "hard")
    assert config_parameters("cardbox.plain", "Plain") == (
        Parameter(name="step", type="float", default=-0.5, meaning="How far."),
        Parameter(name="title", type="str", default="Method card", meaning="Named 'elsewhere'."),
        Parameter(name="mode", type="", default="soft", meaning="How it is done.", choices=mode),
        Parameter(name="none", type="float | None", default=None, meaning=""),
        Parameter(name="share", type="float", default="8 / 255", meaning=""),
    )
    assert config_parameters("cardbox.plain", "Quoted") == (
        Parameter(name="no", type="int", default=0, meaning=""),
    )
    for name in ("Without", "Nobody"):
        assert config_parameters("cardbox.plain", name) == ()
    assert config_parameters("cardbox.absent", "Plain") == ()
    assert "cardbox.plain" not in sys.modules
