"""Method cards: what a method does and what its options mean, read from its source.

The text stands where the code stands: in the docstring of the method's class or of its module, and
under each field of its config class. Reading it needs neither the module's imports nor torch.
"""

import ast
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec, resolve_name
from itertools import takewhile
from typing import Any, TypeAlias, cast

from robustmix.methods.registry import METHODS, config_class

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
    """``verified`` or ``untested``, as in ``METHODS``."""

    passes: float
    """One step in forward passes of the backbone; a full backward pass counts two."""

    paper: str
    does: str
    cost: str
    """``passes`` in words."""

    deviations: str
    """What differs from the paper, and why; empty if there is no paper."""

    parameters: tuple[Parameter, ...]
    origin: str = ""
    """Module and version of a foreign method; empty for robustmix's own."""

    uses: tuple[RecipeUse, ...] = ()
    """By data set and architecture, all of them; without recipes there are none."""


def method_card(name: str, presets: Mapping[str, Mapping[str, object]] | None = None) -> MethodCard:
    """Return the card of a training method.

    Args:
        name: a key of ``METHODS``.
        presets: recipes by name, as TOML holds them (``robustmix.training.catalogue.Row.as_toml``);
            those of other methods are ignored.

    Raises:
        UsageError: there is no such method.
        IntakeError: it is foreign and cannot be imported.

    Example:
        >>> card = method_card("manifoldmix")
        >>> card.passes, [(p.name, p.type, p.default) for p in card.parameters]
        (3, [('alpha', 'float', 2.0), ('loss', '', 'ce')])
    """
    row = METHODS.row(name)
    if isinstance(row.target, str):
        module, _, method = row.target.partition(":")
    else:
        module, method = row.target.__module__, cast(Any, row.target).__name__
    text = card_sections(_docstring(module, method)) or card_sections(_docstring(module))
    parameters = config_parameters(module, method)
    if not parameters and row.origin is not None:  # its source tells nothing, it is imported anyway
        parameters = tuple(
            Parameter(name=key, type=type(value).__name__, default=value, meaning="")
            for key, value in asdict(config_class(name)()).items()
        )
    return MethodCard(
        name=name,
        summary=row.help,
        status=row.status,
        passes=row.cost,
        paper=text.get("Paper", row.paper),
        does=text.get("Does", ""),
        cost=text.get("Cost", f"{row.cost:g} forward passes a step."),
        deviations=text.get("Deviations", ""),
        parameters=parameters,
        origin="" if row.origin is None else str(row.origin),
        uses=recipe_uses(name, {p.name: p.default for p in parameters}, presets or {}),
    )


def _docstring(module: str, name: str = "") -> str:
    """Return the docstring of a module or of a class of it; empty if there is none."""
    node = _class(module, name)[1] if name else _parse(module)
    return (node and ast.get_docstring(node)) or ""


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


def config_parameters(module: str, method: str) -> tuple[Parameter, ...]:
    """Return the options of a method: the fields of the dataclass that its ``config`` is.

    Args:
        module: where the method is; it is not imported.
        method: its class.
    """
    module, node = _class(module, method)
    for field in node.body if node else ():
        if isinstance(field, ast.AnnAssign) and ast.unparse(field.target) == "config":
            return tuple(_fields(module, ast.unparse(field.annotation).strip("'\"")).values())
    return ()


def _fields(module: str, name: str) -> dict[str, Parameter]:
    """Return the fields of a dataclass, those of its bases first, by their names."""
    module, node = _class(module, name)
    found: dict[str, Parameter] = {}
    if node is None:
        return found
    for base in node.bases:
        found |= _fields(module, ast.unparse(base))
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or field.value is None:
            continue
        key = ast.unparse(field.target)
        choices = _choices(module, field.annotation)
        meaning = _string(after)
        if not meaning and key in found:  # another default; what it means stands at the base
            meaning = found[key].meaning
        found[key] = Parameter(
            name=key,
            type="" if choices else ast.unparse(field.annotation),
            default=_value(module, field.value),
            meaning=meaning,
            choices=choices,
        )
    return found


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
    """Return the value of a literal or of a named constant; of anything else, the expression."""
    if isinstance(node, ast.Name) and (found := _definition(module, node.id)):
        return _value(*found)
    try:
        value: Value = ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
    return value


def _definition(module: str, name: str) -> tuple[str, ast.expr] | None:
    """Return the expression that a module or one it imports from gives to ``name``, and which."""
    module, node = _statement(module, name)
    if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
        return module, node.value
    return None


def _class(module: str, name: str) -> tuple[str, ast.ClassDef | None]:
    """Return the class that a module or one it imports from calls ``name``, and that module."""
    module, node = _statement(module, name)
    return module, node if isinstance(node, ast.ClassDef) else None


def _statement(module: str, name: str) -> tuple[str, ast.stmt | None]:
    """Return the statement that defines ``name``, and the module where it stands.

    Imports are followed within the package only: elsewhere there is no text for a card.
    """
    for node in _parse(module).body:
        if name in _names(node):
            return module, node
        if isinstance(node, ast.ImportFrom):
            package = module.rpartition(".")[0]
            source = resolve_name("." * node.level + (node.module or ""), package)
            if source.partition(".")[0] not in (module.partition(".")[0], "robustmix"):
                continue
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return _statement(source, alias.name)
    return module, None


def _names(node: ast.stmt) -> list[str]:
    """Return the names that a statement defines, if it is an assignment or a class."""
    if isinstance(node, ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


@cache
def _parse(module: str) -> ast.Module:
    """Return the syntax tree of a module without importing it; empty if it has no source."""
    try:
        loader = cast(Any, find_spec(module)).loader
        return ast.parse(loader.get_source(module) or "")
    except (ImportError, ValueError, AttributeError):
        # Made by hand, or in an interactive session: the method trains, its card has less to say.
        return ast.parse("")
