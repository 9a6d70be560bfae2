"""Folders of transformers: its own networks and image processors are the oracle."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from robustmix.data.preparation import TestTransform
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError, RobustmixError, UsageError
from robustmix.evaluation.calibrate import calibrate_model
from robustmix.export import export_model
from robustmix.models.inspect import inspect_model
from robustmix.models.load import load_model
from robustmix.models.recorded import MOST_TEXT
from tests.models.builders import RunsCommand, images

FOLDER = "a-model"
NORM: dict[str, Any] = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}


def written(folder: Path, net: Any, processor: Any | None) -> Any:
    """Write a folder as its authors do, and return the network."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    net.eval().save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return net


def vit(folder: Path, **more: Any) -> Any:
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = transformers.ViTForImageClassification(
            transformers.ViTConfig(**VIT, **(more or {"num_labels": 5}))
        )
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, **NORM)
    return written(folder, made, processor)


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vit(tmp_path / FOLDER)
    return tmp_path / FOLDER


class Case(NamedTuple):
    net: Callable[[Any], Any]
    processor: Callable[[Any], Any]
    side: int
    transform: str


CASES = {
    "squash": Case(
        lambda t: t.ViTForImageClassification(t.ViTConfig(**VIT, num_labels=5)),
        lambda t: t.ViTImageProcessor(size={"height": 32, "width": 32}, resample=2, **NORM),
        32,
        "resize32-bilinear-squash+centercrop32",
    ),
    "squash and crop": Case(
        lambda t: t.DeiTForImageClassification(t.DeiTConfig(**VIT, num_labels=5)),
        lambda t: t.DeiTImageProcessor(
            size={"height": 36, "width": 36}, crop_size={"height": 32, "width": 32}, **NORM
        ),
        32,
        "resize36-bicubic-squash+centercrop32",
    ),
    "share": Case(
        lambda t: t.ConvNextForImageClassification(
            t.ConvNextConfig(depths=[1] * 4, hidden_sizes=[8, 8, 16, 16], num_labels=5)
        ),
        lambda t: t.ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=0.8, **NORM),
        64,
        "resize80-bicubic+centercrop64",
    ),
    "shorter side and crop": Case(
        lambda t: t.ResNetForImageClassification(
            t.ResNetConfig(depths=[1, 1], hidden_sizes=[8, 16], embedding_size=8, num_labels=5)
        ),
        lambda t: t.BitImageProcessor(
            size={"shortest_edge": 40}, crop_size={"height": 32, "width": 32}, resample=2, **NORM
        ),
        32,
        "resize40-bilinear+centercrop32",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_logits_and_images_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    import transformers

    case = CASES[name]
    processor = case.processor(transformers)
    net = written(tmp_path / FOLDER, case.net(transformers), processor)
    model = load_model(tmp_path / FOLDER)
    assert model.input_size == (3, case.side, case.side)
    assert model.info.test_transform == case.transform
    assert model.info.notes == ()
    assert model.info.arch == f"transformers:{type(net).__name__}"
    assert model.info.class_names is None  # LABEL_0 and so on

    # The borders beside the crops are even: what is odd lies a pixel apart, see the module.
    smooth = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(smooth).resize((140, 175), Image.Resampling.BICUBIC)
    theirs = processor(picture, return_tensors="pt")["pixel_values"]
    transform = TestTransform.parse(case.transform)
    ways = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    resized = picture.resize(transform.resized(*picture.size), ways[transform.interpolation])
    left, top = transform.corner(*resized.size)
    cut = resized.crop((left, top, left + case.side, top + case.side))
    ours = torch.from_numpy(np.asarray(cut).copy()).permute(2, 0, 1)[None] / 255
    levels = ((ours - model.mean) / model.std - theirs) * model.std * 255
    assert levels.abs().max() < 1.01

    x = images(2, model.input_size)
    with torch.no_grad():
        expected = net((x - model.mean) / model.std).logits
        torch.testing.assert_close(model(x), expected)
    assert (expected[0] - expected[1]).abs().max() > 1e-4


def test_a_pickle_with_the_older_names_of_its_tensors(folder: Path) -> None:
    model = load_model(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    again = load_model(folder)
    assert torch.equal(model(images()), again(images()))
    assert again.info.sha256 != model.info.sha256
    torch.save({**state, "more": RunsCommand(folder / "created")}, folder / "pytorch_model.bin")
    with pytest.raises(IntakeError, match="nothing was run; do not use this file"):
        load_model(folder)
    assert not (folder / "created").exists()


def test_names_of_classes(tmp_path: Path) -> None:
    from timm.data.imagenet_info import ImageNetInfo

    names = dict(enumerate(("ant", "bee", "cat")))
    vit(tmp_path / "a", id2label=names, label2id={name: i for i, name in names.items()})
    assert load_model(tmp_path / "a").info.class_names == ("ant", "bee", "cat")

    known = ImageNetInfo("imagenet-1k")
    names = {i: known.index_to_description(i) for i in range(1000)}
    vit(tmp_path / "b", id2label=names, label2id={name: i for i, name in names.items()})
    assert load_model(tmp_path / "b").info.class_names == imagenet_wnids()
    config = json.loads((tmp_path / "b/config.json").read_text())
    config["id2label"] = {str(i): names[999 - i] for i in names}  # in another order
    (tmp_path / "b/config.json").write_text(json.dumps(config))
    assert load_model(tmp_path / "b").info.class_names == tuple(names[999 - i] for i in names)


def test_inspection(folder: Path) -> None:
    found = inspect_model(folder)
    assert found.layout == "safetensors in a folder of transformers'"
    assert found.model is not None
    assert found.model["arch"] == "transformers:ViTForImageClassification"
    assert found.model["classes"] == 5


def changed(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    content = json.loads(path.read_text())
    content |= values
    path.write_text(json.dumps({key: one for key, one in content.items() if one is not ...}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("config.json", {"architectures": ["BertModel"]}, "BertModel is no image classifier"),
        ("config.json", {"architectures": ["ViTModel"]}, "ViTModel is no image classifier"),
        ("config.json", {"model_type": "mine"}, "no model type 'mine'"),
        ("config.json", {"num_hidden_layers": 10**9}, "more than any network has"),
        ("config.json", {"hidden_size": 2**20}, "a network of"),
        ("config.json", {"hidden_size": -1}, "a-model"),
        ("config.json", {"hidden_size": "x"}, "a-model"),
        ("config.json", {"num_hidden_layers": 2}, "does not fit config.json: 16 missing"),
        ("config.json", {"num_hidden_layers": 0}, "unexpected"),
        ("config.json", {"image_size": [32, "x"]}, "a-model"),
        ("preprocessor_config.json", {"image_mean": ["a", "b", "c"]}, "a-model"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "mean and std should be in"),
        ("preprocessor_config.json", {"image_processor_type": "Mine"}, "a-model"),
        ("preprocessor_config.json", {"more": "x" * MOST_TEXT}, "no configuration of a model"),
        ("config.json", {"more": "x" * MOST_TEXT}, "no configuration of a model"),
    ],
)
def test_what_does_not_go_is_one_line(
    folder: Path, name: str, values: dict[str, object], message: str
) -> None:
    changed(folder, name, **values)
    with pytest.raises(RobustmixError) as caught:
        load_model(folder)
    assert caught.value.exit_code == 3
    assert message in caught.value.message
    assert "\n" not in caught.value.line()


def test_a_tensor_of_another_shape(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    state["classifier.bias"] = torch.ones(7)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(IntakeError, match=r"a-model cannot be built|1 mismatched"):
        load_model(folder)


def test_code_of_a_folder_is_not_run(folder: Path) -> None:
    touch = f"open({str(folder / 'touched')!r}, 'w').close()\n"
    (folder / "evil.py").write_text(touch)
    auto = {"AutoConfig": "evil.A", "AutoModelForImageClassification": "evil.B"}
    expected = load_model(folder)(images())
    changed(folder, "config.json", auto_map=auto, attn_implementation="owner/kernel")
    changed(folder, "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.C"})
    assert torch.equal(load_model(folder)(images()), expected)
    assert not (folder / "touched").exists()


def test_what_a_folder_does_not_say_is_asked(folder: Path) -> None:
    changed(folder, "preprocessor_config.json", do_normalize=False, do_rescale=False)
    scaled = load_model(folder)
    torch.testing.assert_close(scaled.std.flatten(), torch.full((3,), 1 / 255))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(IntakeError, match="does not say its normalisation"):
        load_model(folder)
    model = load_model(folder, norm_preset="half")
    assert model.info.test_transform is None
    with pytest.raises(IntakeError, match="leave arch out"):
        load_model(folder, norm_preset="half", arch="resnet18")
    with pytest.raises(IntakeError, match="contradicts a-model"):
        load_model(folder, norm_preset="half", input_size=(3, 64, 64))


def test_it_is_no_checkpoint_and_no_weights_alone(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    with pytest.raises(UsageError, match="a module of transformers"):
        export_model(model, "safetensors", tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="a checkpoint cannot hold a network of transformers"):
        calibrate_model(model, tmp_path / "x.pth", calib_data="digits")


def test_without_the_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == "transformers":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(IntakeError) as caught:
        load_model(folder)
    assert caught.value.line() == (
        "error[E-EXTRA]: a-model is a model of the package transformers, which is not installed; "
        "pip install 'robustmix[transformers]'"
    )
