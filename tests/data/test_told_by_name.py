"""A folder that is no folder of classes but a data set read by name is told by that name."""

from pathlib import Path

import pytest

from robustmix.data.datasets import load_dataset
from robustmix.errors import IntakeError


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["train/n01440764/1.JPEG", "val/ILSVRC2012_val_00000001.JPEG"], "imagenet-1k"),
        (["ILSVRC/Data/CLS-LOC/train/n01440764/1.JPEG", "x/a.txt"], "imagenet-1k"),
        (["imagenet/train/n01440764/1.JPEG"], "imagenet-1k"),
        (["wnids.txt", "train/n01/images/1.JPEG", "val/images/1.JPEG"], "tiny-imagenet"),
        (["images/001.a/1.jpg", "image_class_labels.txt", "parts/parts.txt"], "cub-200-2011"),
        (["train2018.json", "train_val2018/Aves/1/a.jpg"], "inaturalist-2018"),
        (["cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"], "cifar100"),
    ],
)
def test_the_name_is_in_the_refusal(tmp_path: Path, files: list[str], name: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(IntakeError) as error:
        load_dataset(f"folder:{tmp_path}", "test")
    assert f"looks like {name}, which is" in str(error.value)
    assert f"--dataset {name} --data-dir {tmp_path}" in error.value.line()


def test_other_folders_are_refused_as_before(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(IntakeError) as error:
        load_dataset(f"folder:{tmp_path}", "test")
    assert "looks like" not in str(error.value)
