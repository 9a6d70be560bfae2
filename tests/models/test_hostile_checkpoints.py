"""Nobody's checkpoint runs code, hangs, fills the memory, or is taken for what it is not."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from robustmix.errors import RobustmixError
from robustmix.models.load import load_model
from tests.models import hostile
from tests.models.builders import images, state, torch_file

SECONDS = 5.0
LOAD: dict[str, Any] = {"arch": "resnet8", "norm_preset": "half"}


def refused(path: Path, **options: Any) -> RobustmixError:
    """The file is refused in time, on one line that a terminal can show."""
    began = time.process_time()
    with pytest.raises(RobustmixError) as caught:
        load_model(path, **options)
    assert time.process_time() - began < SECONDS
    error = caught.value
    assert error.exit_code in (2, 3)
    assert error.line().isprintable()
    assert len(error.line()) < 1000
    return error


def check_refused(folder: Path, data: bytes) -> RobustmixError:
    path = folder / "model.pth"
    path.write_bytes(data)
    return refused(path, **LOAD)


CASES: dict[str, bytes] = {
    **{f"head-{name}": data for name, data in hostile.HEADERS.items()},
    **{f"zip-{name}": data for name, data in hostile.zips() if name not in ("tail", "long-data")},
    **{f"legacy-{name}": data for name, data in hostile.legacy()},
    **{f"safetensors-{name}": data for name, data in hostile.safetensors()},
    **{f"tensor-{name}": data for name, data in hostile.tensors().items()},
    **{f"foreign-{name}": data for name, data in hostile.foreign()},
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_lies_is_refused(tmp_path: Path, name: str) -> None:
    check_refused(tmp_path, CASES[name])


PROGRAMS = hostile.programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_pickle_that_takes_everything_is_refused(tmp_path: Path, name: str) -> None:
    program = hostile.HEAD + PROGRAMS[name] + b"."
    check_refused(tmp_path, hostile.archive(program))
    check_refused(tmp_path, program)  # as a file of torch before 1.6 begins


@pytest.mark.parametrize("name", hostile.trap(Path("x")))
def test_no_pickle_runs_anything(tmp_path: Path, name: str) -> None:
    trace = tmp_path / "trace"
    program = hostile.HEAD + hostile.mapping(a=hostile.trap(trace)[name]) + b"."
    error = check_refused(tmp_path, hostile.archive(program))
    assert not trace.exists()
    if name in ("system", "posix", "eval", "old-eval", "popen"):
        assert "nothing was run" in error.message
        assert "trust" not in error.hint


OWN = hostile.own_content()
FIELDS = [(name, i) for name, values in hostile.BAD.items() for i in range(len(values))]


@pytest.mark.parametrize(("name", "i"), FIELDS)
def test_no_field_of_a_checkpoint_is_believed(tmp_path: Path, name: str, i: int) -> None:
    path = tmp_path / "last.pth"
    torch.save({**OWN, name: hostile.BAD[name][i]}, path)
    error = refused(path)
    assert error.exit_code == 3


@pytest.mark.parametrize("name", sorted(OWN.keys() - {"plugins"}))
def test_no_field_may_be_missing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "last.pth"
    torch.save({key: value for key, value in OWN.items() if key != name}, path)
    assert refused(path).exit_code == 3


def test_changed_bytes_are_noticed_or_change_nothing(tmp_path: Path) -> None:
    """torch's own reader does not compare the checksums: it would load other weights."""
    path = tmp_path / "model.pth"
    good = torch_file(state(0))
    path.write_bytes(good)
    x = images(2)
    want = load_model(path, **LOAD)(x)
    noticed = 0
    for _, data in hostile.mutated(good, 60, seed=1):
        path.write_bytes(data)
        try:
            model = load_model(path, **LOAD)
        except RobustmixError:
            noticed += 1
        else:
            assert torch.equal(model(x), want)
    assert noticed > 40


@pytest.mark.parametrize("seed", range(4))
def test_changed_pickles_end_in_one_line_or_in_a_model(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "model.pth"
    good = torch_file({"state_dict": state(0), "epoch": 3})
    for _, data in hostile.mutated_pickles(good, 25, seed):
        path.write_bytes(data)
        try:
            load_model(path, **LOAD)
        except RobustmixError:
            continue  # on one line, as the others


def test_the_same_bytes_unchanged_are_accepted(tmp_path: Path) -> None:
    """What refuses everything would pass all tests above."""
    path = tmp_path / "model.pth"
    (_, unchanged), *_ = hostile.mutated_pickles(torch_file(state(0)), 1, 0)
    assert unchanged != torch_file(state(0))
    for data in (torch_file(state(0)), torch_file(state(0), legacy=True)):
        path.write_bytes(data)
        assert load_model(path, **LOAD).num_classes == 7
    program = hostile.HEAD + hostile.mapping(a=hostile.tensor((4,), (1,))) + b"."
    path.write_bytes(hostile.archive(program))
    assert refused(path, **LOAD).code == "E-STATE-DICT"  # read, and then no ResNet-8
    torch.save(OWN, path)
    assert load_model(path).info.class_names == tuple("abcdefg")


# --- what is no regular file


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.pth")
    assert refused(tmp_path / "model.pth", **LOAD).code == "E-NO-FILE"
    os.mkfifo(tmp_path / "config.json")
    refused(tmp_path)
    os.mkfifo(tmp_path / "map.csv")
    path = tmp_path / "real.pth"
    torch.save(state(0), path)
    assert "map.csv" in refused(path, class_map=tmp_path / "map.csv", **LOAD).message


@pytest.mark.parametrize(
    "path", ["", ".", "/dev/null", "/dev/zero", "x" * 5000, "a\0b", "\udcff", "~", "x/" * 3000]
)
def test_paths_that_are_no_file(path: str) -> None:
    assert refused(path, **LOAD).exit_code == 3  # type: ignore[arg-type] # load_model takes text


def test_a_file_that_must_not_be_read_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not hold for root, so the system's answer is made up."""
    path = tmp_path / "model.pth"
    torch.save(state(0), path)

    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("robustmix.models.load_file.file_digest", deny)
    assert "Permission denied" in refused(path, **LOAD).message


@pytest.mark.parametrize(
    "rows",
    [
        "0,99999999999999999999\n",
        f"0,{'9' * 5000}\n",
        f"{'9' * 5000},0\n",
        "0,999999999\n1,0\n",
        "a" * 200_000,
        "0\0,1\n",
    ],
)
def test_class_maps_that_take_everything(tmp_path: Path, rows: str) -> None:
    path, table = tmp_path / "model.pth", tmp_path / "map.csv"
    torch.save(state(0), path)
    table.write_text(rows)
    assert refused(path, class_map=table, **LOAD).code == "E-CLASS-MAP"
    assert refused(path, class_map=[0, 10**15], **LOAD).code == "E-CLASS-MAP"


# --- time and memory, each in a process that does nothing else

MEASURE = """
import json, resource, sys, time
import timm, torchvision  # the libraries that architectures are named of
from robustmix.errors import RobustmixError
from robustmix.models.load import load_model

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

before, seconds = peak(), {}
for path in sys.argv[1:]:
    began = time.process_time()
    try:
        load_model(path, arch=None if "own" in path else "resnet8", input_size=None,
                   norm_preset=None if "own" in path else "half")
        seconds[path] = "loaded"
    except RobustmixError as error:
        seconds[path] = time.process_time() - began
print(json.dumps([peak() - before, seconds]))
"""


def small_files(folder: Path) -> Iterator[Path]:
    programs = hostile.programs()
    for name in (
        *("bytearray", "bytearrays", "hex", "tuples", "tuple-key", "tuple-set", "tuple-called"),
        *("deep-tuple", "deep-list", "calls", "lists", "text-claims", "tuple-counter"),
    ):
        yield write(folder, name, hostile.archive(hostile.HEAD + programs[name] + b"."))
    for name in ("wide", "wide-2", "numel", "views", "untyped", "tensor-class"):
        yield write(folder, name, hostile.tensors()[name])
    made: dict[str, Callable[[], bytes]] = {
        "many": lambda: hostile.archive(hostile.MANY),
        "bomb": lambda: dict(hostile.zips())["bomb"],
        "many-tensors": lambda: dict(hostile.safetensors())["many"],
        "numel-legacy": lambda: dict(hostile.legacy())["numel"],
        "stages": lambda: dict(hostile.foreign())["stages"],
        "prefixes": lambda: dict(hostile.foreign())["prefixes"],
    }
    for name, build in made.items():
        yield write(folder, name, build())
    owns: dict[str, dict[str, object]] = {
        "resize": {"arch_options": {"resize": 20_000}},
        "size": {"input_size": (3, 10**6, 10**6)},
        "side": {"input_size": (3, 8192, 8192)},
        "grid": {"arch": "swin_tiny", "arch_options": {}, "input_size": (3, 8192, 8192)},
        "timm-grid": {
            **{"arch": "timm:swin_tiny_patch4_window7_224", "arch_options": {}},
            "input_size": (3, 8192, 8192),
        },
        "giant": {"arch": "timm:vit_giant_patch14_224", "arch_options": {}},
        "regnet": {"arch": "torchvision:regnet_y_128gf", "arch_options": {}},
        "classes": {"num_classes": 10**6, "class_names": ()},
        "arch": {"arch": "a" * 10**6},
    }
    for name, change in owns.items():
        yield write(folder, f"own-{name}", torch_file({**OWN, **change}))


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / f"{name}.pth"
    path.write_bytes(data)
    return path


@pytest.mark.slow
def test_small_files_take_neither_time_nor_memory(tmp_path: Path) -> None:
    paths = [*small_files(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak, seconds = json.loads(done.stdout.splitlines()[-1])
    loaded = {Path(p).stem for p, took in seconds.items() if took == "loaded"}
    assert loaded == {"own-side"}  # 8192 pixels are allowed, and building for them costs nothing
    slow = {Path(p).stem: took for p, took in seconds.items() if took != "loaded" and took > 2}
    assert not slow
    assert peak < 300, f"{peak} MiB above the imports"
