"""The documentation: every page is in the site, every public name in its reference, and it runs."""

import ast
import doctest
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import robustmix
from robustmix import Report
from robustmix.cli.app import run
from tests.test_lazy import PACKAGES, listed
from tests.test_readme import check, parsed

ROOT = Path(robustmix.__file__).resolve().parents[1]
DOCS = ROOT / "docs"

if not (ROOT / "mkdocs.yml").exists():
    pytest.skip("the docs are not beside the tests", allow_module_level=True)


def script(name: str) -> ModuleType:
    spec = spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOKS = script("site_hooks")


def config() -> Any:
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))


# The site has all pages, and they lead somewhere


def leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for below in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from leaves(below)


def pages() -> set[str]:
    """Give all pages by their places in the site's sources."""
    written = [
        path
        for path in sorted(DOCS.rglob("*"))
        if path.suffix in (".md", ".ipynb") and ".ipynb_checkpoints" not in path.parts
    ]
    found = {HOOKS.place_in_site(path.relative_to(ROOT).as_posix()) for path in written}
    return found | {name for name in HOOKS.BESIDE if name.endswith(".md")}


def test_every_page_is_in_the_nav_once() -> None:
    named = list(leaves(config()["nav"]))
    assert sorted(named) == sorted(set(named))
    assert pages() - set(named) == set(), "give these a line under nav in mkdocs.yml"
    assert set(named) - pages() == set()


def text_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize(
    "path", [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")], ids=lambda path: path.name
)
def test_links_lead_to_files(path: Path) -> None:
    outside = "".join(part for part in HOOKS.FENCED.split(text_of(path)) if part[:3] != "```")
    links = [match[2] for match in HOOKS.LINK.finditer(outside) if ":" not in match[2]]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_site_s_own_functions_do_what_their_examples_say() -> None:
    found = doctest.testmod(HOOKS)
    assert found.attempted >= 3
    assert found.failed == 0


@pytest.mark.parametrize(
    ("text", "source", "shown"),
    [
        ("[a](how-to/a.md)", "docs/index.md", "[a](how-to/a.md)"),
        ("[a](../../CHANGELOG.md)", "docs/how-to/a.md", "[a](../CHANGELOG.md)"),
        ("[a](../notebooks/b.ipynb)", "docs/how-to/a.md", "[a](../notebooks/b.md)"),
        ("[a](#here) [b](mailto:x@y)", "docs/a.md", "[a](#here) [b](mailto:x@y)"),
        ("```\n[a](../b)\n```", "docs/a.md", "```\n[a](../b)\n```"),
    ],
)
def test_links_fit_the_site(text: str, source: str, shown: str) -> None:
    assert HOOKS.relinked(text, source) == shown


def test_pages_that_ask_other_servers_are_refused() -> None:
    page = type("Page", (), {"file": type("File", (), {"src_uri": "a.md"})})
    assert HOOKS.on_post_page('<a href="https://arxiv.org">x</a>', page, None)
    for text in (
        '<script src="https://example.org/a.js">',
        '<link rel="stylesheet" href="//example.org/a.css">',
        "<img alt=x src=http://example.org/a.png>",
    ):
        with pytest.raises(ValueError, match=r"a\.md asks another server"):
            HOOKS.on_post_page(text, page, None)
    assert config()["theme"]["font"] is False


# The reference


REFERRED = [*PACKAGES, "robustmix.recipes"]


def identifiers() -> list[str]:
    found = [
        line.removeprefix("::: ").strip()
        for path in sorted((DOCS / "api").glob("*.md"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.startswith("::: ")
    ]
    assert sorted(found) == sorted(set(found)), "a name stands twice"
    return found


def named_in(package: str) -> dict[str, str]:
    """Public name -> where it is defined; sub-packages have pages of their own."""
    if package in PACKAGES:
        return {
            name: f"{source}.{name}"
            for name, source in listed(package).items()
            if source != package
        }
    tree = ast.parse((ROOT / f"{package.replace('.', '/')}.py").read_text(encoding="utf-8"))
    for block in tree.body:
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING":
            return {
                alias.name: f"{node.module}.{alias.name}"
                for node in block.body
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }
    raise AssertionError(package)


@pytest.mark.parametrize("package", REFERRED)
def test_every_public_name_is_in_the_reference(package: str) -> None:
    missing = set(named_in(package).values()) - set(identifiers())
    assert missing == set(), "give these a line ::: in docs/api"
    assert set(named_in(package)) <= set(import_module(package).__all__)


def test_everything_that_registers_is_in_the_reference() -> None:
    tree = ast.parse((ROOT / "robustmix" / "register.py").read_text(encoding="utf-8"))
    public = {
        f"robustmix.register.{node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }
    assert len(public) > 7
    assert public <= set(identifiers())


def test_what_the_reference_names_is_there() -> None:
    for identifier in identifiers():
        module, _, name = identifier.rpartition(".")
        assert hasattr(import_module(module), name), identifier


# Results


def test_every_figure_of_the_results_is_that_of_its_file() -> None:
    results = script("results_page")
    typed, _, sections = results.PAGE.read_text(encoding="utf-8").partition("\n## ")
    assert not re.search(r"\d", typed), "a figure that nothing compares"
    told = re.findall(
        r"date of the file: (\S+)\n(?:- settings.*\n)?- all of it: `.*/(\w+)\.json`", sections
    )
    dates = {name: date for date, name in told}
    assert all(re.fullmatch(r"20\d\d-\d\d-\d\d", date) for date in dates.values())
    files = {path.stem for path in results.RESULTS.glob("*.json")}
    assert files - dates.keys() == set(), "run python scripts/results_page.py"
    assert f"## {sections}" == results.sections_text(dates), "run python scripts/results_page.py"


def test_the_script_says_what_it_does_not_know() -> None:
    results = script("results_page")
    text = results.section_text("new_gpu", {"what": "something", "machine": "a"}, "2026-01-02")
    assert text.startswith("## new_gpu\n\nSomething.\n")
    assert "command: not recorded" in text
    assert results.overhead({"ratio": {"clean": 1.0314}})[1] == ["suite `clean`", "1.031"]


# Pages run


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


RUN = {
    "index.md": {"report", "net"},
    "how-to/notebook.md": {"report", "frame", "figure", "foggy", "attacked", "logits"},
    "api/metrics.md": {"logits", "labels"},
}
"""Pages whose Python is run block after block -> names that it leaves."""


@pytest.mark.parametrize("page", RUN)
def test_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"print": lambda *_: None}
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), names)
    assert names.keys() >= RUN[page]
    if "report" in names:
        assert names["report"].content.run.status == "success"


def test_the_page_of_tables_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model, images = torch.nn.Flatten(), (torch.rand(9, 3, 1, 1), torch.arange(9) % 3)
    names: dict[str, Any] = {"robustmix": robustmix, "model": model, "dataset": images}
    (block,) = blocks("own-data.md", "python")
    exec(compile(block.replace('"corruption"', '"calibration"'), "own-data.md", "exec"), names)
    names["report"].save("runs/mine")
    said: list[str] = []
    names["print"] = said.append
    (block,) = blocks("tables.md", "python")
    of_a_report = block.replace('["method"]', '["name"]')  # which knows of no training
    exec(compile(of_a_report, "tables.md", "exec"), names)
    assert f"{100 * names['report']['clean.top1'].value:.2f}" in said[0]


def test_commands_about_recipes_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of docs/training.md; those that train want CIFAR-100."""
    monkeypatch.chdir(tmp_path)
    lines = [line for block in blocks("training.md", "sh") for line in block.splitlines()]
    lines = [line for line in lines if not line.startswith("robustmix train")]
    assert len(lines) == 6
    for line in lines:
        assert run(shlex.split(line)[1:]) == 0, line
        assert capsys.readouterr().out.strip(), line


def test_no_page_has_python_or_commands_that_nothing_runs() -> None:
    """Whoever adds a page adds a test of what is typed on it, and its name here."""
    here = {*RUN, *TYPED, "own-data.md", "tables.md", "training.md"}
    elsewhere = {
        *("ci.md", "logging.md", "models.md", "python.md", "studies.md"),
        *(f"extend/{path.name}" for path in (DOCS / "extend").glob("*.md")),
    }
    having = {
        path.relative_to(DOCS).as_posix()
        for path in DOCS.rglob("*.md")
        if re.search(r"^```(python|sh)$", path.read_text(encoding="utf-8"), re.M)
    }
    assert having - here - elsewhere == set()


TYPED = ("index.md", "how-to/table.md", "how-to/method.md", "how-to/photos.md")


def lay_out(page: str) -> None:
    """Make what the page's reader has before the first command."""
    for block in blocks(page, "python"):
        first = re.match(r"# (\w+\.py)\n", block)
        if first is not None:
            Path(first[1]).write_text(block, encoding="utf-8")
    if page == "how-to/photos.md":
        rng = np.random.default_rng(0)
        for split, count in (("train", 8), ("test", 6)):
            for k, name in enumerate(("ant", "bee")):
                folder = Path("photos") / split / name
                folder.mkdir(parents=True)
                for i in range(count):
                    pixels = rng.integers(100, size=(40, 48, 3)) + 100 * k
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


@pytest.mark.slow
@pytest.mark.parametrize("page", TYPED)
def test_commands_do_what_they_say(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lay_out(page)
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    assert len(lines) > 3
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "robustmix"
        assert run(arguments) == 0, (line, capsys.readouterr().err)
        command, printed = parsed(arguments), capsys.readouterr().out
        if command.words[0] == "check":
            assert Report.load(command.value("--baseline") or "").content.run.status == "success"
        else:
            check(command, printed)


def test_the_workflow_gives_inputs_that_the_action_has() -> None:
    (workflow,) = map(yaml.safe_load, blocks("how-to/photos.md", "yaml"))
    (step,) = [s for s in workflow["jobs"]["check"]["steps"] if "robustmix" in s["uses"]]
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    assert set(step["with"]) <= set(action["inputs"])
    assert action["inputs"]["protocol"]["default"] == "quick"  # as the page's baseline was made


def test_the_site_is_built_in_ci_as_contributors_build_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert {"mkdocs-material", "mkdocstrings", "ruff"} == {
        re.split(r"\W*[\[>=]", r)[0] for r in extras["docs"]
    }
    assert "scripts/site" in (ROOT / ".ci" / "run").read_text()
    # -q hides warnings from --strict too: a page that is nowhere in the nav would pass.
    assert "mkdocs build --strict" in (ROOT / "scripts" / "site").read_text()
