"""What stands beside the code says what is so."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import robustmix

ROOT = Path(robustmix.__file__).resolve().parents[1]

if not (ROOT / "pyproject.toml").exists():
    pytest.skip("the repository is not here", allow_module_level=True)

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_of_this_version() -> None:
    cited = read("CITATION.cff")
    assert cited["version"] == PROJECT["version"] == robustmix.__version__
    assert cited["license"] == PROJECT["license"]
    assert len({one["title"] for one in cited["references"]}) == 3
    for one in cited["references"]:
        assert one["authors"]
        assert one["url"].startswith("https://arxiv.org/abs/")


def test_pythons_that_are_claimed_are_tried() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    whole = [step["with"]["python-version"] for step in jobs["whole"]["steps"] if "with" in step]
    tried = {*whole, *jobs["tests"]["strategy"]["matrix"]["python-version"]}
    named = "Programming Language :: Python :: 3."
    claimed = {"3." + c.removeprefix(named) for c in PROJECT["classifiers"] if c.startswith(named)}
    assert claimed == tried
    assert len(tried) > 1


def test_the_workflow_runs_what_is_run_here() -> None:
    steps = read(".github/workflows/ci.yml")["jobs"]["whole"]["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()


def test_every_dependency_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text[text.index("dependencies = [") : text.index("]\n", text.index("dependencies = ["))]
    lines = block.splitlines()[1:]
    assert len(lines) == len(PROJECT["dependencies"])
    assert all(re.search(r'",\s+# \w', line) for line in lines), lines


def test_extras_that_others_install_exist() -> None:
    extras = set(PROJECT["optional-dependencies"])
    for name in (
        "Dockerfile", ".devcontainer/devcontainer.json", "CONTRIBUTING.md", "README.md",
        "docs/install.md",
    ):  # fmt: skip
        for found in re.findall(r"'\.\[([a-z,]+)\]'", (ROOT / name).read_text(encoding="utf-8")):
            assert set(found.split(",")) <= extras, name


def test_every_extra_is_explained() -> None:
    table = (ROOT / "docs" / "install.md").read_text(encoding="utf-8").split("## Extras")[1]
    told = re.findall(r"^\| `(\w[\w-]*)` \| ", table.split("\n## ")[0], re.MULTILINE)
    assert sorted(told) == sorted(PROJECT["optional-dependencies"])


def test_templates_can_be_read() -> None:
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        read(str(path.relative_to(ROOT)))
    json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert read(".pre-commit-config.yaml")["repos"][0]["hooks"][0]["entry"] == "sh scripts/check"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "README.md"])
def test_links_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    local = [link for link in links if link and not link.startswith("http")]
    assert local or name == "SECURITY.md"
    assert not [link for link in local if not (ROOT / link).exists()]
