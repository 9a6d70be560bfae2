"""Tables of names: what there is of a kind, said once, and known before anything is imported.

A folder has one table, ``name -> "module:object"`` with a line of help, so that listing and helping
import nothing heavy. What others add is in the same table: packages that are installed by entry
points of the group ``robustmix.<kinds>``; files and modules by ``--import``, or by
``robustmix.register``.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar, cast

from robustmix.errors import IntakeError, RobustmixError, UsageError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where a foreign thing comes from, as reports and checkpoints record it."""

    module: str
    """Its module, or the name of its file."""

    version: str
    """Of the package it is in; ``sha256:...`` of the file where there is none."""

    def __str__(self) -> str:
        return f"{self.module} {self.version}"


@dataclass(frozen=True)
class Row:
    """One name of a table; kinds that must say more before they are imported add fields."""

    target: object
    """``"package.module:name"``, imported on first use, or the thing itself."""

    help: str = ""
    """What it is, in one line; of foreign things the first line of their docstring."""

    origin: Origin | None = None
    """None for what robustmix brings itself."""


Thing = TypeVar("Thing")
RowType = TypeVar("RowType", bound=Row)


class Table(Mapping[str, Thing], Generic[Thing, RowType]):
    """What there is of a kind: a mapping from names to things, imported one by one on use.

    Args:
        kind: the kind in the singular, e.g. ``attack``; its entry points are of the group
            ``robustmix.attacks``.
        row: type of the rows, whose fields a third party may give.
        rows: robustmix's own, in the order they are listed.
        plural: of the kind, where it is not made with an s.
        reserved: names that mean something else where this kind is asked for, such as ``all``.
        adapt: (name, row, what was imported) -> the thing as callers know it, where plainer forms
            of it may be registered too; or ``"package.module:name"`` of such a function.
    """

    def __init__(
        self,
        kind: str,
        row: type[RowType],
        rows: Mapping[str, RowType],
        *,
        plural: str = "",
        reserved: Iterable[str] = (),
        adapt: Callable[[str, RowType, object], Thing] | str | None = None,
    ) -> None:
        self.kind = kind
        self.group = f"robustmix.{plural or kind + 's'}"
        self._row = row
        self._rows: dict[str, RowType] = dict(rows)
        self._reserved = frozenset(reserved)
        self._adapt = adapt
        self._searched = False
        self.refused: list[str] = []
        """Installed packages' names that clash with others, in words."""

    def __getitem__(self, name: str) -> Thing:
        if self._find(name) is None:
            raise KeyError(name)
        row = self._opened(name)
        thing = _imported(row.target, self.kind, name)
        if self._adapt is None:
            return cast(Thing, thing)
        if isinstance(self._adapt, str):
            self._adapt = cast(Callable[..., Thing], _imported(self._adapt, self.kind, name))
        return self._adapt(name, row, thing)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        self._search()
        return iter(self._rows)

    def __len__(self) -> int:
        self._search()
        return len(self._rows)

    def load(self, name: str, *, code: str = "") -> Thing:
        """Return the thing called ``name``, imported.

        Raises:
            UsageError: there is none; the nearest name is suggested.
            IntakeError: it is foreign and cannot be imported.
        """
        return self[self.checked(name, code=code)]

    def checked(self, name: str, *, code: str = "") -> str:
        """Return ``name`` if the table has it.

        Raises:
            UsageError: it does not; the nearest name is suggested.
        """
        if name not in self:
            raise unknown_name(self.kind, name, self, code=code)
        return name

    def row(self, name: str) -> RowType:
        """Return what is known of a name without importing it; foreign ones may be imported.

        Raises:
            UsageError: there is no such name.
        """
        return self._opened(self.checked(name))

    def rows(self) -> dict[str, RowType]:
        """Return every row, foreign ones last; one that cannot be imported says so in its help."""
        found = {}
        for name in self:
            try:
                found[name] = self.row(name)
            except RobustmixError as error:
                found[name] = replace(self._rows[name], help=error.message)
        return found

    def target(self, name: str) -> object:
        """Give what a name stands for as it was said: ``"module:name"`` or the thing; no import.

        Raises:
            UsageError: there is no such name.
        """
        return self._rows[self.checked(name)].target

    def origin(self, name: str) -> Origin | None:
        """Return where a name comes from; None for robustmix's own and for unknown ones."""
        row = self._find(name)
        return None if row is None else row.origin

    def register(self, name: str, target: object, help: str = "", **facts: Any) -> None:
        """Add a name.

        Args:
            name: what it is called everywhere: letters, digits, ``_``, ``-`` and ``.``.
            target: the thing, or ``"package.module:name"``.
            help: what it is, in one line; by default the first line of its docstring.
            facts: further fields of the table's rows.

        Raises:
            UsageError: the name is taken or none, or a fact is not one of the kind's.
        """
        if not name or not all(c.isalnum() or c in "_-." for c in name):
            raise UsageError(f"'{name}' is no name for a {self.kind}", "use letters, digits, _ - .")
        if name in self._reserved or (name in self and not self._said_before(name, target)):
            raise self._taken(name)
        try:
            row = self._row(target, help, self.origin(name) or _origin_of(target), **facts)
        except TypeError as error:
            # Python's words for a keyword that there is not, which the facts' names explain.
            known = [
                f.name for f in fields(self._row) if f.name not in ("target", "help", "origin")
            ]
            raise UsageError(
                f"{self.kind} '{name}' cannot be registered: {error}",
                f"its facts are {', '.join(known)}" if known else "it has no facts",
                code="E-REGISTER",
            ) from None
        self._rows[name] = row

    def put(self, name: str, row: RowType) -> None:
        """Add a row, or replace it, under a name whose form the caller answers for."""
        self._rows[name] = row

    @contextlib.contextmanager
    def temporary(self) -> Iterator[None]:
        """Undo on leaving what is registered inside, for tests."""
        self._search()  # else what is installed would be found inside, and forgotten on leaving
        kept = dict(self._rows)
        try:
            yield
        finally:
            self._rows = kept

    def _find(self, name: str) -> RowType | None:
        if name not in self._rows:
            self._search()
        return self._rows.get(name)

    def _said_before(self, name: str, target: object) -> bool:
        """Tell whether an entry point names the very thing that its module registers.

        So one file serves both ways: given to ``--import``, and in a package that is installed.
        """
        module, of = getattr(target, "__module__", ""), getattr(target, "__qualname__", "")
        known = self._rows[name]
        return known.origin is not None and known.target == f"{module}:{of}"

    def _opened(self, name: str) -> RowType:
        """Return a row with its help and facts, for which foreign things may be imported.

        An entry point is a name and nothing more; to give facts it names a row of the table.
        """
        row = self._rows[name]
        if not row.help:
            thing = _imported(row.target, self.kind, name)
            row = self._rows[name]  # which its module may have registered meanwhile, with facts
            if isinstance(thing, self._row):
                row = replace(thing, origin=row.origin)
                thing = _imported(row.target, self.kind, name)
            row = self._rows[name] = replace(row, help=row.help or _first_line(thing))
        return row

    def _search(self) -> None:
        """Add what installed packages offer; only their metadata are read."""
        if self._searched:
            return
        self._searched = True
        for point in metadata.entry_points(group=self.group):
            version = point.dist.version if point.dist else "unknown"
            if point.name in self._rows or point.name in self._reserved:
                self.refused.append(f"{point.name} of {point.module} {version}: the name is taken")
                continue
            origin = Origin(module=point.module, version=version)
            self._rows[point.name] = self._row(point.value, "", origin)

    def _taken(self, name: str) -> UsageError:
        origin = self._rows[name].origin if name in self._rows else None
        owner = "robustmix itself" if origin is None else str(origin)
        return UsageError(
            f"{self.kind} '{name}' exists already, from {owner}",
            "choose another name",
            code="E-NAME-TAKEN",
        )


def _imported(target: object, kind: str, name: str) -> object:
    if not isinstance(target, str):
        return target
    module, _, path = target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
        return found
    except Exception as error:
        if module.startswith("robustmix."):
            raise  # a fault of ours is no plugin's
        raise IntakeError(
            f"{kind} '{name}' cannot be imported from {module} ({type(error).__name__}: {error})",
            f"mend or uninstall {module.partition('.')[0]}",
            code="E-PLUGIN",
        ) from error


def _first_line(thing: object) -> str:
    inner = getattr(thing, "func", thing)  # of a partial, the function
    # An object made by our own class has that class's docstring, which says nothing of it.
    own = inspect.isroutine(inner) or inspect.isclass(inner) or not _is_part(type(inner).__module__)
    text = (inner.__doc__ or "") if own else ""
    return text.strip().partition("\n")[0] or "(no docstring)"


def _is_part(module: str) -> bool:
    """Tell whether a module is one whose functions and classes others make their things of."""
    return module.partition(".")[0] in ("robustmix", "builtins", "functools")


def _origin_of(target: object) -> Origin:
    """Return where a thing that is registered comes from."""
    name = target.partition(":")[0] if isinstance(target, str) else _module_of(target)
    if _is_part(name):
        name = _registering_module()
    for distribution in _distributions().get(name.partition(".")[0], ()):
        return Origin(module=name, version=metadata.version(distribution))
    try:
        path = Path(getattr(sys.modules[name], "__file__", None) or "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (KeyError, OSError):  # not imported yet, or typed into an interpreter
        return Origin(module=name, version="unknown")
    return Origin(module=path.stem if name == "__main__" else name, version=f"sha256:{digest[:16]}")


def _registering_module() -> str:
    """Return the first module up the stack that is not of robustmix."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] != "robustmix":
            return name
        frame = frame.f_back
    return "__main__"


@cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _module_of(target: object) -> str:
    inner = getattr(target, "func", target)  # of a partial, the function's
    return str(getattr(inner, "__module__", None) or type(inner).__module__)


def import_plugin(where: str) -> None:
    """Import a Python file or a module, which registers what it adds.

    Args:
        where: ``my_suite.py``, or the name of a module that can be imported.

    Raises:
        UsageError: there is no such file or module.
        IntakeError: it raises while it is imported.
    """
    path = Path(where)
    is_file = path.suffix == ".py" or path.is_file()
    if is_file and not path.is_file():
        raise _nothing_to_import(where)
    try:
        if is_file:
            _import_file(path.resolve())
        else:
            importlib.import_module(where)
    except RobustmixError:
        raise
    except (Exception, SystemExit) as error:  # scripts without a main guard exit
        if isinstance(error, ModuleNotFoundError) and not is_file and _is_above(error.name, where):
            raise _nothing_to_import(where) from None
        raise IntakeError(
            f"{where} raised while it was imported ({type(error).__name__}: {error})",
            "mend it, or leave --import out",
            code="E-PLUGIN",
        ) from error


def _is_above(missing: str | None, where: str) -> bool:
    """Tell whether the module that was not found is the one asked for, or a package above it."""
    return f"{where}.".startswith(f"{missing}.")


def _nothing_to_import(where: str) -> UsageError:
    return UsageError(
        f"there is no file or module {where} to import",
        "give a Python file, or a module that is installed",
        code="E-IMPORT",
    )


def _import_file(path: Path) -> None:
    name = path.stem
    if name in sys.modules or name in _distributions():  # never in place of another module
        name = f"{name}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    for known in (path.stem, name):
        if getattr(sys.modules.get(known), "__file__", None) == str(path):
            return  # imported already; what it registers is there
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ImportError("it is not a Python file")
    module = importlib.util.module_from_spec(specification)
    # Before it runs, so that classes in it can be pickled and found by their module.
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def plugins(used: Iterable[tuple["Table[Any, Any]", str]]) -> list[dict[str, str]]:
    """Return what of this is foreign, as checkpoints and reports record it.

    Args:
        used: tables, and a name of each.

    Returns:
        ``kind``, ``name``, ``module`` and ``version`` of each foreign thing.
    """
    return [
        {"kind": table.kind, "name": name, "module": origin.module, "version": origin.version}
        for table, name in used
        if (origin := table.origin(name)) is not None
    ]


def require_plugins(
    recorded: Iterable[Mapping[str, str]], tables: Iterable["Table[Any, Any]"]
) -> list[str]:
    """Check that the foreign things that a checkpoint records are there.

    Args:
        recorded: as ``plugins`` gives them.
        tables: those that are needed; other kinds are passed over.

    Returns:
        Warnings of things that come from elsewhere now, or from another version.

    Raises:
        IntakeError: one is not there; where it came from is said.
    """
    warnings = []
    by_kind = {table.kind: table for table in tables}
    for plugin in recorded:
        kind, name = plugin["kind"], plugin["name"]
        if kind not in by_kind:
            continue
        before = Origin(module=plugin["module"], version=plugin["version"])
        if name not in by_kind[kind]:
            _, own, code = name.partition("module:")  # of a user, see models.own_code
            typed = f"--arch module:{'PATH/' if '.py:' in code else ''}{code}" if own else ""
            raise IntakeError(
                f"{kind} '{name}' came from module {before.module} version {before.version}",
                f"say where it is: {typed}" if typed else "import it with --import FILE_OR_MODULE",
                code="E-NO-PLUGIN",
            )
        now = by_kind[kind].origin(name)
        if now != before:
            warnings.append(
                f"W-PLUGIN: {kind} '{name}' came from {before}, now from {now or 'robustmix'}"
            )
    return warnings
