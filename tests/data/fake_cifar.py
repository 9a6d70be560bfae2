"""A few images in the framing of the official archives: a Python 2 pickle, protocol 2."""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robustmix.data.manifests import Counts, Manifest, ManifestFile, load_manifest

Value = str | int | list[str] | list[int] | npt.NDArray[np.uint8]

FINE = ("ant", "bee", "cat")
COARSE = ("insect", "mammal")
COARSE_OF_FINE = (0, 0, 1)


def _string(text: bytes) -> bytes:
    if len(text) < 256:
        return b"U" + struct.pack("<B", len(text)) + text
    return b"T" + struct.pack("<i", len(text)) + text


def _number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def _array(array: npt.NDArray[np.uint8]) -> bytes:
    n, width = array.shape
    dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\0K\1\x87R"
    dtype += b"(K\3" + _string(b"|") + b"NNN" + _number(-1) + _number(-1) + b"K\0tb"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85"
        + _string(b"b")
        + b"\x87R(K\1"
        + _number(n)
        + _number(width)
        + b"\x86"
        + dtype
        + b"\x89"
        + _string(array.tobytes())
        + b"tb"
    )


def _value(value: Value) -> bytes:
    if isinstance(value, str):
        return _string(value.encode("latin1"))
    if isinstance(value, int):
        return _number(value)
    if isinstance(value, list):
        return b"](" + b"".join(_value(item) for item in value) + b"e"
    return _array(value)


def python2_pickle(dictionary: Mapping[str, Value]) -> bytes:
    """Return the bytes that Python 2 would have written."""
    items = b"".join(_value(key) + _value(value) for key, value in dictionary.items())
    return b"\x80\2}(" + items + b"u."


def batch(n: int, seed: int) -> dict[str, Value]:
    """Return n random images with labels that cover all classes."""
    stream = np.random.default_rng(seed)
    fine = [i % len(FINE) for i in range(n)]
    return {
        "filenames": [f"{FINE[label]}_{i}.png" for i, label in enumerate(fine)],
        "batch_label": "made up",
        "fine_labels": fine,
        "coarse_labels": [COARSE_OF_FINE[label] for label in fine],
        "data": stream.integers(0, 256, (n, 3072), dtype=np.uint8),
    }


def meta() -> dict[str, Value]:
    return {"fine_label_names": list(FINE), "coarse_label_names": list(COARSE)}


def write_archive(root: Path, files: Mapping[str, bytes]) -> Manifest:
    """Write files below ``cifar-100-python`` and return a manifest with their checksums."""
    folder = root / "cifar-100-python"
    folder.mkdir(exist_ok=True)
    known = []
    for name, content in files.items():
        (folder / name).write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        known.append(ManifestFile(path=f"cifar-100-python/{name}", bytes=len(content), md5=md5))
    return replace(
        load_manifest("cifar100"),
        num_classes=len(FINE),
        superclasses=len(COARSE),
        counts=Counts(train=7, test=5),
        files=tuple(known),
    )


def good_files() -> dict[str, bytes]:
    return {
        "train": python2_pickle(batch(7, seed=1)),
        "test": python2_pickle(batch(5, seed=2)),
        "meta": python2_pickle(meta()),
    }
