"""Folders of the layout of ImageNet-C and Tiny-ImageNet-C: what is read, and what is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from robustmix.corruptions.folder_c import SIDES, FolderC
from robustmix.errors import IntakeError, UsageError

CLASSES = ("n01440764", "n01443537", "n02099601")
COUNTS = (3, 2, 4)
LABELS = torch.repeat_interleave(torch.arange(3), torch.tensor(COUNTS))
FILES = tuple(
    f"{CLASSES[c]}/ILSVRC2012_val_{100 * c + i:08d}.JPEG"
    for c in range(3)
    for i in range(COUNTS[c])
)
NAMES = ("fog", "brightness", "spatter")
ARCHIVES = {"fog": "weather", "brightness": "weather", "spatter": "extra"}


def level(name: str, severity: int, place: int) -> int:
    """Grey level that tells an image from all others."""
    return 80 * NAMES.index(name) + 16 * severity + place


def write(
    root: Path, side: int, *, archives: bool = True, severities: Sequence[int] = (1, 4)
) -> None:
    for name in NAMES:
        for severity in severities:
            condition = root / (ARCHIVES[name] if archives else "") / name / str(severity)
            for place, file in enumerate(FILES):
                path = condition / file
                path.parent.mkdir(parents=True, exist_ok=True)
                grey = np.full((side, side, 3), level(name, severity, place), np.uint8)
                Image.fromarray(grey).save(path, quality=95)


@pytest.fixture
def imagenet_c(tmp_path: Path) -> Path:
    write(tmp_path, 224)
    return tmp_path


def opened(root: Path, **changes: Any) -> FolderC:
    settings: dict[str, Any] = {
        "dataset": "imagenet-1k",
        "class_names": CLASSES,
        "clean_labels": LABELS,
        "clean_files": [Path(file).name for file in FILES],
        "names": NAMES,
        "severities": (1, 4),
    }
    return FolderC.open(root, **(settings | changes))


@pytest.mark.parametrize("archives", [True, False])
def test_images_are_paired_by_name(archives: bool, tmp_path: Path) -> None:
    write(tmp_path, 224, archives=archives)
    # The clean set in another order, and as another type of file.
    order = torch.tensor([8, 0, 3, 1, 2, 7, 5, 6, 4])
    clean_files = [Path(FILES[i]).with_suffix(".png").name for i in order]
    files = opened(tmp_path, clean_labels=LABELS[order], clean_files=clean_files)
    assert (files.available, len(files), files.paired) == (
        ("fog", "brightness", "spatter"),
        9,
        True,
    )
    for name in NAMES:
        taken = files.take(name, 4, [1, 5, 1])
        assert (taken.dtype, taken.shape) == (torch.uint8, (3, 3, 224, 224))
        want = [level(name, 4, int(order[i])) for i in (1, 5, 1)]
        assert taken[:, 1, 100, 100].tolist() == want
    assert files.take("fog", 1, torch.tensor([], dtype=torch.int64)).shape == (0, 3, 224, 224)


def test_tiny_imagenet_is_given_images_of_the_same_class(tmp_path: Path) -> None:
    """Its clean images have other names; every file is used once, with the right label."""
    write(tmp_path, 64, archives=False)
    order = torch.tensor([4, 8, 0, 3, 1, 7, 2, 5, 6])
    files = opened(
        tmp_path,
        dataset="tiny-imagenet",
        clean_labels=LABELS[order],
        clean_files=[f"val_{i}.JPEG" for i in range(9)],
    )
    assert not files.paired
    assert sorted(files.files) == sorted(FILES)
    assert [CLASSES.index(file.partition("/")[0]) for file in files.files] == LABELS[order].tolist()
    levels = files.take("spatter", 1, range(9))[:, 0, 0, 0] - level("spatter", 1, 0)
    assert [FILES[i] for i in levels.tolist()] == list(files.files)


def test_only_what_will_be_read_is_looked_at(imagenet_c: Path) -> None:
    files = opened(imagenet_c, names=("fog", "snow"), severities=(4,))
    assert files.available == ("fog",)
    with pytest.raises(IntakeError, match="no folder snow"):
        files.take("snow", 4, [0])
    with pytest.raises(UsageError, match="severity"):
        files.take("fog", 1, [0])
    with pytest.raises(UsageError, match="indices in 0 to 8"):
        files.take("fog", 4, [9])
    with pytest.raises(IntakeError, match="no folder of a corruption such as snow"):
        opened(imagenet_c, names=("snow",))


def test_what_is_not_there_is_named(imagenet_c: Path, tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match="no folder"):
        opened(tmp_path / "nowhere")
    with pytest.raises(IntakeError, match=r"no folder .*/fog/2"):
        opened(imagenet_c, severities=(2,))
    with pytest.raises(UsageError, match="did you mean"):
        opened(imagenet_c, dataset="imagenet")
    assert set(SIDES) == {"tiny-imagenet", "imagenet-1k"}


def test_classes_must_be_those_of_the_clean_set(imagenet_c: Path) -> None:
    with pytest.raises(IntakeError, match=r"has the class n02099601 besides: 3 classes.* 2"):
        opened(imagenet_c, class_names=CLASSES[:2], clean_labels=LABELS[:5], clean_files=FILES[:5])
    with pytest.raises(IntakeError, match="lacks the class n99999999"):
        opened(imagenet_c, class_names=(*CLASSES[:2], "n99999999"))


def test_labels_in_another_order_are_found_by_the_names(imagenet_c: Path) -> None:
    """Two classes of equal size exchanged: the counts agree, the names of the files do not."""
    for place in (FILES[2], FILES[7], FILES[8]):
        for condition in imagenet_c.glob("*/*/*"):
            (condition / place).unlink()
    keep = [0, 1, 3, 4, 5, 6]
    names = [Path(FILES[i]).name for i in keep]
    assert len(opened(imagenet_c, clean_labels=LABELS[keep], clean_files=names)) == 6
    swapped = torch.tensor([1, 0, 2])[LABELS[keep]]
    with pytest.raises(IntakeError, match="n01443537 has no image called ILSVRC2012_val_00000000"):
        opened(imagenet_c, clean_labels=swapped, clean_files=names)


def test_numbers_of_images_must_agree(imagenet_c: Path) -> None:
    with pytest.raises(IntakeError, match="n01440764 holds 3 images, the clean set has 2"):
        opened(imagenet_c, clean_labels=LABELS[1:], clean_files=FILES[1:])


def test_every_condition_must_hold_the_same_files(imagenet_c: Path) -> None:
    path = imagenet_c / "extra" / "spatter" / "4" / FILES[4]
    path.rename(path.with_name("other.JPEG"))
    with pytest.raises(IntakeError, match=r"spatter/4/n01443537 does not hold the same files"):
        opened(imagenet_c)


def test_damaged_images_and_other_sizes_are_named(imagenet_c: Path) -> None:
    files = opened(imagenet_c)
    path = imagenet_c / "weather" / "fog" / "4" / FILES[2]
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(IntakeError, match=FILES[2]) as caught:
        files.take("fog", 4, [0, 2])
    assert "\n" not in caught.value.line()
    Image.new("RGB", (256, 256)).save(path)
    with pytest.raises(IntakeError, match="256x256 pixels, expected 224x224"):
        files.take("fog", 4, [2])


def test_grey_images_become_rgb(imagenet_c: Path) -> None:
    path = imagenet_c / "weather" / "fog" / "1" / FILES[0]
    Image.new("L", (224, 224), 90).save(path)
    assert set(opened(imagenet_c).take("fog", 1, [0]).flatten().tolist()) == {90}
