"""Folders in timm's format, and the same by name through the library's own client."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from robustmix.cli.app import run
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.methods.method import Setup
from robustmix.methods.trained_teacher import load_teacher
from robustmix.models.hub import HubName
from robustmix.models.inspect import inspect_model
from robustmix.models.load import load_model
from robustmix.models.recorded import MOST_TEXT
from robustmix.models.registry import build_model
from robustmix.models.start_weights import load_start_weights
from tests.models.builders import images
from tests.models.hub_server import BROKEN, COMMIT, GATED, hub

NAME = "hf-hub:owner/net"
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
CONFIG = {
    "architecture": "test_resnet",
    "num_classes": 3,
    "num_features": 64,
    "label_names": ["ant", "bee", "cat"],
    "pretrained_cfg": {
        "tag": "mine",
        "input_size": [3, 48, 48],
        "interpolation": "bilinear",
        "crop_pct": 0.75,
        "crop_mode": "center",
        "mean": MEAN,
        "std": STD,
    },
}


def weights(classes: int = 3) -> dict[str, Tensor]:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = timm.create_model("test_resnet", num_classes=classes)
    state: dict[str, Tensor] = net.state_dict()
    return state


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return weights()


@pytest.fixture
def asked(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str]]:
    import io

    pickled = io.BytesIO()
    torch.save(state, pickled)
    config = json.dumps(CONFIG).encode()
    small = {**CONFIG["pretrained_cfg"], "input_size": [3, 32, 32]}  # type: ignore[dict-item]
    digits = {"architecture": "test_resnet", "num_classes": 10, "pretrained_cfg": small}
    files = {
        "owner/digits/config.json": json.dumps(digits).encode(),
        "owner/digits/model.safetensors": save(weights(10)),
        "owner/net/config.json": config,
        "owner/net/model.safetensors": save(state),
        "owner/pickled/config.json": config,
        "owner/pickled/pytorch_model.bin": pickled.getvalue(),
        "owner/large/config.json": b" " * (MOST_TEXT + 1),
        "owner/bare/config.json": config,
        "owner/broken/config.json": config,
        "owner/broken/model.safetensors": BROKEN,
        "owner/other/README.md": b"",
    }
    with hub(files, str(tmp_path / "cache"), monkeypatch) as asked:
        yield asked


def expected(state: dict[str, Tensor], x: Tensor) -> Tensor:
    import timm

    net = timm.create_model("test_resnet", num_classes=3)
    net.load_state_dict(state)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        logits: Tensor = net.eval()((x - mean) / std)
    return logits


@pytest.mark.parametrize("repo", ["net", "pickled"])
def test_a_model_of_the_hub_is_fetched_once_and_recorded_by_its_commit(
    asked: list[str], state: dict[str, Tensor], repo: str
) -> None:
    name = f"hf-hub:owner/{repo}"
    with pytest.raises(IntakeError, match="not in the local cache; pass allow_download"):
        load_model(name)
    assert not asked
    model = load_model(name, allow_download=True)
    x = images(2, (3, 48, 48))
    torch.testing.assert_close(model(x), expected(state, x))
    info = model.info
    assert info.source == f"{name}@{COMMIT}"
    assert info.class_names == ("ant", "bee", "cat")
    assert info.test_transform == "resize64-bilinear+centercrop48"
    assert info.arch == "timm:test_resnet"
    assert info.notes == ()
    asked.clear()
    for said in (name, f"{name}@main", f"{name}@{COMMIT}"):
        assert load_model(said).info == info
    assert not asked
    assert inspect_model(name).model is not None
    with pytest.raises(IntakeError, match="expected 0000"):
        load_model(name, expect_sha256="0" * 64)


def test_a_revision_is_another_name_of_the_same_files(asked: list[str]) -> None:
    load_model(NAME, allow_download=True)
    with pytest.raises(IntakeError, match="owner/net@v1 is not in the local cache"):
        load_model(f"{NAME}@v1")
    asked.clear()
    model = load_model(f"{NAME}@v1", allow_download=True)
    assert model.info.source == f"{NAME}@{COMMIT}"
    assert not any("model.safetensors" in line for line in asked)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/net@v2", "has no such revision; check what follows the @"),
        ("owner/absent", "is not on the hub, or is private"),
        (GATED, "is gated; accept its terms on the hub"),
        ("owner/other", "has no config.json; give a model of timm"),
        ("owner/broken", "could not be fetched"),
        ("owner/bare", "has no weights in one file"),
        ("owner/large", f"config.json has {MOST_TEXT + 1} bytes"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(asked: list[str], name: str, message: str) -> None:
    with pytest.raises(IntakeError) as caught:
        load_model(f"hf-hub:{name}", allow_download=True)
    assert message in str(caught.value)
    assert "\n" not in caught.value.line()
    if name == "owner/large":
        assert not any("GET" in line and "config" in line for line in asked)


def test_without_the_network(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    load_model(NAME, allow_download=True)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        load_model(NAME, allow_download=True)
        with pytest.raises(IntakeError, match="HF_HUB_OFFLINE forbids"):
            load_model("hf-hub:owner/pickled", allow_download=True)
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    template = nowhere + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    load_model(NAME, allow_download=True)
    with pytest.raises(IntakeError, match=r"could not be fetched \(.*refused"):
        load_model("hf-hub:owner/pickled", allow_download=True)


@pytest.mark.parametrize(
    "name",
    ["", "a/b/c", "../x", "a/..", "a b", "a@", "a@b c", "a/b@../x", "a" * 200, "-a/b", "a--b/c"],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="names no model of the Hugging Face hub"):
        load_model(f"hf-hub:{name}")


def test_names() -> None:
    assert str(HubName.parse(f"{NAME}@main")) == NAME
    assert HubName.parse("hf-hub:gpt2@refs/pr/1") == HubName(repo="gpt2", revision="refs/pr/1")


def test_evaluated_by_name(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, out = "hf-hub:owner/digits", tmp_path / "r"
    words = ["--dataset", "digits", "--suite", "clean", "--limit", "4", "--out", str(out)]
    assert run(["eval", name, *words]) == 3
    assert "pass --allow-download" in capsys.readouterr().err
    assert run(["eval", name, "--allow-download", *words]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["model"]["source"] == f"{name}@{COMMIT}"
    assert report["dataset"]["transform"] == "resize42-bilinear+centercrop32"
    assert report["model"]["normalisation"] == {"mean": list(MEAN), "std": list(STD)}
    capsys.readouterr()
    assert run(["models", "inspect", name]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{name}@{COMMIT}: safetensors in a folder of timm's\n")


def test_other_models_are_fetched_too(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, out = "hf-hub:owner/digits", tmp_path / "r"
    said = ["--num-classes", "10", "--norm-preset", "half", "--dataset", "digits", "--limit", "4"]
    words = ["robustmix:resnet8", *said, "--suite", "transfer", "--surrogate", name]
    assert run(["eval", *words, "--eps", "8/255", "--out", str(out)]) == 3
    assert "pass --allow-download" in capsys.readouterr().err
    assert run(["eval", *words, "--eps", "8/255", "--out", str(out), "--allow-download"]) == 0
    assert f"{name}@{COMMIT}" in (out / "report.json").read_text()


def test_a_training_starts_from_it_and_is_taught_by_it(
    asked: list[str], state: dict[str, Tensor]
) -> None:
    network = build_model("timm:test_resnet", num_classes=7, input_size=(3, 48, 48))
    with pytest.raises(IntakeError, match="pass allow_download"):
        load_start_weights(network, NAME)
    load_start_weights(network, NAME, allow_download=True)
    own = network.state_dict()
    left = {key for key in own if own[key].shape != state[key].shape}
    assert left == {"fc.weight", "fc.bias"}
    assert all(torch.equal(own[key], state[key]) for key in own.keys() - left)

    half = (0.5, 0.5, 0.5)
    setup = Setup(
        rng=np.random.default_rng(0),
        input_size=(3, 48, 48),
        num_classes=3,
        mean=half,
        std=half,
    )
    teacher = load_teacher(NAME, setup)
    x = images(2, (3, 48, 48))
    torch.testing.assert_close(teacher.model(x), expected(state, x))
    with pytest.raises(UsageError, match="has 3 classes, the data 4"):
        load_teacher(NAME, replace(setup, num_classes=4))


# --- folders


def test_label_names_by_index(tmp_path: Path, state: dict[str, Tensor]) -> None:
    (tmp_path / "model.safetensors").write_bytes(save(state))
    for names, known in (
        ({"0": "a", "2": "c", "1": "b"}, ("a", "b", "c")),
        ({"0": "a", "5": "c", "1": "b"}, None),
        (["a", "b"], None),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "label_names": names}))
        assert load_model(tmp_path).info.class_names == known


@pytest.mark.parametrize("text", ["[]", "3", "{", '{"architecture": 3}', "{}"])
def test_a_configuration_that_is_none(tmp_path: Path, state: dict[str, Tensor], text: str) -> None:
    (tmp_path / "model.safetensors").write_bytes(save(state))
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(RobustmixError) as caught:
        load_model(tmp_path)
    assert caught.value.exit_code == 3
