"""Writer of corrupted test sets in the layout of CIFAR-10-C and CIFAR-100-C."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robustmix.corruptions import frost
from robustmix.corruptions.corrupt import corrupt
from robustmix.corruptions.names import GENERATOR_VERSION, SEVERITIES, choose_profile
from robustmix.errors import IncompatibleError, IntakeError
from robustmix.files import (
    atomic_file,
    hash_json,
    make_folder,
    regular_file,
    remove_leftovers,
    write_text,
)
from robustmix.later import Tensor, torch
from robustmix.rng import GENERATOR

SIDECAR = "robustmix-corruptions.json"
"""Beside the arrays: how they were made, and their checksums. Released folders have none."""

LARGEST_RECORD = 2**20
"""Bytes of it that are read; it takes five thousand."""

BLOCK = 512
"""Images worked on at once."""


@dataclass(frozen=True, kw_only=True)
class SetParams:
    """Everything that the bytes of a generated set depend on."""

    dataset: str
    split: str
    n: int
    """Images of one severity."""

    ids_sha256: str
    """Of the sample ids, in order."""

    height: int
    width: int
    seed: int
    profile: str
    frost: str | None
    """``photographs``, or ``procedural`` for the substitute."""

    generator_version: str = GENERATOR_VERSION
    generator: str = GENERATOR
    arithmetic: str = "exact"
    """The only one there is: what the benchmark's scripts compute; README says where it differs."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One file of the set."""

    name: str
    path: Path
    seconds: float
    reused: bool
    """Whether it was there already, complete and made with the same parameters."""


def write_set(
    out: Path,
    *,
    dataset: str,
    split: str,
    take: Callable[[Tensor], Tensor],
    labels: Tensor,
    sample_ids: Sequence[str],
    names: Sequence[str],
    seed: int,
    profile: str | None = None,
    frost_dir: Path | None = None,
    force: bool = False,
    on_file: Callable[[Written], None] = lambda written: None,
) -> list[Written]:
    """Write one array a corruption, and the labels; take up a set that was interrupted.

    Every file appears whole or not at all. Images are read, corrupted and written in blocks.

    Args:
        out: folder of the set.
        dataset: name, for the record.
        split: likewise.
        take: int64 (m,) places -> images uint8 (m, 3, H, W).
        labels: of all images, (n,).
        sample_ids: their stable names; an evaluation that generates the images on the fly with the
            same names and seed sees the same images.
        names: corruptions to write.
        seed: of everything random.
        profile: severity constants; by the size of the images if None.
        frost_dir: folder of the benchmark's frost pictures.
        force: replace a set that was made with other parameters.
        on_file: told of every file.

    Returns:
        What was written, or found.

    Raises:
        IncompatibleError: ``out`` holds a set made with other parameters, or released files.
        IntakeError: ``frost_dir`` does not hold the benchmark's pictures.
        IncompleteError: a file cannot be written.
        UsageError: a name or the profile is unknown.
    """
    out, n = Path(out), len(labels)
    height, width = map(int, take(torch.zeros(1, dtype=torch.int64)).shape[2:])
    chosen = choose_profile(profile, height, width)
    ice = ("photographs" if frost_dir else "procedural") if "frost" in names else None
    if frost_dir is not None and ice is not None:
        frost.photographs(frost_dir, frost.SCALE[chosen])  # wrong ones are found before any work
    params = SetParams(
        dataset=dataset,
        split=split,
        n=n,
        ids_sha256=hash_json(list(sample_ids)),
        height=height,
        width=width,
        seed=seed,
        profile=chosen,
        frost=ice,
    )
    make_folder(out)
    record = _open_record(out, params, force)
    remove_leftovers(out, below=False)
    written = []
    for name in names:
        path = out / f"{name}.npy"
        begun = time.monotonic()
        reused = _is_whole(path, record["files"].get(name))
        if not reused:
            with atomic_file(path) as file:
                shape = (len(SEVERITIES) * n, height, width, 3)
                # Written block by block, not mapped: a full disk ends a process that maps a file.
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "|u1", "fortran_order": False, "shape": shape}
                )
                for block in _blocks(take, name, seed, sample_ids, chosen, frost_dir):
                    file.write(block.data)
            record["files"][name] = _digests(path)
            _save_record(out, record)
        done = Written(name=name, path=path, seconds=time.monotonic() - begun, reused=reused)
        written.append(done)
        on_file(done)
    if not _is_whole(out / "labels.npy", record["files"].get("labels")):
        with atomic_file(out / "labels.npy") as file:
            stored = labels.cpu().numpy()
            narrow = np.promote_types(np.uint8, np.min_scalar_type(int(stored.max())))
            np.save(file, np.tile(stored.astype(narrow), len(SEVERITIES)))
        record["files"]["labels"] = _digests(out / "labels.npy")
        _save_record(out, record)
    return written


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return how a generated set was made and its checksums; None for a released one.

    Raises:
        IntakeError: the record is damaged.
    """
    path = Path(folder) / SIDECAR
    if not os.path.lexists(path):
        return None
    again = "generate the set again with --force"
    try:
        text = regular_file(path, limit=LARGEST_RECORD, hint=again).read_text(encoding="utf-8")
        record = json.loads(text)
        _check_record(record)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntakeError(f"cannot read {path}: {error}", again) from error
    return dict(record)


def _check_record(record: Any) -> None:
    """Raise ValueError, KeyError or TypeError unless the record has what its readers ask for."""
    if not isinstance(record["params"], dict) or not isinstance(record["files"], dict):
        raise TypeError("params and files are no tables")
    for key, most in (("n", 2**31), ("height", 2**13), ("width", 2**13)):
        if type(record["params"][key]) is not int or not 0 < record["params"][key] <= most:
            raise ValueError(f"{key} is not in 1 to {most}")
    if not isinstance(record["params"]["dataset"], str):
        raise TypeError("the data set is no name")
    for name, known in record["files"].items():
        if type(known["bytes"]) is not int or not isinstance(known["sha256"], str):
            raise TypeError(f"the size or checksum of {name} is none")


def _open_record(out: Path, params: SetParams, force: bool) -> dict[str, Any]:
    found = None if force else read_record(out)
    wanted = asdict(params)
    if found is None and not force and (out / "labels.npy").exists():
        raise IncompatibleError(
            f"{out} holds a corrupted set that robustmix did not make",
            "choose another --out, or replace it with --force",
            code="E-EXISTS",
        )
    if found is not None:
        kept = found["params"]
        differs = [key for key in wanted if key != "frost" and kept.get(key) != wanted[key]]
        if kept.get("frost") and wanted["frost"] and kept["frost"] != wanted["frost"]:
            differs.append("frost")
        if differs:
            key = differs[0]
            raise IncompatibleError(
                f"{out} holds a set with {key} {kept.get(key)!r}, not {wanted[key]!r}",
                "choose another --out, or replace it with --force",
                code="E-EXISTS",
            )
        wanted["frost"] = wanted["frost"] or kept.get("frost")
        return {"kind": "robustmix.corrupted-set", "params": wanted, "files": found["files"]}
    record: dict[str, Any] = {"kind": "robustmix.corrupted-set", "params": wanted, "files": {}}
    _save_record(out, record)
    return record


def _save_record(out: Path, record: dict[str, Any]) -> None:
    write_text(out / SIDECAR, json.dumps(record, indent=2, sort_keys=True) + "\n")


def _is_whole(path: Path, known: Any) -> bool:
    return bool(known) and path.exists() and path.stat().st_size == known["bytes"]


def _blocks(
    take: Callable[[Tensor], Tensor],
    name: str,
    seed: int,
    sample_ids: Sequence[str],
    profile: str,
    frost_dir: Path | None,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the images of a file in their order, uint8 (m, H, W, 3) each."""
    n = len(sample_ids)
    for severity in SEVERITIES:
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            images = corrupt(
                take(torch.arange(start, stop)),
                name,
                severity,
                seed=seed,
                sample_ids=sample_ids[start:stop],
                profile=profile,
                frost_dir=frost_dir,
            )
            yield np.ascontiguousarray(images.cpu().permute(0, 2, 3, 1).numpy())


def _digests(path: Path) -> dict[str, Any]:
    """Return size, md5 (what released sets are known by) and sha256, in one reading."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            md5.update(block)
            sha256.update(block)
            size += len(block)
    return {"bytes": size, "md5": md5.hexdigest(), "sha256": sha256.hexdigest()}
