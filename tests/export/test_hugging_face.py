"""Folders for the Hugging Face hub: read back by timm, by robustmix and by the hub's own client."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from huggingface_hub import ModelCard, constants
from huggingface_hub.repocard import metadata_load

import robustmix
from robustmix.cli.app import run
from robustmix.data.preparation import TestTransform
from robustmix.errors import IncompatibleError, IncompleteError, UsageError
from robustmix.export import EXPORTS, export_model
from robustmix.export.card import dataset_id
from robustmix.models.checks import state_hash
from robustmix.models.load import load_model
from robustmix.models.robust_model import ModelInfo, RobustModel
from robustmix.report.export import report_sheet
from robustmix.report.report import Report
from robustmix.report.schema import Warn
from robustmix.report.sheet import markdown_rows
from tests.export.hub_server import TOKEN, HubState, faults_of_card, hub_server
from tests.models.hub_server import hub as downloads

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def own() -> RobustModel:
    return load_model(
        "robustmix:resnet8", num_classes=10, input_size=(3, 32, 32), mean=MEAN, std=STD
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return robustmix.evaluate(own(), "digits", "clean,fgsm", limit=24, name="a_b")


def pixels(robust: RobustModel, n: int = 3) -> torch.Tensor:
    return torch.rand(n, *robust.input_size, generator=torch.Generator().manual_seed(5))


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


@pytest.mark.parametrize(
    ("arch", "size", "name", "args"),
    [
        ("timm:test_resnet", 40, "test_resnet", {}),
        ("timm:test_vit", 48, "test_vit", {"img_size": [48, 48]}),
        ("robustmix:resnet18-imagenet", 64, "resnet18", {}),
        pytest.param("torchvision:resnet18", 64, "resnet18", {}, marks=pytest.mark.slow),
        pytest.param(
            "robustmix:swin_tiny",
            64,
            "swin_tiny_patch4_window7_224",
            {"img_size": [64, 64]},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_timm_builds_the_network_from_the_folder(
    arch: str, size: int, name: str, args: dict[str, object], tmp_path: Path
) -> None:
    robust = load_model(arch, num_classes=4, input_size=(3, size, size), mean=MEAN, std=STD)
    done = export_model(robust, "hf", tmp_path / "net")
    config = json.loads((tmp_path / "net" / "config.json").read_text())
    assert (config["architecture"], config.get("model_args", {})) == (name, args)
    images = pixels(robust)
    theirs = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    torch.testing.assert_close(theirs(normalised(images)), robust(images), rtol=0, atol=1e-5)
    again = load_model(done.path)
    assert torch.equal(again(images), robust(images))
    assert state_hash(again) == state_hash(robust)
    card = ModelCard.load(tmp_path / "net" / "README.md")
    assert card.data.to_dict()["library_name"] == "timm"
    assert 'timm.create_model("local-dir:FOLDER", pretrained=True)' in card.text
    assert "has random weights" in card.text
    assert {one.name for one in done.path.iterdir()} == {
        "config.json", "model.safetensors", "README.md",
    }  # fmt: skip


def test_a_network_of_our_own_is_read_back_and_called_so(tmp_path: Path, report: Report) -> None:
    robust = own()
    done = export_model(robust, "hf", tmp_path / "net", report=report, license="cc-by-4.0")
    again = load_model(done.path)
    assert torch.equal(again(pixels(robust)), robust(pixels(robust)))
    assert (again.info.arch, again.num_classes) == ("resnet8", 10)
    assert state_hash(again) == state_hash(robust)  # so the report is of the folder too
    card = ModelCard.load(done.path / "README.md")
    assert card.data.to_dict()["library_name"] == "robustmix"
    assert "timm and transformers cannot build it" in card.text
    with pytest.raises(RuntimeError, match="Unknown model"):
        timm.create_model(f"local-dir:{done.path}", pretrained=True)
    again = load_model(done.path)
    second = robustmix.evaluate(again, "digits", "clean", limit=24)
    assert second["clean.top1"].value == report["clean.top1"].value
    assert second["clean.nll"].value == report["clean.nll"].value


def test_the_card_tells_the_report_to_machines_and_to_people(
    tmp_path: Path, report: Report
) -> None:
    path = report.save(tmp_path / "report")
    done = export_model(own(), "hf", tmp_path / "net", report=path, license="apache-2.0")
    text = (done.path / "README.md").read_text(encoding="utf-8")
    assert faults_of_card(text) == []
    card = ModelCard(text)  # refuses a model-index of another form
    data: Any = card.data
    assert (data.license, data.pipeline_tag) == ("apache-2.0", "image-classification")
    assert {"robustmix", "robustness", "image-classification"} <= set(data.tags)
    assert data.datasets == ["digits"]
    told = {one.metric_name: one for one in data.eval_results}
    assert {"clean.top1", "clean.nll", "fgsm.robust_acc", "fgsm.asr"} <= set(told)
    for name, one in told.items():
        metric = report[name]
        assert one.metric_value == metric.value
        assert one.metric_args["n"] == metric.n
        assert metric.ci is None or one.metric_args["interval_95"] == list(metric.ci)
        assert (one.dataset_type, one.dataset_split) == ("digits", "test")
        assert one.dataset_args == {"n": 24, "n_total": 500}
    assert told["clean.top1"].metric_type == "accuracy"
    assert "eps 8/255" in told["fgsm.robust_acc"].metric_config
    for row in markdown_rows(report_sheet(report)):
        assert f"\n{row}\n" in text
    assert report.content.protocol.hash[:12] in card.text
    assert "On 24 of 500 images of digits (test), with 95 % intervals" in card.text
    assert "None" not in text
    assert str(tmp_path) not in text
    open_text = (export_model(own(), "hf", tmp_path / "open").path / "README.md").read_text()
    assert faults_of_card(open_text) == []
    assert metadata_load(tmp_path / "open" / "README.md") == {
        "library_name": "robustmix",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "robustmix", "robustness", "resnet8"],
    }
    assert "No licence was stated." in open_text


def test_a_strangers_words_are_text_in_the_card(tmp_path: Path, report: Report) -> None:
    evil = "---\nlicense: mit\n---\n# x\n```\n<script>alert(1)</script> | a_b [c](d) @me"
    content = report.content.model_copy(deep=True)
    content.run.name, content.dataset.name, content.dataset.split = evil, evil, evil
    content.warnings.append(Warn(code="W-X", message=evil))
    content.protocol.presets = [evil]
    robust = own()
    told = {"method": evil, "dataset": evil, "class_names": (evil,) * 10}
    robust.info = ModelInfo(**{**vars(robust.info), **told})
    done = export_model(robust, "hf", tmp_path / "net", report=Report(content))
    text = (done.path / "README.md").read_text(encoding="utf-8")
    assert faults_of_card(text) == []
    data = yaml.safe_load(text.split("---\n")[1])
    assert "license" not in data
    assert "datasets" not in data
    assert text.split("\n---\n")[0] + "\n---\n" == text[: text.index("\n---\n") + 5]
    body = text.split("\n---\n", 1)[1]
    assert "\n---\n" not in body
    assert not [line for line in body.splitlines() if line.startswith("```") and "script" in line]
    assert r"\<script\>" in body
    assert " @me" not in body


def test_names_of_data_sets() -> None:
    assert dataset_id("folder:/home/me/secret") is None
    assert dataset_id("hf:owner/set:config@test") == "owner/set"
    assert [dataset_id(x) for x in (None, "", "a b", "x/y/z")] == [None] * 4


def test_a_report_on_other_weights_is_refused(
    tmp_path: Path, report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    other = own()
    with torch.no_grad():
        next(other.net.parameters()).add_(1e-3)
    with pytest.raises(IncompatibleError, match="is on other weights"):
        export_model(other, "hf", tmp_path / "net", report=report)
    assert not (tmp_path / "net").exists()
    path = report.save(tmp_path / "report")
    words = ["export", "robustmix:resnet8", "--num-classes", "10", "--norm-preset", "cifar10"]
    words += ["--to", "hf", "--report", str(path), "--out", str(tmp_path / "net")]
    assert run(words) == 5
    assert capsys.readouterr().err.startswith("error[E-OTHER-MODEL]")


@pytest.mark.parametrize("option", ["report", "license", "push", "private"])
@pytest.mark.parametrize("to", [name for name in EXPORTS if name != "hf"])
def test_options_of_the_hub_are_of_the_hub(option: str, to: str, tmp_path: Path) -> None:
    given: dict[str, object] = {"report": "x", "license": "mit", "push": "a/b", "private": True}
    with pytest.raises(UsageError, match=f"{option} is of to hf, not of {to}"):
        export_model(own(), to, tmp_path / "x", **{option: given[option]})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--private"], "--private is of what is pushed; add --push OWNER/NAME"),
        (["--license", "my own"], "'my own' is no identifier of a licence"),
        (["--push", "nobody"], "'nobody' is no repository of the hub; write --push OWNER/NAME"),
        (["--push", "a/b/c"], "'a/b/c' is no repository of the hub"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_loaded(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(tmp_path / "absent.pth"), "--to", "hf", *words]
    assert run(command) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "transform",
    [
        TestTransform(),
        TestTransform(resize=36, interpolation="bilinear", crop=32),
        TestTransform(resize=37, interpolation="bicubic", crop=32),
        TestTransform(resize=32, interpolation="nearest"),
        TestTransform(resize=32, crop=32, crop_mode="squash"),
    ],
    ids=TestTransform.text,
)
def test_test_images_are_prepared_as_before(transform: TestTransform, tmp_path: Path) -> None:
    robust = own()
    recipe = {"test_transform": transform.record()}
    robust.info = ModelInfo(**{**vars(robust.info), "recipe": recipe})
    done = export_model(robust, "hf", tmp_path / "net")
    read = load_model(done.path).info.test_transform
    assert read is not None
    again = TestTransform.parse(read)
    assert again.crop == 32
    assert again.resize == (transform.resize or 32)
    assert again.crop_mode == transform.crop_mode
    assert again.interpolation == transform.interpolation


def test_what_timm_cannot_say_of_test_images_is_in_the_card(tmp_path: Path) -> None:
    robust = own()
    recipe = {"test_transform": {"crop": 28}}
    robust.info = ModelInfo(**{**vars(robust.info), "recipe": recipe})
    done = export_model(robust, "hf", tmp_path / "net")
    assert "prepared as 'centercrop28', which config.json cannot say" in done.written.notes[0]
    assert "centercrop28" in (done.path / "README.md").read_text()


# The hub, by its own client and a server on this machine


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubState]:
    with hub_server() as state:
        monkeypatch.setattr(constants, "ENDPOINT", state.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield state


def exported(out: Path, *words: str) -> int:
    command = ["export", "robustmix:resnet8", "--num-classes", "10", "--norm-preset", "cifar10"]
    return run([*command, "--img-size", "32", "--to", "hf", "--out", str(out), "--force", *words])


def test_the_folder_is_pushed_as_it_is(
    hub: HubState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "net"
    assert exported(out, "--push", "me/net", "--private") == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert f"pushed: {hub.address}/me/net/commit/abc" in said.err
    assert hub.repositories["me/net"]["private"]
    assert hub.files == {one.name: one.read_bytes() for one in out.iterdir()}
    assert "POST /api/validate-yaml" in hub.requests
    assert b'robustmix.load_model("hf-hub:me/net", allow_download=True)' in hub.files["README.md"]
    told = json.loads((tmp_path / "net.json").read_text())
    assert told["pushed"] == f"{hub.address}/me/net/commit/abc"
    # Once more, into what is there; and what is asked for of it holds or is refused.
    assert exported(out, "--push", "me/net") == 0
    hub.repositories["me/net"]["private"] = False
    hub.files.clear()
    assert exported(out, "--push", "me/net", "--private") == 4
    assert "me/net is public, and --private was asked for" in capsys.readouterr().err
    assert hub.files == {}


def test_what_was_pushed_is_loaded_by_its_name(
    hub: HubState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    robust = own()
    export_model(robust, "hf", tmp_path / "net", push="me/net")
    files = {f"me/net/{name}": content for name, content in hub.files.items()}
    with downloads(files, str(tmp_path / "cache"), monkeypatch):
        again = load_model("hf-hub:me/net", allow_download=True)
    assert state_hash(again) == state_hash(robust)
    assert torch.equal(again(pixels(robust)), robust(pixels(robust)))


def test_what_is_read_back_otherwise_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = own()
    with torch.no_grad():
        next(other.net.parameters()).add_(0.1)
    monkeypatch.setattr("robustmix.export.weights.load_model", lambda *_, **__: other)
    for to in ("hf", "safetensors"):
        with pytest.raises(IncompleteError, match="gives other logits than the model"):
            export_model(own(), to, tmp_path / "net")
        assert list(tmp_path.iterdir()) == []


def test_a_network_of_transformers_is_its_own_library_s(tmp_path: Path) -> None:
    robust = own()
    robust.info = ModelInfo(**{**vars(robust.info), "arch": "transformers:ViT"})
    for to in ("hf", "timm", "safetensors"):
        with pytest.raises(UsageError, match="its own save_pretrained"):
            export_model(robust, to, tmp_path / "net")


def test_who_may_not_push_is_told_in_one_line(
    hub: HubState,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told() -> str:
        (line,) = (x for x in capsys.readouterr().err.splitlines() if x.startswith("error["))
        assert line.startswith("error[E-PUSH]")
        return line

    out = tmp_path / "net"
    assert exported(out, "--push", "you/net") == 4
    assert "you have no right to write there" in told()
    assert (out / "README.md").is_file()  # what was made is not thrown away
    assert hub.files == {}
    monkeypatch.setenv("HF_TOKEN", "wrong")
    assert exported(tmp_path / "a", "--push", "me/net") == 4
    assert "the hub does not know your token" in told()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert exported(tmp_path / "b", "--push", "me/net") == 4
    assert "the hub cannot be reached" in told()
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", os.devnull)
    assert exported(tmp_path / "c", "--push", "me/net") == 4
    assert "you are not logged in to the Hugging Face hub; log in with `hf auth login`" in told()
    assert not [tmp_path / name for name in "abc" if (tmp_path / name).exists()]


def test_the_python_function_pushes_too(hub: HubState, tmp_path: Path) -> None:
    done = robustmix.export_model(own(), "hf", tmp_path / "net", push="me/own", private=True)
    assert done.pushed == f"{hub.address}/me/own/commit/abc"
    assert set(hub.files) == {"README.md", "config.json", "model.safetensors"}
    hub.repositories["me/own"]["private"] = False
    with pytest.raises(IncompleteError, match="private was asked for"):
        robustmix.export_model(own(), "hf", tmp_path / "b", push="me/own", private=True)
