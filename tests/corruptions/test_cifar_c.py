from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robustmix.corruptions import CifarC, corrupt
from robustmix.errors import IntakeError, UsageError

N = 7


def clean_images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 200, (N, 3, 32, 32), generator=generator, dtype=torch.uint8)


CLEAN_LABELS = torch.tensor([3, 0, 99, 41, 3, 7, 12])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("brightness", "contrast"):
        blocks = [corrupt(clean_images(), name, s, seed=0) for s in range(1, 6)]
        np.save(tmp_path / f"{name}.npy", torch.cat(blocks).permute(0, 2, 3, 1).numpy())
    np.save(tmp_path / "labels.npy", CLEAN_LABELS.repeat(5).to(torch.uint8).numpy())
    return tmp_path


def opened(folder: Path) -> CifarC:
    return CifarC.open(
        folder, dataset="cifar100", clean_images=clean_images(), clean_labels=CLEAN_LABELS, n=N
    )


def test_open_and_take(folder: Path) -> None:
    files = opened(folder)
    assert files.available == ("brightness", "contrast")
    assert len(files) == N
    assert torch.equal(files.labels, CLEAN_LABELS)
    indices = [5, 0, 5, 6]
    for severity in range(1, 6):
        expected = corrupt(clean_images(), "contrast", severity, seed=0)[indices]
        taken = files.take("contrast", severity, indices)
        assert torch.equal(taken, expected)
        assert taken.is_contiguous()
        assert torch.equal(files.take("contrast", severity, torch.tensor(indices)), taken)


def test_take_nothing(folder: Path) -> None:
    assert opened(folder).take("contrast", 1, []).shape == (0, 3, 32, 32)


def test_files_stay_on_disk(folder: Path) -> None:
    assert all(isinstance(array, np.memmap) for array in opened(folder).arrays.values())


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_labels_of_any_integer_type(folder: Path, dtype: type[np.integer]) -> None:
    np.save(folder / "labels.npy", CLEAN_LABELS.repeat(5).numpy().astype(dtype))
    assert torch.equal(opened(folder).labels, CLEAN_LABELS)


def test_a_part_of_the_clean_set(folder: Path) -> None:
    part = torch.tensor([6, 2, 3])
    files = CifarC.open(
        folder,
        dataset="cifar100",
        clean_images=clean_images()[part],
        clean_labels=CLEAN_LABELS[part],
        clean_indices=part,
        n=N,
    )
    assert len(files) == N
    with pytest.raises(IntakeError, match="differs from the clean labels"):
        CifarC.open(
            folder,
            dataset="cifar100",
            clean_labels=CLEAN_LABELS[part],
            clean_indices=part.flip(0),
            n=N,
        )


def test_the_released_size_is_expected(folder: Path) -> None:
    with pytest.raises(IntakeError, match="expected 50000 integers, got uint8"):
        CifarC.open(folder, dataset="cifar100")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(IntakeError, match=r"no folder .*nowhere; download"):
        CifarC.open(tmp_path / "nowhere", dataset="cifar10")


def test_missing_labels(folder: Path) -> None:
    (folder / "labels.npy").unlink()
    with pytest.raises(IntakeError, match=r"no file .*labels\.npy; extract"):
        opened(folder)


def test_no_corruption_at_all(folder: Path) -> None:
    (folder / "brightness.npy").unlink()
    (folder / "contrast.npy").unlink()
    with pytest.raises(IntakeError, match="no corruption file"):
        opened(folder)


def test_missing_corruption(folder: Path) -> None:
    with pytest.raises(IntakeError, match=r"no file .*fog\.npy"):
        opened(folder).take("fog", 1, [0])


def test_truncated_file(folder: Path) -> None:
    path = folder / "contrast.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntakeError, match=r"cannot read .*contrast\.npy.*extract") as caught:
        opened(folder)
    assert "\n" not in caught.value.line()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PK\x03\x04"])
def test_not_an_array(folder: Path, content: bytes) -> None:
    (folder / "contrast.npy").write_bytes(content)
    with pytest.raises(IntakeError, match=r"contrast\.npy"):
        opened(folder)


def test_pickles_are_refused(folder: Path) -> None:
    np.save(folder / "contrast.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(IntakeError, match=r"cannot read .*contrast\.npy"):
        opened(folder)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((5 * N, 32, 32, 3), np.float32),
        np.zeros((5 * N, 3, 32, 32), np.uint8),
        np.zeros((4 * N, 32, 32, 3), np.uint8),
    ],
    ids=["float", "channels first", "four severities"],
)
def test_wrong_type_or_shape(folder: Path, array: np.ndarray) -> None:
    np.save(folder / "contrast.npy", array)
    with pytest.raises(IntakeError, match="expected uint8"):
        opened(folder)


def test_trap_13_label_blocks_differ(folder: Path) -> None:
    labels = CLEAN_LABELS.repeat(5).numpy()
    labels[N + 2] = 1
    np.save(folder / "labels.npy", labels)
    with pytest.raises(IntakeError, match="labels of the five severities differ"):
        CifarC.open(folder, dataset="cifar100", n=N)


def test_labels_of_another_number_of_classes(folder: Path) -> None:
    with pytest.raises(IntakeError, match="expected labels in 0 to 9, got 0 to 99"):
        CifarC.open(folder, dataset="cifar10", n=N)


def test_float_labels(folder: Path) -> None:
    np.save(folder / "labels.npy", CLEAN_LABELS.repeat(5).double().numpy())
    with pytest.raises(IntakeError, match="expected 35 integers, got float64"):
        opened(folder)


def test_trap_21_clean_set_in_another_order(folder: Path) -> None:
    with pytest.raises(IntakeError, match=r"mean correlation -?0\.\d{3}, expected above 0.9"):
        CifarC.open(folder, dataset="cifar100", clean_images=clean_images().flip(0), n=N)


def test_many_clean_images_in_several_parts(folder: Path) -> None:
    many = torch.arange(N).repeat(100)
    CifarC.open(
        folder,
        dataset="cifar100",
        clean_images=clean_images()[many],
        clean_labels=CLEAN_LABELS[many],
        clean_indices=many,
        n=N,
    )


def test_constant_images_do_not_count_in_the_correlation(folder: Path) -> None:
    images = clean_images()
    images[2] = 9
    assert len(CifarC.open(folder, dataset="cifar100", clean_images=images, n=N)) == N


def test_unknown_data_set(folder: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'cifar100'"):
        CifarC.open(folder, dataset="cifar1000", n=N)


@pytest.mark.parametrize("index", [-1, N])
def test_an_index_outside_is_no_image_of_another_severity(folder: Path, index: int) -> None:
    with pytest.raises(UsageError, match="indices in 0 to 6"):
        opened(folder).take("contrast", 2, [0, index])


@pytest.mark.parametrize("severity", [0, 6])
def test_severity(folder: Path, severity: int) -> None:
    with pytest.raises(UsageError, match="severity of 1 to 5"):
        opened(folder).take("contrast", severity, [0])
