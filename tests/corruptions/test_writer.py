"""Generated sets: what is in the files, how they are taken up again, and how they are checked."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.corruptions import CORRUPTIONS, SEVERITIES, CifarC, corrupt, verify
from robustmix.corruptions import NAMES as NAMES_ALL
from robustmix.corruptions.verify import verify_set
from robustmix.corruptions.writer import SIDECAR, Written, read_record, write_set
from robustmix.data.corrupted import released_md5
from robustmix.errors import IncompatibleError, IntakeError
from robustmix.evaluation.suites.corruption import Corruption
from tests.corruptions.cifar import cifar100_test, needs_cifar100

N = 9
NAMES = ("shot_noise", "glass_blur", "brightness")


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(N, 3, 4, 4, generator=generator)
    large = torch.nn.functional.interpolate(smooth, size=(32, 32), mode="bilinear")
    return (large * 255).to(torch.uint8)


def write(out: Path, **changes: Any) -> list[Written]:
    settings: dict[str, Any] = {
        "dataset": "cifar100",
        "split": "test",
        "take": lambda places: images()[places],
        "labels": torch.arange(N) * 11,
        "sample_ids": [f"cifar100/test/{i}" for i in range(N)],
        "names": NAMES,
        "seed": 3,
    }
    return write_set(out, **{**settings, **changes})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix == ".npy"}


def test_the_layout_is_that_of_the_release(tmp_path: Path) -> None:
    write(tmp_path)
    labels = np.load(tmp_path / "labels.npy", allow_pickle=False)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [11 * i for i in range(N)] * 5
    for name in NAMES:
        array = np.load(tmp_path / f"{name}.npy", allow_pickle=False)
        assert (array.dtype, array.shape) == (np.uint8, (5 * N, 32, 32, 3))
        assert array.flags.c_contiguous
        for s, severity in enumerate(SEVERITIES):
            ids = [f"cifar100/test/{i}" for i in range(N)]
            want = corrupt(images(), name, severity, seed=3, sample_ids=ids)
            got = torch.from_numpy(array[s * N : (s + 1) * N]).permute(0, 3, 1, 2)
            assert torch.equal(got, want)
    assert {path.name for path in tmp_path.iterdir()} == {
        SIDECAR,
        "labels.npy",
        *(f"{name}.npy" for name in NAMES),
    }
    opened = CifarC.open(
        tmp_path,
        dataset="cifar100",
        clean_images=images(),
        clean_labels=torch.arange(N) * 11,
        n=N,
    )
    assert opened.available == tuple(sorted(NAMES, key=list(opened.arrays).index))


def test_an_interrupted_set_is_taken_up(tmp_path: Path) -> None:
    write(tmp_path / "whole")

    class Killed(BaseException):
        pass

    def die(written: Written) -> None:
        if written.name == NAMES[1]:
            raise Killed

    with pytest.raises(Killed):
        write(tmp_path / "parts", on_file=die)
    assert not (tmp_path / "parts" / "labels.npy").exists()
    again = write(tmp_path / "parts")
    assert [file.reused for file in again] == [True, True, False]
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert [file.reused for file in write(tmp_path / "parts")] == [True] * 3


def test_a_file_cut_short_is_made_again(tmp_path: Path) -> None:
    write(tmp_path)
    before = contents(tmp_path)
    cut = tmp_path / "brightness.npy"
    cut.write_bytes(cut.read_bytes()[:-7])
    assert [file.reused for file in write(tmp_path)] == [True, True, False]
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 4}, "with seed 3, not 4"),
        ({"profile": "tiny"}, "with profile 'cifar', not 'tiny'"),
        ({"dataset": "cifar10"}, "with dataset 'cifar100', not 'cifar10'"),
    ],
)
def test_another_set_is_not_mixed_in(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    write(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(IncompatibleError, match=said):
        write(tmp_path, **changes)
    assert contents(tmp_path) == before
    write(tmp_path, force=True, **changes)
    assert contents(tmp_path) != before or "dataset" in changes


def test_what_a_killed_run_left_behind_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".shot_noise.npy.abcd1234.tmp"
    left.write_bytes(b"half")
    other = tmp_path / "notes.tmp"
    other.write_bytes(b"mine")
    write(tmp_path)
    assert not left.exists()
    assert other.exists()


def test_trap_34_labels_beyond_255_keep_their_values(tmp_path: Path) -> None:
    labels = torch.arange(N) * 124
    write(tmp_path, dataset="imagenet", labels=labels, names=("brightness",))
    assert CifarC.open(tmp_path, dataset="imagenet", n=N, classes=1000).labels.tolist() == (
        labels.tolist()
    )


def test_images_of_another_size(tmp_path: Path) -> None:
    oblong = images()[:, :, :20, :28]
    write(tmp_path, dataset="x", take=lambda places: oblong[places], profile="tiny", names=("fog",))
    files = CifarC.open(tmp_path, dataset="x", n=N, classes=100, size=(20, 28))
    ids = [f"cifar100/test/{i}" for i in range(N)]
    want = corrupt(oblong, "fog", 2, seed=3, sample_ids=ids, profile="tiny")
    assert torch.equal(files.take("fog", 2, [8, 3]), want[[8, 3]])
    with pytest.raises(IntakeError, match="expected uint8"):
        CifarC.open(tmp_path, dataset="x", n=N, classes=100, size=(28, 20))


def test_released_files_are_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SIDECAR).unlink()
    with pytest.raises(IncompatibleError, match="robustmix did not make"):
        write(tmp_path)


def test_more_corruptions_can_be_added(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, names=("frost", "fog"))
    record = read_record(tmp_path)
    assert record is not None
    assert record["params"]["frost"] == "procedural"
    assert set(record["files"]) == {*NAMES, "frost", "fog", "labels"}


def opened(folder: Path) -> CifarC:
    return CifarC.open(folder, dataset="cifar100", n=N)


def test_verification_finds_a_changed_pixel(tmp_path: Path) -> None:
    write(tmp_path / "a")
    assert all(row.ok and row.recorded for row in verify_set(opened(tmp_path / "a")))
    write(tmp_path / "b")
    array = np.lib.format.open_memmap(tmp_path / "b" / "glass_blur.npy", mode="r+")
    array[7, 0, 0, 0] ^= 4
    array.flush()
    del array
    rows = {row.name: row for row in verify_set(opened(tmp_path / "b"), opened(tmp_path / "a"))}
    assert [name for name, row in rows.items() if not row.ok] == ["glass_blur"]
    assert rows["glass_blur"].recorded is False
    assert (rows["glass_blur"].off, rows["glass_blur"].most) == (1 / (5 * N * 3072), 4)
    assert (rows["brightness"].off, rows["brightness"].most) == (0, 0)
    assert rows["labels"].off == 0


def test_sets_of_other_files_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "a")
    write(tmp_path / "b", names=NAMES[:1])
    with pytest.raises(IntakeError, match="do not hold the same files"):
        list(verify_set(opened(tmp_path / "a"), opened(tmp_path / "b")))


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / SIDECAR).write_text(json.dumps({"params": 3}))
    with pytest.raises(IntakeError, match=SIDECAR):
        read_record(tmp_path)


def test_generated_files_do_not_pass_for_released_ones(tmp_path: Path) -> None:
    write(tmp_path)
    from robustmix.errors import UsageError

    with pytest.raises(UsageError, match="generated, not the released"):
        Corruption(corruption_source="official")._official(tmp_path, ["fog"])
    made = Corruption(corruption_source="auto")._official(tmp_path, ["fog"])
    assert made is None  # images are generated


def test_a_corruption_of_others_is_written_and_verified(tmp_path: Path) -> None:
    with CORRUPTIONS.temporary():
        CORRUPTIONS.register("mine", lambda images, severity: images >> severity, "darker")
        write(tmp_path, names=("brightness", "mine"))
        array = np.load(tmp_path / "mine.npy", allow_pickle=False)
        clean = images().permute(0, 2, 3, 1).numpy()
        assert np.array_equal(array, np.concatenate([clean >> s for s in range(1, 6)]))
        found = opened(tmp_path)
        assert found.available == ("brightness", "mine")
        assert torch.equal(found.take("mine", 2, [0]), images()[:1] >> 2)
        rows = {row.name: row.recorded for row in verify_set(found)}
        assert rows == {"brightness": True, "mine": True, "labels": True}


def test_released_checksums_are_asked_of_released_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a record a file must be the released one, also if it is random; with one, not."""
    monkeypatch.setattr(verify, "OFFICIAL_IMAGES", N)
    write(tmp_path)
    md5 = {p.stem: hashlib.md5(p.read_bytes()).hexdigest() for p in tmp_path.glob("*.npy")}
    other = md5 | {"glass_blur": "0" * 32, "brightness": "1" * 32}
    rows = {row.name: row.released for row in verify_set(opened(tmp_path), released=other)}
    # Only what can be made again is asked of a generated set: these are not CIFAR's images.
    assert rows == {"shot_noise": None, "glass_blur": None, "brightness": False, "labels": False}
    (tmp_path / SIDECAR).unlink()
    assert all(row.ok for row in verify_set(opened(tmp_path), released=md5))
    rows = {row.name: row.released for row in verify_set(opened(tmp_path), released=other)}
    assert rows == {"shot_noise": True, "glass_blur": False, "brightness": False, "labels": True}


def test_the_manifests_know_every_released_file() -> None:
    for name in ("cifar10", "cifar100"):
        known = released_md5(name)
        assert known is not None
        assert set(known) == {*NAMES_ALL, "labels"}
    assert released_md5("digits") is None
    again = verify.RELEASED_MD5["cifar100"]
    assert again.items() <= (released_md5("cifar100") or {}).items()
    assert set(again) - {"labels"} == {n for n, c in CORRUPTIONS.items() if c.deterministic}


@needs_cifar100
@pytest.mark.slow
def test_the_released_files_come_out(tmp_path: Path) -> None:
    """Labels and what has nothing random, byte for byte, through the writer."""
    from robustmix.corruptions.verify import RELEASED_MD5

    pixels = cifar100_test()
    labels = torch.from_numpy(_labels())
    released = RELEASED_MD5["cifar100"]
    write_set(
        tmp_path,
        dataset="cifar100",
        split="test",
        take=lambda places: pixels[places],
        labels=labels,
        sample_ids=[str(i) for i in range(10_000)],
        names=[name for name in released if name != "labels"],
        seed=0,
    )
    for name, md5 in released.items():
        assert hashlib.md5((tmp_path / f"{name}.npy").read_bytes()).hexdigest() == md5, name


def _labels() -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    import os

    from robustmix.data.datasets import load_dataset

    data = load_dataset("cifar100", "test", data_dir=Path(os.environ["ROBUSTMIX_DATA"]))
    return data.labels.numpy()


def test_trap_33_weaker_images_at_a_higher_severity_are_no_fault(tmp_path: Path) -> None:
    write(tmp_path, names=["elastic_transform"])
    array = np.load(tmp_path / "elastic_transform.npy", allow_pickle=False).astype(float)
    clean = images().permute(0, 2, 3, 1).numpy().astype(float)
    change = [np.abs(array[s * N : (s + 1) * N] - clean).mean() for s in range(5)]
    assert change[4] < change[0]  # as in the benchmark: its affine part shrinks
    opened = CifarC.open(
        tmp_path,
        dataset="cifar100",
        clean_images=images(),
        clean_labels=torch.arange(N) * 11,
        n=N,
    )
    assert all(checked.ok for checked in verify_set(opened))
