"""Method cards: what a method does and what its options mean, read from its source.

The text stands where the code stands: in the docstring of ``robustmix/methods/NAME.py`` and under
each field of its config class. Reading it needs neither the module's imports nor torch.
"""

import ast
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import takewhile
from typing import TypeAlias

from robustmix.errors import unknown_name
from robustmix.methods.names import METHOD_INFO

Value: TypeAlias = bool | int | float | str | None
"""What an option may be; the same in Python, TOML and JSON."""

CARD = "Method card"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One option of a method."""

    name: str
    type: str
    """Its annotation; empty where there are choices."""

    default: Value
    meaning: str
    choices: tuple[str, ...] = ()
    """The only values there are, if they can be counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecipeUse:
    """What the packaged recipes of one data set and architecture set other than the default."""

    dataset: str
    arch: str
    options: Mapping[str, Value]
    """Empty where every option has its default."""

    recipes: tuple[str, ...]
    """Their names."""

    extrapolated: bool
    """Whether no published configuration stands behind any of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodCard:
    """What there is to know of a method before using it."""

    name: str
    summary: str
    status: str
    """``verified`` or ``untested``, as in ``METHOD_INFO``."""

    passes: float
    """One step in forward passes of the backbone; a full backward pass counts two."""

    paper: str
    does: str
    cost: str
    """``passes`` in words."""

    deviations: str
    """What differs from the paper, and why; empty if there is no paper."""

    parameters: tuple[Parameter, ...]
    uses: tuple[RecipeUse, ...] = ()
    """By data set and architecture, all of them; without recipes there are none."""


def method_card(name: str, presets: Mapping[str, Mapping[str, object]] | None = None) -> MethodCard:
    """Return the card of a training method.

    Args:
        name: a key of ``METHOD_INFO``.
        presets: recipes by name, as TOML holds them (``robustmix.training.recipe.preset_dict``);
            those of other methods are ignored.

    Raises:
        UsageError: there is no such method.

    Example:
        >>> card = method_card("mixup")
        >>> card.passes, [(p.name, p.type, p.default) for p in card.parameters]
        (3, [('alpha', 'float', 1.0)])
    """
    if name not in METHOD_INFO:
        raise unknown_name("method", name, METHOD_INFO)
    info = METHOD_INFO[name]
    module = f"robustmix.methods.{name.replace('-', '')}"
    text = card_sections(ast.get_docstring(_parse(module)) or "")
    parameters = config_parameters(module)
    return MethodCard(
        name=name,
        summary=info.summary,
        status=info.status,
        passes=info.cost,
        paper=text["Paper"],
        does=text["Does"],
        cost=text["Cost"],
        deviations=text.get("Deviations", ""),
        parameters=parameters,
        uses=recipe_uses(name, {p.name: p.default for p in parameters}, presets or {}),
    )


def card_sections(docstring: str) -> dict[str, str]:
    r"""Return the entries of the part ``Method card`` of a docstring, each on one line.

    Example:
        >>> card_sections("X.\n\nMethod card\n    Paper: A and B,\n        2020.\n    Cost: 3.")
        {'Paper': 'A and B, 2020.', 'Cost': '3.'}
    """
    _, _, after = docstring.partition(f"{CARD}\n")
    card = takewhile(lambda line: not line or line.startswith(" "), after.splitlines())
    sections: dict[str, str] = {}
    key = ""
    for line in textwrap.dedent("\n".join(card)).splitlines():
        if line and not line.startswith(" "):
            key, _, line = line.partition(":")
        sections[key] = sections.get(key, "") + line
    return {key: _plain(text) for key, text in sections.items()}


def recipe_uses(
    method: str, defaults: Mapping[str, Value], presets: Mapping[str, Mapping[str, object]]
) -> tuple[RecipeUse, ...]:
    """Return where the recipes of a method leave its defaults.

    Recipes of one data set and architecture that set the same options are one entry; as a rule
    they differ in their length.

    Args:
        method: its name.
        defaults: every option and its default.
        presets: recipes by name, as TOML holds them.
    """
    found: dict[tuple[str, str, tuple[tuple[str, Value], ...], bool], list[str]] = {}
    for recipe, values in presets.items():
        table = values.get("method")
        if not isinstance(table, Mapping) or table.get("name") != method:
            continue
        # In the order of the config, whatever the order in the file.
        options = tuple((k, table[k]) for k in defaults if k in table and table[k] != defaults[k])
        key = (
            str(values.get("dataset", "")),
            str(values.get("arch", "")),
            options,
            bool(values.get("extrapolated", False)),
        )
        found.setdefault(key, []).append(recipe)
    return tuple(
        RecipeUse(
            dataset=dataset,
            arch=arch,
            options=dict(options),
            recipes=tuple(names),
            extrapolated=extrapolated,
        )
        for (dataset, arch, options, extrapolated), names in found.items()
    )


def config_parameters(module: str) -> tuple[Parameter, ...]:
    """Return the fields of the one class of a module whose name ends in ``Config``.

    Args:
        module: its full name; it is not imported.

    Raises:
        ValueError: a default is neither a literal nor the name of one.
    """
    (config,) = (
        node
        for node in _parse(module).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config")
    )
    parameters = []
    for field, after in zip(config.body, [*config.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or field.value is None:
            continue
        assert isinstance(field.target, ast.Name)
        choices = _choices(module, field.annotation)
        parameters.append(
            Parameter(
                name=field.target.id,
                type="" if choices else ast.unparse(field.annotation),
                default=_value(module, field.value),
                meaning=_string(after),
                choices=choices,
            )
        )
    return tuple(parameters)


def _string(node: ast.stmt | None) -> str:
    """Return the text that stands as a statement of its own, on one line; empty if none does."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return _plain(str(node.value.value))
    return ""


def _plain(text: str) -> str:
    """Return a docstring's text on one line, without mark-up."""
    return " ".join(text.split()).replace("``", "'")


def _choices(module: str, annotation: ast.expr) -> tuple[str, ...]:
    """Return the values of a ``Literal``, which may have been given a name."""
    if isinstance(annotation, ast.Name):
        found = _definition(module, annotation.id)
        return _choices(*found) if found else ()
    if not (isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal"):
        return ()
    values = annotation.slice
    items = values.elts if isinstance(values, ast.Tuple) else [values]
    return tuple(str(ast.literal_eval(item)) for item in items)


def _value(module: str, node: ast.expr) -> Value:
    """Return the value of a literal or of a named constant.

    Raises:
        ValueError: it is anything else.
    """
    if isinstance(node, ast.Name) and (found := _definition(module, node.id)):
        return _value(*found)
    value: Value = ast.literal_eval(node)
    return value


def _definition(module: str, name: str) -> tuple[str, ast.expr] | None:
    """Return the expression that a module or one it imports from gives to ``name``, and which."""
    for node in _parse(module).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return module, node.value
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("robustmix."):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _definition(str(node.module), alias.name)
    return None


@cache
def _parse(module: str) -> ast.Module:
    """Return the syntax tree of a module of ours, without importing it."""
    package, _, file = module.rpartition(".")
    source = resources.files(package) / f"{file}.py"
    return ast.parse(source.read_text(encoding="utf-8"))
