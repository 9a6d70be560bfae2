"""The pages of docs/extend as a reader uses them: files written, commands typed, all undone."""

import contextlib
import hashlib
import html
import io
import json
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from robustmix.attacks.registry import ATTACKS
from robustmix.cli.app import run
from robustmix.corruptions.registry import CORRUPTIONS
from robustmix.data.manifests import DATASETS
from robustmix.evaluation.suites.registry import SUITES
from robustmix.methods.registry import METHODS
from robustmix.metrics.registry import METRICS
from robustmix.models.names import ARCHS
from robustmix.saliency.registry import SALIENCY
from robustmix.tables import Table, import_plugin

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "extend"
IMAGES = 60
"""Images that commands evaluate."""

TABLES: dict[str, Table[Any, Any]] = {
    table.kind: table
    for table in (SUITES, ATTACKS, METRICS, METHODS, CORRUPTIONS, ARCHS, DATASETS, SALIENCY)
}


@dataclass(frozen=True)
class Page:
    """One page of docs/extend."""

    kind: str

    @cached_property
    def _text(self) -> str:
        return (DOCS / f"{self.kind}.md").read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        return re.findall(rf"```{language}\n(.*?)```", self._text, re.DOTALL)

    @cached_property
    def files(self) -> dict[str, str]:
        """The files that a reader writes, by their names."""
        found = {}
        for block in self.blocks("python"):
            name = re.match(r"# (\w+\.py)\n", block)
            assert name is not None, "the first line of a file is its name"
            found[name[1]] = block
        manifests = [(json.loads(block)["name"], block) for block in self.blocks("json")]
        return found | {f"{name}.json": block for name, block in manifests}

    @cached_property
    def module(self) -> str:
        (name,) = (name for name in self.files if name.endswith(".py"))
        return name.removesuffix(".py")

    @property
    def version(self) -> str:
        """What reports record of the file."""
        digest = hashlib.sha256(self.files[f"{self.module}.py"].encode()).hexdigest()
        return f"sha256:{digest[:16]}"

    @property
    def origin(self) -> str:
        return f"{self.module} {self.version}"

    @cached_property
    def commands(self) -> list[str]:
        return [line for block in self.blocks("sh") for line in block.splitlines()]

    @cached_property
    def entry_points(self) -> dict[str, dict[str, str]]:
        """Group -> name -> target, as the page writes them."""
        (block,) = self.blocks("toml")
        groups: dict[str, dict[str, str]] = tomllib.loads(block)["project"]["entry-points"]
        return groups


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    out: str
    err: str
    code: int

    @property
    def rows(self) -> list[list[str]]:
        """The cells of every line of the tables, on whichever stream they are."""
        lines = (self.out + self.err).splitlines()
        return [re.split(r" {2,}", line.strip()) for line in lines]

    @property
    def told(self) -> str:
        """What tables say, broken lines joined."""
        return " ".join(self.out.split())


@dataclass(frozen=True)
class Desk:
    """A folder with the files of a page."""

    page: Page
    folder: Path

    @contextlib.contextmanager
    def bare(self) -> Iterator[None]:
        """Work in the folder without the plugin; what is registered inside is undone."""
        with contextlib.ExitStack() as stack:
            for table in TABLES.values():
                stack.enter_context(table.temporary())
            stack.enter_context(contextlib.chdir(self.folder))
            try:
                yield
            finally:
                for name, module in list(sys.modules.items()):
                    if str(getattr(module, "__file__", "")).startswith(str(self.folder)):
                        del sys.modules[name]

    @contextlib.contextmanager
    def plugged(self) -> Iterator[None]:
        """Work in the folder with the plugin."""
        with self.bare():
            import_plugin(f"{self.page.module}.py")
            yield

    def report(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / name / "report.json").read_text())
        return found


def typed(line: str) -> Said:
    """Run a command line as it is written, on fewer images."""
    program, *arguments = shlex.split(line)
    assert program == "robustmix"
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*arguments[:1], *_smaller(arguments), *arguments[1:]])
    return Said(out.getvalue(), err.getvalue(), code)


def _smaller(arguments: list[str]) -> list[str]:
    command = " ".join(arguments[:2])
    if command.startswith("eval") and "--help" not in arguments:
        return ["--limit", str(IMAGES), "--progress", "none"]
    if command.startswith("train"):
        return ["--limit-train", "96", "--set", "limit_val=20", "--progress", "none"]
    return []


def captioned(page: str) -> dict[str, list[list[str]]]:
    """Read the tables of an HTML page: caption -> rows of cells."""
    found = {}
    page = page.replace("<wbr>", "")  # where a long name may be broken
    for caption, table in re.findall(r"<caption>(.*?)</caption>(.*?)</table>", page, re.DOTALL):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
        cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
        found[html.unescape(caption)] = [[html.unescape(cell) for cell in row] for row in cells]
    return found
