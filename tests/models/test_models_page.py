"""The page docs/models.md: what it shows is written, typed and does what it says."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from robustmix.cli.app import run
from robustmix.models.dialects import DIALECTS
from robustmix.models.load import load_model
from robustmix.models.names import ARCHS, split_stem
from tests.models.hub_server import COMMIT, hub

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
HUB = "timm/resnet18.a1_in1k"
"""What the page names; a small network stands for it here, of the digits' classes."""


@pytest.fixture(scope="module")
def text() -> str:
    if not PAGE.exists():
        pytest.skip("the page is not beside the tests")
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    with ARCHS.temporary():
        yield
    for name in set(sys.modules) - modules:
        if name.startswith("own_code_"):
            del sys.modules[name]


def served() -> dict[str, bytes]:
    net = load_model("timm:test_resnet", num_classes=10, input_size=(3, 32, 32)).net
    published = {"input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    config = {"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": published}
    return {
        f"{HUB}/config.json": json.dumps(config).encode(),
        f"{HUB}/model.safetensors": save(dict(net.state_dict())),
    }


def test_the_commands_of_the_page(
    text: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (source,) = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL)
    Path(source[0]).write_text(source[1])
    own = load_model("module:nets.py:small", input_size=(3, 32, 32), norm_preset="half")
    torch.save({"state_dict": own.net.state_dict()}, "weights.pth")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) == 9
    with hub(served(), str(tmp_path / "cache"), monkeypatch):
        for number, line in enumerate(lines):
            words = shlex.split(line)[1:]
            if "imagenet-1k" in words:
                words[words.index("imagenet-1k")] = "digits"
                out = str(tmp_path / f"hub{number}")
                words += ["--limit", "4", "--out", out]
                words += [] if "--suite" in words else ["--suite", "clean"]
            assert run(words) == 0, line
            told = capsys.readouterr()
            assert "Traceback" not in told.err
    sources = {
        path.parent.name: json.loads(path.read_text())["model"]["source"]
        for path in tmp_path.glob("*/report.json")
    }
    assert sources.pop("hub1") == sources.pop("hub2") == f"hf-hub:{HUB}@{COMMIT}"
    assert sources == {
        "own": "module:nets.py:small",
        "trained": "last.pth",
        "loaded": "weights.pth",
    }


def test_the_names_of_the_page_are_those_of_the_list(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", "models", "--json"]) == 0
    listed = {row["name"] for row in json.loads(capsys.readouterr().out)}
    shown = set(re.findall(r"`([^`]+)`", text.partition("|---")[2].partition("\n\n")[0]))
    assert listed - {"FILE"} <= shown


def test_the_collections_of_the_page(text: str) -> None:
    table = text.partition("| collection |")[2].partition("\n\n")[0]
    norms = re.findall(r"`(--norm-preset [a-z0-9-]+)`", table)
    assert sorted(norms) == sorted(one.norm for one in DIALECTS)
    for row in table.splitlines()[2:]:
        names = re.findall(r"`([^`]+)`", row.split("|")[2]) or ["resnet18"]
        first = re.sub(r"\d.*", "", names[0])
        full = [name if not name[0].isdecimal() else first + name for name in names]
        assert all(split_stem(name)[0] in ARCHS for name in full), row
