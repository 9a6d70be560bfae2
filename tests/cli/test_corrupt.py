"""``robustmix corrupt`` and ``report heatmap``, in process."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from robustmix.cli.app import run


@pytest.fixture(scope="module")
def digits_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    arguments = ["corrupt", "generate", "--dataset", "digits", "--limit", "6", "--out", str(folder)]
    assert run([*arguments, "--corruptions", "fog,jpeg"]) == 0
    return folder


def test_generate_says_where(digits_set: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--dataset", "digits", "--limit", "6", "--out", str(digits_set)]
    assert run(["corrupt", "generate", *arguments, "--corruptions", "fog,jpeg"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{digits_set}\n"
    assert "fog 1/2: found" in shown.err
    assert np.load(digits_set / "fog.npy", allow_pickle=False).shape == (30, 32, 32, 3)
    assert run(["corrupt", "generate", *arguments, "--corruptions", "fog", "--seed", "1"]) == 5
    assert "error[E-EXISTS]" in capsys.readouterr().err


def test_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.corruptions.test_writer import write

    write(tmp_path / "set")
    missing = ["--data-dir", str(tmp_path / "none")]
    assert run(["corrupt", "verify", str(tmp_path / "set"), *missing]) == 0
    shown = capsys.readouterr()
    assert "labels" in shown.out
    assert "cifar100 is not in the data folder" in shown.err
    array = np.lib.format.open_memmap(tmp_path / "set" / "brightness.npy", mode="r+")
    array[0] = 0
    array.flush()
    del array
    assert run(["corrupt", "verify", str(tmp_path / "set"), *missing]) == 3
    assert "wrong" in capsys.readouterr().out
    assert run(["corrupt", "verify", str(tmp_path / "absent"), *missing]) == 3
    assert "error[" in capsys.readouterr().err


def test_verify_takes_the_data_set_from_the_record(
    digits_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["corrupt", "verify", str(digits_set)]) == 0
    shown = capsys.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines() if "ok" in line] == [
        "fog", "jpeg_compression", "labels",
    ]  # fmt: skip
    assert shown.err == ""
    assert run(["corrupt", "verify", str(digits_set), "--against", str(digits_set)]) == 0
    assert "0.0000 %" in capsys.readouterr().out
    arguments = ["--dataset", "digits", "--limit", "6", "--corruptions", "fog,jpeg", "--seed", "1"]
    assert run(["corrupt", "generate", *arguments, "--out", str(tmp_path / "other")]) == 0
    capsys.readouterr()
    command = ["corrupt", "verify", str(tmp_path / "other"), "--against", str(digits_set)]
    assert run(command) == 3
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    verdicts = {words[0]: words[-1] for words in rows}
    assert (verdicts["fog"], verdicts["jpeg_compression"]) == ("wrong", "ok")
    assert run(["corrupt", "verify", str(digits_set), "--dataset", "cifarr"]) == 2


def test_preview(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheet.png"
    assert run(["corrupt", "preview", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    with Image.open(out) as sheet:
        assert sheet.size[0] > 12 * 100
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    other = tmp_path / "other.svg"
    assert run(["corrupt", "preview", str(tmp_path / "picture.png"), "--out", str(other)]) == 0
    assert other.read_text().startswith("<?xml")
    (tmp_path / "no.png").write_text("no picture")
    assert run(["corrupt", "preview", str(tmp_path / "no.png"), "--out", str(out)]) == 3
    assert run(["corrupt", "preview", "--index", "9999", "--out", str(out)]) == 2
    assert run(["corrupt", "preview", "--out", str(tmp_path / "sheet.gif")]) == 2


def test_heatmap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from robustmix.evaluation.evaluate import evaluate
    from robustmix.evaluation.suites.corruption import Corruption
    from tests.evaluation.tiny import tiny_images, tiny_model

    suite = Corruption(corruptions="fog,contrast,frost")
    evaluate(tiny_model(), tiny_images(7), ["clean", suite]).save(tmp_path)
    for name in ("map.png", "map.svg"):
        assert run(["report", "heatmap", str(tmp_path), "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 5000
    svg = (tmp_path / "map.svg").read_text()
    assert "frost (approximate)" in svg
    evaluate(tiny_model(), tiny_images(7), ["clean"]).save(tmp_path / "clean")
    capsys.readouterr()
    assert run(["report", "heatmap", str(tmp_path / "clean")]) == 3
    assert "no corruption suite" in capsys.readouterr().err
