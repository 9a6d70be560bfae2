"""Tiny-ImageNet in its official layout, with 200 ids that are not sorted in wnids.txt."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from robustmix.data import load_dataset
from robustmix.data.manifests import DATASETS, Counts, load_manifest
from robustmix.data.wnids import imagenet_wnids
from robustmix.errors import IntakeError
from tests.data.sets.pictures import labels_of, picture, read, read_as_whole, write

WNIDS = list(imagenet_wnids()[3:1000:5])
UNSORTED = random.Random(1).sample(WNIDS, 200)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    home = tmp_path / "tiny-imagenet-200"
    write(home / "wnids.txt", *UNSORTED)
    for place, wnid in enumerate(WNIDS[:3]):
        for k in (0, 10, 2):
            file = home / "train" / wnid / "images" / f"{wnid}_{k}.JPEG"
            picture(file, 10 * place + k, size=(64, 64), mode="L" if k == 2 else "RGB")
        write(home / "train" / wnid / f"{wnid}_boxes.txt", f"{wnid}_0.JPEG\t0\t0\t9\t9")
    val = [("val_0.JPEG", WNIDS[7]), ("val_1.JPEG", WNIDS[2]), ("val_10.JPEG", WNIDS[199])]
    for place, (name, _) in enumerate(val):
        picture(home / "val" / "images" / name, 50 * place, size=(64, 64))
    write(
        home / "val" / "val_annotations.txt",
        *(f"{name}\t{wnid}\t0\t32\t44\t62" for name, wnid in val),
    )
    picture(home / "test" / "images" / "test_0.JPEG", size=(64, 64))
    return tmp_path


def test_classes_are_ranks_of_sorted_ids_not_lines_of_the_file(root: Path) -> None:
    data = read("tiny-imagenet", "test", root)
    assert data.class_names == tuple(WNIDS)
    assert labels_of(data) == {"val_0": 7, "val_1": 2, "val_10": 199}
    assert UNSORTED.index(WNIDS[7]) != 7
    assert data.sample_ids[0] == "tiny-imagenet/val/val_0"
    assert data.layout == "val/images with val_annotations.txt"
    assert data.transform == "none"


def test_training_images_are_found_in_their_class_folders(root: Path) -> None:
    data = read("tiny-imagenet", "train", root)
    stems = [f"{wnid}_{k}" for wnid in WNIDS[:3] for k in (0, 10, 2)]
    assert labels_of(data) == {stem: WNIDS.index(stem[:9]) for stem in stems}
    assert data.notes == ("3 of 9 images converted to RGB (3 L)",)
    assert (data.layout, data.partial_of) == ("train/<wnid>/images", 100_000)
    # JPEG gives a flat image back to within a level.
    means = data.pixels.take(torch.arange(9)).float().mean(dim=(1, 2, 3))
    wanted = [10 * place + k for place in range(3) for k in (0, 10, 2)]
    torch.testing.assert_close(means, torch.tensor(wanted).float(), atol=1.5, rtol=0)


def test_val_arranged_by_class_is_the_same_data(root: Path) -> None:
    flat = read("tiny-imagenet", "test", root)
    home = root / "tiny-imagenet-200"
    for stem, label in labels_of(flat).items():
        place = home / "val" / WNIDS[label] / f"{stem}.JPEG"
        place.parent.mkdir()
        (home / "val" / "images" / f"{stem}.JPEG").rename(place)
    (home / "val" / "images").rmdir()
    arranged = read("tiny-imagenet", "test", root)
    assert arranged.layout == "val/<wnid>"
    assert labels_of(arranged) == labels_of(flat)
    assert arranged.files == flat.files


def test_a_part_is_an_error_with_both_counts_or_is_asked_for(root: Path) -> None:
    with pytest.raises(IntakeError, match=r"^9 of the 100,000 images .* are here .*train/<wnid>"):
        load_dataset("tiny-imagenet", "train", data_dir=root)
    data = load_dataset("tiny-imagenet", "train", data_dir=root, allow_partial=True)
    assert data.notes[0].startswith("W-PARTIAL: 9 of the 100,000 images of tiny-imagenet/train")


def test_a_whole_set_is_no_part(root: Path) -> None:
    assert read_as_whole("tiny-imagenet", "train", root, train=9).partial_of is None
    with pytest.raises(IntakeError, match="has 9 images, more than the official 8"):
        read_as_whole("tiny-imagenet", "train", root, train=8)


def test_a_whole_set_with_other_labels_than_the_official_ones_is_refused(root: Path) -> None:
    manifest = replace(load_manifest("tiny-imagenet"), counts=Counts(val=3))
    annotations = root / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    lines = [
        f"tiny-imagenet/val/{n}\0{k}\n"
        for n, k in labels_of(read("tiny-imagenet", "test", root)).items()
    ]
    digest = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    manifest = replace(manifest, split_sha256={"test": digest})
    (file,) = DATASETS["tiny-imagenet"](manifest, "test", root).files
    assert (file.sha256, file.verified) == (digest, True)
    annotations.write_text(annotations.read_text().replace(WNIDS[7], WNIDS[8]))
    with pytest.raises(
        IntakeError, match=r"ids and labels of tiny-imagenet/val .* not the official"
    ):
        DATASETS["tiny-imagenet"](manifest, "test", root)


def test_what_is_missing_of_val_is_left_out(root: Path) -> None:
    (root / "tiny-imagenet-200" / "val" / "images" / "val_1.JPEG").unlink()
    data = read_as_whole("tiny-imagenet", "test", root, val=3)
    assert labels_of(data) == {"val_0": 7, "val_10": 199}
    assert data.partial_of == 3


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("val_0.JPEG\tn99999999\t0\t0\t1\t1", "'n99999999' is not in wnids.txt"),
        ("val_0.JPEG", "expected 2 fields"),
        (f"../../x.JPEG\t{WNIDS[0]}\t0\t0\t1\t1", "no path below"),
    ],
)
def test_a_line_that_cannot_be_meant_is_an_error(root: Path, line: str, told: str) -> None:
    write(root / "tiny-imagenet-200" / "val" / "val_annotations.txt", line)
    with pytest.raises(IntakeError, match=told):
        read("tiny-imagenet", "test", root)


def test_other_sizes_and_foreign_classes_are_errors(root: Path) -> None:
    folder = root / "tiny-imagenet-200" / "train"
    picture(folder / WNIDS[5] / "images" / f"{WNIDS[5]}_0.JPEG", size=(65, 64))
    with pytest.raises(IntakeError, match=r"has 65x64 pixels, images of tiny-imagenet have 64x64"):
        read("tiny-imagenet", "train", root)
    (folder / "n00000001" / "images").mkdir(parents=True)
    with pytest.raises(IntakeError, match=r"n00000001 is no class of wnids\.txt"):
        read("tiny-imagenet", "train", root)


def test_the_error_where_nothing_is_there_names_the_places(tmp_path: Path) -> None:
    with pytest.raises(IntakeError) as error:
        load_dataset("tiny-imagenet", "test", data_dir=tmp_path)
    assert f"no wnids.txt in {tmp_path}/tiny-imagenet-200, " in error.value.message
    assert "robustmix data info tiny-imagenet" in error.value.hint
