"""The packaged recipes: one file a data set, from which the settings of a row are composed.

A file in ``recipes/`` is read top to bottom. ``[rows]`` names what is published: architectures,
methods and lengths, each with its source; those of ``[rows.extrapolated]`` have no configuration
behind them, those of ``[rows.needs]`` cannot be trained here yet. Every other section sets keys of
the recipe where it applies, later sections over earlier ones:

    ["resnet18 resnet34 / cutmix fmix / 300"]   architectures / methods / lengths or variants
    ["method.alpha by method"]                  one key, its value for each of several selectors

``*`` is any, ``@transformer`` a group that the file names, ``!resnet18`` all but this.
Nothing here needs torch or checks a value.
"""

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from robustmix.data.manifests import DATASETS
from robustmix.errors import UsageError, nearest
from robustmix.methods.registry import METHODS
from robustmix.models.names import ARCHS
from robustmix.text import shortened

DEFAULT_DATASET, DEFAULT_ARCH, DEFAULT_METHOD = "cifar100", "resnet18", "vanilla"

_BY = " by method"
_LIBRARIES = ("timm:", "torchvision:")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What chooses a recipe; all else of it follows, or is given besides."""

    dataset: str = DEFAULT_DATASET
    """Name of a data set, or ``folder:PATH``."""

    arch: str | None = None
    """None: the first that the data set's file names."""

    method: str = DEFAULT_METHOD
    epochs: int | None = None
    """None: the length that the data set's file says."""

    variant: str | None = None
    """Another published setting of the same row, e.g. ``log``."""

    protocol_of: str | None = None
    """Data set whose protocol is followed, if not ``dataset``'s own."""

    @property
    def file(self) -> str | None:
        """The data set whose recipe file decides, or None if there is none."""
        name = self.protocol_of or self.dataset
        return name if name in recipe_files() else None


@dataclass(frozen=True)
class Setting:
    """A value, and where it comes from."""

    value: Any
    origin: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published row: what a name without further options trains."""

    dataset: str
    arch: str
    method: str
    epochs: int
    variant: str | None
    source: str
    extrapolated: str | None
    """Why no published configuration stands behind its settings; None if one does."""

    needs: str | None
    """What training it lacks here; None if nothing."""

    default_epochs: int
    """Length of the name without a length."""

    @property
    def name(self) -> str:
        """E.g. ``cifar100-resnet18-automix-800``."""
        parts = [self.dataset, self.arch, self.method]
        if self.variant is not None:
            parts.append(self.variant)
        elif self.epochs != self.default_epochs:
            parts.append(str(self.epochs))
        return "-".join(parts)

    def as_toml(self) -> dict[str, Any]:
        """Return what the packaged files say of the row, as a recipe file would hold it."""
        file = _recipe_file(self.dataset)
        found: dict[str, Any] = {
            "dataset": self.dataset,
            "arch": self.arch,
            "extrapolated": self.extrapolated is not None,
            "method": {"name": self.method},
        }
        settings = _applied(file, self.arch, self.method, self.epochs, self.variant)
        for key, setting in settings.items():
            head, _, tail = key.partition(".")
            if tail:
                found.setdefault(head, {})[tail] = setting.value
            else:
                found[head] = setting.value
        return found | {"epochs": self.epochs}


@dataclass(frozen=True)
class _Selector:
    """Where a section applies."""

    archs: tuple[str, ...]
    methods: tuple[str, ...]
    which: tuple[str, ...]
    """Lengths and variants; none for all."""

    def fits(self, arch: str, method: str, epochs: int | None, variant: str | None) -> bool:
        if self.which and not {variant, None if epochs is None else str(epochs)} & {*self.which}:
            return False
        return _among(arch, self.archs) and _among(method, self.methods)


@dataclass(frozen=True)
class _Section:
    selector: _Selector
    settings: Mapping[str, Setting]


@dataclass(frozen=True, kw_only=True)
class _RecipeFile:
    title: str
    arch: str | None
    sections: tuple[_Section, ...]
    rows: tuple[tuple[_Selector, tuple[int, ...], Mapping[str, Any]], ...]


def recipe_files() -> frozenset[str]:
    """Return the data sets that have a recipe file."""
    return frozenset(_texts()) - {"papers"}


def list_rows() -> tuple[Row, ...]:
    """Return all published rows, in the order of their names."""
    return tuple(sorted(_rows().values(), key=lambda row: row.name))


def list_recipes() -> dict[str, str]:
    """Return the packaged recipes: name -> description, sorted by name.

    Example:
        >>> list_recipes()["cifar100-resnet18-automix-800"]
        'automix, resnet18 on CIFAR-100, 800 epochs'
    """
    return {row.name: describe(row) for row in list_rows()}


def describe(row: Row) -> str:
    """Return what a row trains, in words."""
    title = _recipe_file(row.dataset).title
    variant = "" if row.variant is None else f" ({row.variant})"
    return f"{row.method}{variant}, {row.arch} on {title}, {row.epochs} epochs"


def find_row(selection: Selection, epochs: int) -> Row | None:
    """Return the published row of a selection, if there is one."""
    file = selection.protocol_of or selection.dataset
    key = (file, selection.arch, selection.method, epochs, selection.variant)
    return _rows().get(key)


def parse_name(name: str) -> Selection:
    """Return what a name such as ``cifar100-resnet18-automix-800`` selects.

    Raises:
        UsageError: it is not ``DATASET-ARCH-METHOD[-EPOCHS|-VARIANT]``, or a part does not exist.

    Example:
        >>> parse_name("cifar100-resnet18-co-mixup").method
        'co-mixup'
    """
    for dataset in _longest_first([*recipe_files(), *DATASETS]):
        rest = name.removeprefix(f"{dataset}-")
        if rest == name:
            continue
        for method, end in _methods_in(rest):
            arch = rest[: -len(f"-{method}{end}")]
            if arch not in ARCHS and not arch.startswith(_LIBRARIES):
                continue
            selection = Selection(dataset=dataset, arch=arch, method=method)
            if not end:
                return selection
            if end[1:].isdecimal():
                return replace(selection, epochs=int(end[1:]))
            return replace(selection, variant=end[1:])
    raise _unknown_recipe(name)


def _unknown_recipe(name: str) -> UsageError:
    parts = {"dataset": set(DATASETS), "arch": set(ARCHS), "method": set(METHODS)}
    part = next((what for what, known in parts.items() if name in known), None)
    near = nearest(name, list_recipes(), likeness=0.6)
    if (Path(name) / "recipe.toml").is_file():
        hint = f"a folder is no recipe; its own is {Path(name) / 'recipe.toml'}"
    elif part is not None:
        hint = f"write --{part} {name}; `robustmix recipes list --{part} {name}` names its recipes"
    elif near is not None:
        hint = f"did you mean '{near}'?"
    else:
        hint = "`robustmix recipes list` names them, as DATASET-ARCH-METHOD"
    return UsageError(f"unknown recipe '{shortened(name, 100)}'", hint, code="E-UNKNOWN-RECIPE")


def _methods_in(rest: str) -> Iterator[tuple[str, str]]:
    """Yield each method that ``ARCH-METHOD`` or ``ARCH-METHOD-END`` may mean, with its end."""
    for method in _longest_first(METHODS):
        found = re.fullmatch(rf"[^/]+?-{re.escape(method)}(-[a-z0-9][a-z0-9-]*)?", rest)
        if found:
            yield method, found[1] or ""


def compose(selection: Selection) -> dict[str, Setting]:
    """Return what the packaged files say of a selection, by dotted key, with origins.

    Without a file there is nothing but the selection itself.

    Raises:
        UsageError: the row is published but cannot be trained here, or there is no such variant.
    """
    dataset = selection.file
    known = None if dataset is None else _recipe_file(dataset)
    arch = selection.arch or (known.arch if known else None) or DEFAULT_ARCH
    found: dict[str, Setting] = {}
    epochs = selection.epochs
    if known is not None:
        # A length that is selected chooses sections; one that is not is itself set by a section.
        if epochs is None:
            epochs = _usual_epochs(known, arch, selection.method, selection.variant)
        found = _applied(known, arch, selection.method, epochs, selection.variant)
    selected = "what was selected"
    found |= {
        "dataset": Setting(selection.dataset, selected),
        "arch": Setting(arch, selected if selection.arch else "default of the data set"),
        "method.name": Setting(selection.method, selected),
    }
    if selection.epochs is not None:
        found["epochs"] = Setting(selection.epochs, selected)
    if selection.protocol_of is not None:
        found["protocol_of"] = Setting(selection.protocol_of, selected)
    return found | _standing(replace(selection, arch=arch), epochs)


def _standing(selection: Selection, epochs: int | None) -> dict[str, Setting]:
    """Return what kind of recipe it is: published or not, and what it is called."""
    row = None if epochs is None else find_row(selection, epochs)
    found: dict[str, Setting] = {}
    if selection.variant is not None:
        alike = _variants(selection).get(selection.variant)
        if alike is None:
            raise _unknown_variant(selection)
        _check_needs(alike)
        found["variant"] = Setting(selection.variant, "what was selected")
    if row is None:
        return found | {"extrapolated": Setting(True, "no published row")}
    _check_needs(row)
    found["description"] = Setting(describe(row), row.source or str(row.extrapolated))
    if row.extrapolated is not None:
        found["extrapolated"] = Setting(True, row.extrapolated)
    return found


def _check_needs(row: Row) -> None:
    if row.needs is not None:
        raise UsageError(
            f"recipe {row.name} cannot be trained here: it needs {row.needs}",
            "see robustmix recipes list",
            code="E-RECIPE",
        )


def _variants(selection: Selection) -> dict[str, Row]:
    """Return the variants of a selection's data set, architecture and method, of any length."""
    chosen = (selection.file, selection.arch, selection.method)
    return {
        row.variant: row
        for row in list_rows()
        if row.variant is not None and (row.dataset, row.arch, row.method) == chosen
    }


def _unknown_variant(selection: Selection) -> UsageError:
    name = f"{selection.dataset}-{selection.arch}-{selection.method}"
    known = ", ".join(sorted(_variants(selection)))
    return UsageError(
        f"recipe {name} has no variant '{selection.variant}'",
        f"there is {known}" if known else f"leave it out: {name}",
        code="E-RECIPE",
    )


def _applied(
    file: _RecipeFile, arch: str, method: str, epochs: int | None, variant: str | None
) -> dict[str, Setting]:
    found: dict[str, Setting] = {}
    for section in file.sections:
        if section.selector.fits(arch, method, epochs, variant):
            found |= section.settings
    return {
        key: replace(item, value=item.value.replace("{arch}", arch))
        if isinstance(item.value, str)
        else item
        for key, item in found.items()
    }


@functools.cache
def _rows() -> Mapping[tuple[str, str | None, str, int, str | None], Row]:
    """Return every row by (data set, architecture, method, length, variant)."""
    found: dict[tuple[str, str | None, str, int, str | None], Row] = {}
    for dataset in sorted(recipe_files()):
        file = _recipe_file(dataset)
        for selector, lengths, told in file.rows:
            for arch in selector.archs:
                for method in selector.methods:
                    plain = _usual_epochs(file, arch, method)
                    for epochs in lengths:
                        row = Row(
                            dataset=dataset,
                            arch=arch,
                            method=method,
                            epochs=epochs,
                            variant=selector.which[0] if selector.which else None,
                            default_epochs=plain,
                            **told,
                        )
                        found[dataset, arch, method, epochs, row.variant] = row
    return found


def _usual_epochs(file: _RecipeFile, arch: str, method: str, variant: str | None = None) -> int:
    """Return the length of a name without one; every recipe file sets it."""
    for section in reversed(file.sections):  # the last that applies holds
        if "epochs" in section.settings and section.selector.fits(arch, method, None, variant):
            return int(section.settings["epochs"].value)
    return 0


@functools.cache
def _recipe_file(name: str) -> _RecipeFile:
    values = tomllib.loads(_texts()[name])
    notes = _comments(_texts()[name])
    title, arch = str(values.pop("title", name)), values.pop("arch", None)
    below = values.pop("uses", None)
    groups = {key: tuple(str(v).split()) for key, v in values.pop("groups", {}).items()}
    rows = values.pop("rows", {})
    sections: list[_Section] = []
    if below is not None:
        shared = tomllib.loads(_texts()[below])
        groups |= {key: tuple(str(v).split()) for key, v in shared.pop("groups", {}).items()}
        sections += _sections(shared, below, groups, _comments(_texts()[below]))
    sections += _sections(values, name, groups, notes)
    read = [
        (*_row_selector(key, groups), {"source": "", "extrapolated": None, "needs": None, **told})
        for key, told in _told(rows)
    ]
    first = read[0][0].archs[0] if read else None
    return _RecipeFile(title=title, arch=arch or first, sections=tuple(sections), rows=tuple(read))


def _told(rows: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    kinds: tuple[Literal["extrapolated", "needs"], ...] = ("extrapolated", "needs")
    for key, value in rows.items():
        if key not in kinds:
            yield key, {"source": value}
    for kind in kinds:
        for key, why in rows.get(kind, {}).items():
            yield key, {kind: why}


def _comments(text: str) -> dict[tuple[str, str], str]:
    """Return what stands behind the values of a recipe file: their sources, by header and key."""
    found: dict[tuple[str, str], str] = {}
    header = ""
    for line in text.splitlines():
        table = re.fullmatch(r'\["?([^"\]]+)"?\]', line)
        if table:
            header = table[1]
        entry = re.fullmatch(r'"?([^"=]+?)"? = .*?  # (.+)', line)
        if entry:
            found[header, entry[1]] = entry[2]
    return found


def _row_selector(
    key: str, groups: Mapping[str, tuple[str, ...]]
) -> tuple[_Selector, tuple[int, ...]]:
    archs, methods, lengths, *variant = (part.split() for part in key.split("/"))
    chosen = _Selector(
        _expanded(archs, groups), _expanded(methods, groups), tuple(variant[0] if variant else ())
    )
    return chosen, tuple(map(int, lengths))


def _sections(
    values: Mapping[str, Any],
    file: str,
    groups: Mapping[str, tuple[str, ...]],
    notes: Mapping[tuple[str, str], str],
) -> Iterator[_Section]:
    def origin(header: str, key: str, more: str = "") -> str:
        note = notes.get((header, key), "")
        return f"{file}.toml [{header}]{more}" + (f": {note}" if note else "")

    for header, body in values.items():
        if header.endswith(_BY):
            key = header.removesuffix(_BY)
            for chosen, value in body.items():
                where = chosen if "/" in chosen else f"* / {chosen}"
                setting = Setting(value, origin(header, chosen, f" {chosen}"))
                yield _Section(_selector(where, groups), {key: setting})
            continue
        settings = {key: Setting(value, origin(header, key)) for key, value in flat(body).items()}
        yield _Section(_selector(header, groups), settings)


def _selector(text: str, groups: Mapping[str, tuple[str, ...]]) -> _Selector:
    archs, methods, which = [*(part.split() for part in text.split("/")), ["*"], ["*"]][:3]
    return _Selector(
        _expanded(archs, groups),
        _expanded(methods, groups),
        () if which == ["*"] else tuple(which),
    )


def _expanded(words: Sequence[str], groups: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return names for the groups among ``words``, ``!`` before each where it stood before one."""
    found: list[str] = []
    for word in words:
        mark, name = ("!", word[1:]) if word.startswith("!") else ("", word)
        names = groups[name[1:]] if name.startswith("@") else (name,)
        found += [mark + one for one in names]
    return tuple(found)


def _among(name: str, words: Sequence[str]) -> bool:
    if all(word.startswith("!") for word in words):
        return f"!{name}" not in words
    return "*" in words or name in words


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return a nested table with dotted keys.

    Example:
        >>> flat({"lr": 0.1, "method": {"alpha": 1}})
        {'lr': 0.1, 'method.alpha': 1}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found


def _longest_first(names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    return sorted(names, key=lambda name: (-len(name), name))


@functools.cache
def _texts() -> Mapping[str, str]:
    folder = resources.files("robustmix.training") / "recipes"
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in folder.iterdir()
        if entry.name.endswith(".toml")
    }
