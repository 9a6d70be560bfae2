"""Folders of some of ImageNet's classes, and a published network on real pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.wnids import imagenet_wnids
from robustmix.evaluation.class_names import among_imagenet
from robustmix.evaluation.evaluate import evaluate
from robustmix.models import RobustModel, load_model

WNIDS = imagenet_wnids()
SOME = (WNIDS[7], WNIDS[500], WNIDS[999])
SAMPLE = Path(__file__).parents[3] / "shared/data/imagenet_sample/imagenet-sample.zip"


class Told(nn.Module):
    """Says class 500 of so many, whatever it sees."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.nn.functional.one_hot(torch.tensor(500), classes).float())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1) + 0 * images.mean()


def a_model(classes: int = 1000, **more: object) -> RobustModel:
    given = {"input_size": (3, 8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3, **more}
    return load_model(Told(classes), **given)  # type: ignore[arg-type]


def images(names: tuple[str, ...] = SOME) -> ImageSet:
    return ImageSet(
        name="folder:mine",
        split="test",
        pixels=TensorPixels(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)),
        labels=torch.tensor([0, 1, 1, 2]),
        sample_ids=tuple(f"folder/test/{i}" for i in range(4)),
        class_names=names,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


def of_names(names: tuple[str, ...]) -> RobustModel:
    model = a_model()
    model.info = replace(model.info, class_names=names)
    return model


def test_labels_are_places_among_the_thousand() -> None:
    found = among_imagenet(a_model(), images())
    assert found.labels.tolist() == [7, 500, 500, 999]
    assert found.class_names == WNIDS
    assert "of which 3 have a folder" in found.notes[-1]
    assert among_imagenet(of_names(WNIDS), images()).labels.tolist() == [7, 500, 500, 999]


def test_what_is_no_part_of_imagenet_stays_as_it_is() -> None:
    for model, data in (
        (a_model(), images((*SOME[:2], "n99999999"))),
        (a_model(999), images()),
        (of_names(tuple(f"class {i}" for i in range(1000))), images()),
        (a_model(class_map=list(range(1000))), images()),
        (a_model(), replace(images(), class_names=WNIDS)),
    ):
        assert among_imagenet(model, data) is data


def test_a_folder_is_scored_so(tmp_path: Path) -> None:
    from PIL import Image

    for wnid, count in zip(SOME, (1, 2, 1), strict=True):
        (tmp_path / wnid).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / wnid / f"{i}.png")
    report = evaluate(a_model(), f"folder:{tmp_path}", "clean")
    assert report.content.suites["clean"].metrics["top1"].value == 0.5


@pytest.mark.slow
def test_a_published_network_scores_as_in_a_bare_loop(tmp_path: Path) -> None:
    """180 and 197 of 200 pictures, the figures of the loop that came with them."""
    pytest.importorskip("efficientnet_lite_pytorch")
    if not SAMPLE.exists():
        pytest.skip("the sample of ImageNet's pictures is not here")
    import zipfile

    from benchmarks.imagenet_sample import MEAN, STD, agreement, published_network

    with zipfile.ZipFile(SAMPLE) as archive:
        archive.extractall(tmp_path)
    model = load_model(
        published_network(), input_size=(3, 224, 224), mean=(MEAN,) * 3, std=(STD,) * 3
    )
    found = agreement(model, tmp_path / "imagenet-sample")
    assert found == {
        "pictures": 200,
        "bare_top1": 180,
        "bare_top5": 197,
        "top1": 180,
        "top5": 197,
        "same": 200,
    }
