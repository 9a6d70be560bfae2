"""The suite perturbation, from the files' official layouts to the rates."""

import builtins
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from robustmix import evaluate
from robustmix.comparison.check import check
from robustmix.data.images import ImageSet, TensorPixels
from robustmix.data.perturbed.films import read_film
from robustmix.data.perturbed.names import CIFAR, IMAGENET, is_noise
from robustmix.errors import IncompatibleError, IntakeError, UsageError
from robustmix.evaluation.recompute import recompute
from robustmix.metrics.metric import Metric
from robustmix.models.robust_model import RobustModel
from robustmix.report.report import Report
from tests.evaluation.tiny import MEAN, STD, Net
from tests.shift.made import cifar_like, cifar_model, logits_of, rows_of

PICTURES = {"translate": 16, "motion_blur": 21}
N = 23


def number(report: Report, path: str) -> Metric:
    part = report.content.suites["perturbation"]
    assert part.status == "ok", part.reason
    found = part.number(path)
    assert found is not None, path
    return found


def sequences(rows: NDArray[np.uint8], name: str, *, level: int = 1) -> NDArray[np.uint8]:
    """Make sequences of clean images, (N, pictures, H, W, 3): the first picture is clean."""
    rng = np.random.default_rng([len(name), level])
    pictures = PICTURES.get(name, 31)
    moving = rng.normal(0, 25 * level, (len(rows), pictures, 1, 1, 3))
    if not is_noise(name):
        moving = moving.cumsum(axis=1) / 3
    moving[:, 0] = 0
    return np.clip(rows[:, None] + moving, 0, 255).astype(np.uint8)


def write_cifar_p(folder: Path, data: ImageSet, names: Sequence[str] = CIFAR) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        np.save(folder / f"{name}.npy", sequences(rows_of(data), name))
        if is_noise(name):
            for level in (2, 3):
                np.save(folder / f"{name}_{level}.npy", sequences(rows_of(data), name, level=level))
    return folder


def by_hand(name: str, data: ImageSet, *, difficulty: int = 1) -> NDArray[np.float64]:
    """Flip share of each sequence, by loops over pictures."""
    level = difficulty if is_noise(name) else 1
    found = []
    for film in sequences(rows_of(data), name, level=level):
        pictures = torch.from_numpy(film).permute(0, 3, 1, 2)
        y = logits_of(cifar_model(), pictures).argmax(axis=1)
        if is_noise(name):
            found.append(np.mean([y[j] != y[0] for j in range(1, len(y))]))
        else:
            d = difficulty
            found.append(np.mean([y[j] != y[j - d] for j in range(d, len(y))]))
    return np.array(found)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ImageSet]:
    root, data = tmp_path_factory.mktemp("cifar"), cifar_like(N)
    write_cifar_p(root / "CIFAR-10-P", data)
    return root, data


def test_pictures_are_counted_in_the_files_and_flips_are_as_by_hand(
    cifar: tuple[Path, ImageSet],
) -> None:
    root, data = cifar
    report = evaluate(cifar_model(), data, ["perturbation"], data_dir=root)
    params = report.content.suites["perturbation"].params
    pictures = dict(zip(params["perturbations"], params["pictures"], strict=True))
    assert pictures == {name: PICTURES.get(name, 31) for name in CIFAR}
    each = {name: by_hand(name, data) for name in CIFAR}
    for name, shares in each.items():
        assert number(report, f"fp[{name}]").value == pytest.approx(shares.mean()), name
    assert 0 < each["gaussian_noise"].mean() != each["tilt"].mean()
    whole = np.mean(list(each.values()), axis=0)
    found = number(report, "mfp")
    assert found.value == pytest.approx(whole.mean())
    assert found.n == N
    assert found.ci is not None
    assert number(report, "mfr").value is None
    assert "--perturbation-reference" in str(number(report, "mfr").reason)
    assert recompute(report) == []


def test_rates_are_means_of_ratios_and_name_their_source(
    cifar: tuple[Path, ImageSet], tmp_path: Path
) -> None:
    root, data = cifar
    fp = {name: 0.1 + 0.02 * i for i, name in enumerate(CIFAR)}
    ut5d = {name: 1.0 + i for i, name in enumerate(CIFAR)}
    path = tmp_path / "alexnet.json"
    said = {"source": "my own AlexNet", "dataset": "cifar10"}
    path.write_text(json.dumps({**said, "fp": fp, "ut5d": ut5d}))
    report = evaluate(
        cifar_model(), data, ["perturbation"], data_dir=root, perturbation_reference=path
    )
    ratios = [number(report, f"fp[{name}]").value / fp[name] for name in CIFAR]  # type: ignore[operator]
    assert number(report, "mfr").value == pytest.approx(100 * np.mean(ratios))
    moved = [number(report, f"ut5d[{name}]").value / ut5d[name] for name in CIFAR]  # type: ignore[operator]
    assert number(report, "mt5d").value == pytest.approx(100 * np.mean(moved))
    assert number(report, "mfr").unit == "percent"
    part = report.content.suites["perturbation"]
    assert "my own AlexNet" in part.shown.note
    assert "my own AlexNet" in str(number(report, "mfr").note)
    assert part.params["reference"]["fp"] == fp
    assert recompute(report) == []


def test_a_report_is_a_reference_and_gives_100(
    cifar: tuple[Path, ImageSet], tmp_path: Path
) -> None:
    root, data = cifar
    evaluate(cifar_model(), data, ["perturbation"], data_dir=root, out=tmp_path / "alexnet")
    report = evaluate(
        cifar_model(), data, ["perturbation"], data_dir=root,
        perturbation_reference=tmp_path / "alexnet",
    )  # fmt: skip
    assert number(report, "mfr").value == pytest.approx(100)
    assert number(report, "mt5d").value == pytest.approx(100)


@pytest.mark.parametrize("of", [{}, {"dataset": "cifar10", "difficulty": 2}])
def test_figures_of_other_sequences_are_no_reference(
    of: dict[str, object], cifar: tuple[Path, ImageSet], tmp_path: Path
) -> None:
    root, data = cifar
    path = tmp_path / "alexnet.json"
    path.write_text(json.dumps({"source": "a table", "fp": dict.fromkeys(CIFAR, 0.2), **of}))
    with pytest.raises(IncompatibleError, match=r"are of .* at difficulty"):
        evaluate(cifar_model(), data, ["perturbation"], data_dir=root, perturbation_reference=path)


def test_a_report_on_harder_sequences_is_no_reference_of_the_usual_ones(
    cifar: tuple[Path, ImageSet], tmp_path: Path
) -> None:
    root, data = cifar
    options: dict[str, Any] = {"data_dir": root, "perturbations": "tilt"}
    evaluate(cifar_model(), data, ["perturbation"], difficulty=2, out=tmp_path / "a", **options)
    with pytest.raises(IncompatibleError, match="difficulty 2"):
        evaluate(
            cifar_model(), data, ["perturbation"], perturbation_reference=tmp_path / "a", **options
        )


class NothingOfDark(Net):
    """Gives NaN for pictures that are wholly black, and none of the clean images is."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        dark = x.flatten(1).amax(dim=1) == x.new_tensor([(0 - m) / s for m, s in NORMAL]).max()
        return torch.where(dark[:, None], torch.full_like(logits, torch.nan), logits)


NORMAL = tuple(zip(MEAN, STD, strict=True))


def test_a_picture_without_a_prediction_fails_the_suite_and_is_named(
    cifar: tuple[Path, ImageSet], tmp_path: Path
) -> None:
    _, data = cifar
    folder = write_cifar_p(tmp_path / "CIFAR-10-P", data, ["tilt"])
    films = np.load(folder / "tilt.npy")
    films[17, 9] = 0
    np.save(folder / "tilt.npy", films)
    model = RobustModel(
        NothingOfDark(10), mean=MEAN, std=STD, num_classes=10, input_size=(3, 32, 32)
    )
    report = evaluate(
        model, data, ["perturbation"], data_dir=tmp_path, perturbations="tilt", keep_going=True
    )
    part = report.content.suites["perturbation"]
    assert part.status == "failed"
    assert "E-NONFINITE" in str(part.reason)
    assert "cifar10/test/17 (tilt)" in str(part.reason)


@pytest.mark.parametrize(("column", "value"), [("flips", 1.5), ("flips", -0.1), ("distance", 16.0)])
def test_rows_that_no_sequence_has_are_noticed(
    column: str, value: float, cifar: tuple[Path, ImageSet]
) -> None:
    root, data = cifar
    report = evaluate(
        cifar_model(), data, ["perturbation"], data_dir=root, perturbations="tilt,scale"
    )
    assert report.samples is not None
    report.samples.tables["perturbation"].columns[column][1, 0, 3] = value
    with pytest.raises(IntakeError, match=f"{column} of .* are not in 0 to"):
        recompute(report)


def test_harder_ones_read_harder_noise_and_compare_pictures_further_apart(
    cifar: tuple[Path, ImageSet],
) -> None:
    root, data = cifar
    report = evaluate(
        cifar_model(), data, ["perturbation"], data_dir=root, difficulty=2,
        perturbations="shot_noise,rotate",
    )  # fmt: skip
    for name in ("shot_noise", "rotate"):
        expected = by_hand(name, data, difficulty=2).mean()
        assert number(report, f"fp[{name}]").value == pytest.approx(expected)
    assert number(report, "mfp").value is None
    assert number(report, "mfp").reason == (
        "it takes all ten that count; gaussian_noise was not run"
    )


def test_results_do_not_depend_on_the_batch(cifar: tuple[Path, ImageSet]) -> None:
    root, data = cifar
    parts = [
        evaluate(cifar_model(), data, ["perturbation"], data_dir=root, batch_size=size).content
        for size in (5, 64)
    ]
    one, other = (part.suites["perturbation"] for part in parts)
    assert one.metrics == other.metrics
    assert one.conditions == other.conditions


def test_the_gate_watches_flips_and_more_of_them_are_worse(cifar: tuple[Path, ImageSet]) -> None:
    root, data = cifar
    steady = Net(10)
    with torch.no_grad():
        steady.fc.weight.mul_(0.0)
    still = RobustModel(steady, mean=MEAN, std=STD, num_classes=10, input_size=(3, 32, 32))
    base, other = (
        evaluate(model, data, ["perturbation"], data_dir=root, name=name)
        for model, name in ((still, "still"), (cifar_model(), "moving"))
    )
    assert number(base, "mfp").value == 0
    worse = {r.path: r.outcome for r in check(other, base).rules}
    better = {r.path: r.outcome for r in check(base, other).rules}
    assert worse["perturbation.mfp"] == "fail"
    assert better["perturbation.mfp"] == "pass"


def test_sequences_of_other_images_are_refused(tmp_path: Path) -> None:
    data = cifar_like(N)
    folder = write_cifar_p(tmp_path / "CIFAR-10-P", data, ["gaussian_noise"])
    path = folder / "gaussian_noise.npy"
    np.save(path, np.load(path)[::-1])
    with pytest.raises(IntakeError, match="not the clean images"):
        evaluate(
            cifar_model(), data, ["perturbation"], data_dir=tmp_path,
            perturbations="gaussian_noise",
        )  # fmt: skip


@pytest.mark.parametrize("shape", [(N, 31, 32, 32), (N - 1, 31, 32, 32, 3), (N, 1, 32, 32, 3)])
def test_arrays_of_another_form_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "CIFAR-10-P").mkdir()
    np.save(tmp_path / "CIFAR-10-P" / "tilt.npy", np.zeros(shape, np.uint8))
    with pytest.raises(IntakeError, match=r"tilt\.npy"):
        evaluate(
            cifar_model(), cifar_like(N), ["perturbation"], data_dir=tmp_path, perturbations="tilt"
        )


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"perturbations": "snowy"}, UsageError, "did you mean 'snow'"),
        ({"perturbations": ","}, UsageError, "no perturbation was named"),
        ({"difficulty": 4}, UsageError, "difficulties are 1 to 3"),
        ({}, IntakeError, "no folder .*CIFAR-10-P"),
    ],
)
def test_what_cannot_be_asked_for(
    options: dict[str, Any], error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        evaluate(cifar_model(), cifar_like(N), ["perturbation"], data_dir=tmp_path, **options)


def test_other_images_have_no_sequences(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no sequences"):
        evaluate(
            cifar_model(), replace(cifar_like(N), name="mine"), ["perturbation"], data_dir=tmp_path
        )


# Films

WNIDS = tuple(f"n{i:08d}" for i in range(200))


def tiny_imagenet() -> tuple[RobustModel, ImageSet]:
    """Tiny-ImageNet's classes, of which two have images."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(200)
    images = torch.randint(256, (200, 3, 64, 64), generator=generator, dtype=torch.uint8)
    data = ImageSet(
        name="tiny-imagenet", split="test", pixels=TensorPixels(images), labels=labels,
        sample_ids=tuple(f"tiny-imagenet/test/val_{i}.JPEG" for i in range(200)),
        class_names=WNIDS, mean=MEAN, std=STD,
    )  # fmt: skip
    model = RobustModel(Net(200), mean=MEAN, std=STD, num_classes=200, input_size=(3, 64, 64))
    return model, data


def film_of(place: int, pictures: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(place)
    base = rng.integers(0, 256, (8, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    steps = rng.normal(0, 20, (pictures, 1, 1, 3)).cumsum(axis=0)
    film: NDArray[np.uint8] = np.clip(base + steps, 0, 255).astype(np.uint8)
    return film


def write_pictures(folder: Path, film: NDArray[np.uint8]) -> None:
    folder.mkdir(parents=True)
    for i, picture in enumerate(film):
        Image.fromarray(picture).save(folder / f"{i}.png")


def test_folders_of_pictures_are_read_by_their_numbers(tmp_path: Path) -> None:
    model, data = tiny_imagenet()
    films = [film_of(i, 12) for i in range(200)]
    for wnid, film in zip(WNIDS, films, strict=True):
        write_pictures(tmp_path / "Tiny-ImageNet-P" / "snow" / wnid / f"other_{wnid}", film)
    report = evaluate(
        model, data, ["perturbation"], data_dir=tmp_path, perturbations="snow", limit=40
    )
    assert report.samples is not None
    shares = []
    for one in report.samples.sample_ids:
        film = films[int(one.rpartition("_")[2].partition(".")[0])]
        y = logits_of(model, torch.from_numpy(film).permute(0, 3, 1, 2)).argmax(axis=1)
        shares.append((y[1:] != y[:-1]).mean())  # 10.png stands behind 9.png
    assert number(report, "fp[snow]").value == pytest.approx(np.mean(shares))
    assert "snow" in IMAGENET
    assert recompute(report) == []


def test_films_are_read_picture_by_picture(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    film = film_of(3, 41)
    path = tmp_path / "a.mp4"
    write_film(av, path, film)
    found = read_film(path, 64)
    assert found.shape == film.shape
    assert np.abs(found.astype(int) - film).mean() < 12  # H.264 loses some
    with pytest.raises(IntakeError, match="64x64"):
        read_film(path, 224)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(IntakeError, match=r"a\.mp4"):
        read_film(path, 64)


def write_film(av: Any, path: Path, film: NDArray[np.uint8]) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = film.shape[2], film.shape[1], "yuv420p"
        for picture in film:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_without_pyav_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(IntakeError, match=r"PyAV.*robustmix\[video\]"):
        read_film(tmp_path / "a.mp4", 64)


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["1.png"], []])
def test_folders_that_are_no_sequence(names: list[str], tmp_path: Path) -> None:
    for name in names:
        Image.new("RGB", (64, 64)).save(tmp_path / name)
    with pytest.raises(IntakeError, match="pictures"):
        read_film(tmp_path, 64)
