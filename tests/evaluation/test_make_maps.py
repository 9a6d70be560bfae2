"""Files of saliency maps: what is in them, what goes on after a kill, and who may use them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.cli.app import run
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation import make_maps as module
from robustmix.evaluation.evaluate import evaluate
from robustmix.evaluation.make_maps import Made, make_maps
from robustmix.evaluation.progress import Silence
from robustmix.evaluation.recompute import recompute
from robustmix.evaluation.suites.occlusion import Occlusion
from robustmix.models.robust_model import RobustModel, padded
from robustmix.saliency.attention import class_attention
from robustmix.saliency.from_file import load_maps, save_maps
from robustmix.saliency.sources import Explained, gradxinput, smoothgrad
from tests.evaluation.tiny import MEAN, STD, tiny_images, tiny_model
from tests.saliency.test_attention import known, planted

OTHER_MEAN, OTHER_STD = (0.1, 0.2, 0.3), (0.5, 0.4, 0.2)


def dino() -> RobustModel:
    """Return a planted backbone with a normalisation of its own."""
    net = planted()
    model = RobustModel(net, mean=OTHER_MEAN, std=OTHER_STD, num_classes=0, input_size=(3, 32, 32))
    model.info = replace(model.info, classifier=False, source="dino.pth")
    return model


def pixels(data: ImageSet) -> Tensor:
    return data.pixels.take(torch.arange(len(data))).float() / 255


def normalised(data: ImageSet, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (pixels(data) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def test_attention_of_a_planted_network_normalised_as_the_model_under_test(tmp_path: Path) -> None:
    data, tested = tiny_images(23), tiny_model()
    made = make_maps(dino(), data, tmp_path / "m.npz", attention_head=1, like=tested, batch_size=7)
    file = load_maps(tmp_path / "m.npz")
    want = known(normalised(data, MEAN, STD), 3.0)
    np.testing.assert_allclose(file.maps, want.numpy(), rtol=1e-5)
    assert list(file.places) == list(data.sample_ids)
    record = file.record
    assert record == made.record
    assert record is not None
    assert (record.source, record.choice, record.model) == ("attention", "head 1", "dino.pth")
    assert record.mean == pytest.approx(MEAN)
    assert record.normalised_as == "Net"
    assert (record.n, record.transform, record.height) == (23, "none", 32)
    assert record.told() == "attention (head 1) of dino.pth, normalised as Net"
    assert not (tmp_path / "m.npz.part").exists()
    # Without it, as its own images are; and the mean of the heads.
    make_maps(dino(), data, tmp_path / "own.npz")
    own = normalised(data, OTHER_MEAN, OTHER_STD)
    want = (known(own, -2.0) + known(own, 3.0)) / 2
    np.testing.assert_allclose(load_maps(tmp_path / "own.npz").maps, want.numpy(), rtol=1e-5)


def test_images_of_another_size_are_enlarged_in_the_model(tmp_path: Path) -> None:
    """The tested model takes 16 pixels, the planted one 32: its grid stays 4 x 4."""
    small = replace(tiny_images(5), pixels=TensorPixels(tiny_images(5).pixels.take(
        torch.arange(5))[:, :, ::2, ::2]))  # fmt: skip
    tested = RobustModel(
        torch.nn.Flatten(), mean=MEAN, std=STD, num_classes=768, input_size=(3, 16, 16)
    )
    made = make_maps(dino(), small, tmp_path / "m.npz", attention_head=0, like=tested)
    assert (made.shape, made.record.height) == ((4, 4), 16)
    large = torch.nn.functional.interpolate(
        pixels(small), (32, 32), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    want = known((large - mean) / std, -2.0)
    np.testing.assert_allclose(load_maps(tmp_path / "m.npz").maps, want.numpy(), rtol=1e-5)


@pytest.mark.parametrize("source", ["gradxinput", "smoothgrad"])
def test_explainers_are_pooled_over_patches(source: str, tmp_path: Path) -> None:
    data, robust = tiny_images(9), tiny_model()
    explain = {"gradxinput": gradxinput, "smoothgrad": smoothgrad}[source]
    make_maps(
        robust, data, tmp_path / "m.npz", source=source, label="label", grid=(4, 8), seed=3,
        batch_size=4,
    )  # fmt: skip
    whole = explain(
        Explained(
            robust=robust, model=padded(robust), images=pixels(data), labels=data.labels, seed=3,
            sample_ids=data.sample_ids,
        )
    ).numpy()  # fmt: skip
    found = load_maps(tmp_path / "m.npz")
    for row in range(4):
        for column in range(8):
            cell = whole[:, 8 * row : 8 * row + 8, 4 * column : 4 * column + 4]
            got = found.maps[:, row, column]
            np.testing.assert_allclose(got, cell.mean(axis=(1, 2)), rtol=1e-4, atol=1e-7)
    assert found.record is not None
    assert found.record.choice == "label"
    make_maps(robust, data, tmp_path / "fine.npz", source=source, label="label", seed=3)
    np.testing.assert_allclose(load_maps(tmp_path / "fine.npz").maps, whole, rtol=1e-4, atol=1e-7)


class Killed(BaseException):
    """As a signal is."""


class Counting(Silence):
    def __init__(self, until: int = 10**9) -> None:
        self.done, self.until = 0, until

    def advance(self, suite: str, part: str, samples: int) -> None:
        self.done += samples
        if self.done >= self.until:
            raise Killed


def test_an_interrupted_file_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 8)
    data, asked = tiny_images(29), 0

    def counted(explained: Explained) -> Tensor:
        nonlocal asked
        asked += len(explained.images)
        return class_attention(explained)

    monkeypatch.setattr(module, "class_attention", counted)
    make_maps(dino(), data, tmp_path / "whole.npz")
    path = tmp_path / "m.npz"
    with pytest.raises(Killed):
        make_maps(dino(), data, path, batch_size=4, progress=Counting(until=20))
    assert not path.exists()
    with pytest.raises(IncompatibleError, match="is of other maps") as caught:
        make_maps(dino(), data, path, attention_head=0)
    assert caught.value.code == "E-RESUME"
    asked = 0
    make_maps(dino(), data, path, batch_size=4)
    assert asked == 29 - 16  # two units of eight were done
    for name in ("maps", "sample_ids", "record"):
        with np.load(path) as one, np.load(tmp_path / "whole.npz") as other:
            assert np.array_equal(one[name], other[name])
    with pytest.raises(UsageError, match="exists; choose another"):
        make_maps(dino(), data, path)
    make_maps(dino(), data, path, attention_head=0, force=True)


def test_a_subset_is_that_of_an_evaluation(tmp_path: Path) -> None:
    data = tiny_images(40)
    make_maps(dino(), data, tmp_path / "m.npz", limit=11, seed=4, like=tiny_model())
    suite = salient(tmp_path / "m.npz")
    report = evaluate(tiny_model(), data, ["clean", suite], limit=11, seed=4)
    assert report.content.run.status == "success"
    other = evaluate(tiny_model(), data, ["clean", suite], limit=11, seed=5)
    assert "no map for" in (other.content.suites["occlusion"].reason or "")


def salient(path: Path) -> Occlusion:
    return Occlusion(grid=(4, 4), mode=("salient",), saliency_file=path)


def test_a_report_says_what_the_maps_are(tmp_path: Path) -> None:
    data = tiny_images(12)
    make_maps(dino(), data, tmp_path / "m.npz", attention_head=1, like=tiny_model())
    report = evaluate(tiny_model(), data, ["clean", salient(tmp_path / "m.npz")])
    part = report.content.suites["occlusion"]
    told = "attention (head 1) of dino.pth, normalised as Net"
    assert part.details["saliency"]["made"] == told
    assert part.metrics["auc_mean_salient_4x4"].note == f"saliency: file, {told}"
    assert part.shown.own_choice == []
    assert recompute(report) == []


def changed_pixels(data: ImageSet) -> ImageSet:
    images = data.pixels.take(torch.arange(len(data)))
    images[3, 0, 0, 0] ^= 1
    return replace(data, pixels=TensorPixels(images))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda data: replace(data, name="other"), "another data set: tiny/test"),
        (lambda data: replace(data, split="train"), "evaluated are tiny/train"),
        (lambda data: replace(data, transform="resize256-bicubic+centercrop224"), "preparation"),
        (changed_pixels, "other images with the same ids"),
    ],
)
def test_other_images_are_refused(
    change: Callable[[ImageSet], ImageSet], text: str, tmp_path: Path
) -> None:
    data = tiny_images(12)
    make_maps(dino(), data, tmp_path / "m.npz", like=tiny_model())
    try:
        report = evaluate(tiny_model(), change(data), ["clean", salient(tmp_path / "m.npz")])
    except IntakeError as error:
        said = error.line()
    else:
        said = report.content.suites["occlusion"].reason or ""
    assert "E-SALIENCY-FILE" in said
    assert text in said
    # A file of others says nothing of itself, and is taken at its ids.
    save_maps(tmp_path / "bare.npz", data.sample_ids, load_maps(tmp_path / "m.npz").maps)
    bare = evaluate(tiny_model(), change(data), ["clean", salient(tmp_path / "bare.npz")])
    assert bare.content.run.status == "success"


def test_a_folder_may_be_called_otherwise(tmp_path: Path) -> None:
    data = replace(tiny_images(6), name="folder:mine")
    make_maps(dino(), data, tmp_path / "m.npz", like=tiny_model())
    moved = replace(data, name="folder:theirs")
    report = evaluate(tiny_model(), moved, ["clean", salient(tmp_path / "m.npz")])
    assert report.content.run.status == "success"


@pytest.mark.parametrize(
    "record",
    [
        "[]", "{}", "x" * 30_000, "[" * 9000, '{"n": 1e999999}',
        lambda found: {**found, "height": "32"}, lambda found: {**found, "mean": ["a"]},
        lambda found: {**found, "model": 3},
        lambda found: {k: v for k, v in found.items() if k != "model"},
    ],
)  # fmt: skip
def test_records_of_strangers_are_refused(record: Any, tmp_path: Path) -> None:
    data = tiny_images(3)
    make_maps(dino(), data, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        arrays = dict(file)
    if callable(record):
        record = json.dumps(record(json.loads(str(arrays["record"][0]))))
    np.savez(tmp_path / "m.npz", **{**arrays, "record": np.array([record])})
    with pytest.raises(IntakeError) as caught:
        load_maps(tmp_path / "m.npz")
    assert caught.value.code == "E-SALIENCY-FILE"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"source": "gradxinput", "attention_head": 1}, "attention_head is of source attention"),
        ({"label": "label"}, "attention explains no class"),
        ({"source": "gradxinput", "label": "lable"}, "unknown label"),
        ({"source": "file"}, "maps of a file are there already"),
        ({"source": "atention"}, "did you mean 'attention'"),
        ({"source": "gradxinput"}, "dino.pth has no classifier"),
        ({"source": "rollout"}, "dino.pth has no classifier"),
        ({"attention_head": 2}, "has heads 0 to 1, not 2"),
        ({"grid": (5, 5)}, "does not divide"),
        ({"batch_size": 0}, "batch_size"),
        ({"limit": 0.0}, "limit"),
    ],
)
def test_what_acts_on_nothing_is_refused(
    options: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=text):
        make_maps(dino(), tiny_images(5), tmp_path / "m.npz", **options)
    assert list(tmp_path.iterdir()) == []


def test_sources_that_ask_no_classifier_need_none(tmp_path: Path) -> None:
    made: Made = make_maps(dino(), tiny_images(3), tmp_path / "m.npz", source="center")
    assert made.shape == (32, 32)


# The command


MAKE = ["saliency", "make", "--model", "timm:test_vit", "--img-size", "32", "--dataset", "digits"]


def test_the_command_makes_maps_that_eval_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps.npz"
    words = [*MAKE, "--attention-head", "1", "--limit", "9", "--norm-preset", "cifar10"]
    assert run([*words, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(out)
    assert "W-RANDOM-INIT" in said.err
    assert "9 maps of 2x2: attention (head 1) of timm:test_vit" in said.err
    model = ["eval", "robustmix:resnet8", "--num-classes", "10", "--dataset", "digits"]
    options = ["--mode", "salient", "--mass", "0.5", "--saliency-file", str(out), "--limit", "9"]
    asked = [*model, "--suite", "occlusion", *options, "--grid", "2x2"]
    assert run([*asked, "--out", str(tmp_path / "report"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    told = report["suites"]["occlusion"]["details"]["saliency"]["made"]
    assert told == "attention (head 1) of timm:test_vit"
    picture = tmp_path / "maps.png"
    assert run(["saliency", "preview", str(out), "--images", "3", "--out", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run([*words, "--out", str(out)]) == 2
    assert "E-EXISTS" in capsys.readouterr().err
    assert run([*words, "--out", str(out), "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["choice"] == "head 1"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--attention-head", "second"], 2, "--attention-head takes a number or mean"),
        (["--attention-head", "9"], 2, "has heads 0 to"),
        (["--source", "gradcm"], 2, "did you mean 'gradcam'"),
        (["--split", "val"], 2, "unknown split 'val'"),
        (["--like", "a.pth", "--norm-preset", "imagenet"], 2, "--like brings a normalisation"),
        (["--like", "a.pth"], 3, "a.pth"),
        (["--like", "timm:test_vit", "--resize", "40"], 2, "--resize contradicts --like"),
        (["--out", "maps.npy"], 2, "expected an .npz file"),
        (["--progress", "loud"], 2, "progress"),
        (["--limit", "0"], 2, "limit"),
        (["--dataset", "digitz"], 2, "digitz"),
    ],
)
def test_the_command_refuses(
    words: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if "--out" in words else ["--out", str(tmp_path / "m.npz")]
    assert run([*MAKE, *out, *words]) == code
    assert said in capsys.readouterr().err


def test_a_preview_needs_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_maps(tmp_path / "bare.npz", ["a", "b"], np.ones((2, 2, 2)))
    words = ["saliency", "preview", str(tmp_path / "bare.npz"), "--out", str(tmp_path / "x.png")]
    assert run(words) == 2
    assert "does not say where its images are" in capsys.readouterr().err
    assert run([*words, "--dataset", "digits"]) == 3
    assert "has no map of an image of digits" in capsys.readouterr().err
    assert run([*words, "--images", "0"]) == 2
