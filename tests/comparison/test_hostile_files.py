"""Hostile reports and records: each is one line and 3, 4 or 5, in seconds and within memory."""

import hashlib
import io
import json
import os
import re
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustmix.cli.app import run
from tests.comparison.reports import saved
from tests.comparison.test_forgeries import bad, good

SECONDS = 5.0
MEMORY = 2**30

Make = Callable[[Path], None]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a baseline, and a candidate that fails against it."""
    folder = tmp_path_factory.mktemp("hostile")
    saved(good("corruption", "fgsm", "occlusion"), folder / "good")
    saved(bad(), folder / "bad")
    return folder


# Reports


Named = Iterator[tuple[str, bytes]]


def texts(valid: str) -> Named:
    """Yield names and contents of hostile report files, made of a valid one."""
    for make in (deep, doubled, numbered, mistyped, cut, misnamed, encoded, large):
        yield from make(valid)


def deep(valid: str) -> Named:
    for depth in (70, 900, 5_000, 200_000):
        for left, right in (("[", "]"), ('{"a":', "}")):
            whole = left * depth + "1" * (left != "[") + right * depth
            yield f"{depth} x {left}", whole.encode()
            inside = valid.replace('"params": {', f'"params": {{"deep": {whole}, ', 1)
            yield f"{depth} x {left} inside", inside.encode()
        yield f"{depth} x [ unclosed", ("[" * depth).encode()


def doubled(valid: str) -> Named:
    value = json.loads(valid)
    for key in value:
        again = f'{{"{key}": {json.dumps(value[key])}, {valid.strip()[1:]}'
        yield f"{key} twice", again.encode()
    for key in ("value", "n", "top1", "metrics", "fgsm", "sha256", "seed"):
        at = valid.index(f'"{key}":')
        yield f"{key} twice", f'{valid[:at]}"{key}": 1, {valid[at:]}'.encode()


def put(valid: str, key: str, json_text: str) -> bytes:
    """Give the values of a key another text; where it stands within one object, so does that."""
    pattern = rf'("{key}": )("[^"]*"|[-\d.e]+|\[[^\[\]]*\]|\{{[^{{}}]*\}}|null|true|false)'
    return re.sub(pattern, lambda found: found[1] + json_text, valid).encode()


def numbered(valid: str) -> Named:
    signs = "NaN", "Infinity", "-Infinity", "1e999", "-1e400"
    for number in (*signs, "1" * 25, "-" + "9" * 400, "9" * 9000):
        for key in ("value", "n", "seed", "n_total", "wall_s"):
            yield f"{key} {number[:9]}", put(valid, key, number)


def mistyped(valid: str) -> Named:
    value = json.loads(valid)
    junks: list[Any] = [None, True, [], {}, "", -1, [[]], "x" * 100_000]
    for junk in junks:
        for key in ("suites", "protocol", "dataset", "model", "run", "tool", "artifacts"):
            yield f"{key} is {junk!r:.9}", json.dumps(value | {key: junk}).encode()


def cut(valid: str) -> Named:
    for part in range(1, 12):
        yield f"cut at {part}/12", valid[: len(valid) * part // 12].encode()


def misnamed(valid: str) -> Named:
    for name in ("\\ud800", "a\\udfffb"):
        for key in ("name", "source", "arch", "kind"):
            yield f"{key} {name}", put(valid, key, f'"{name}"')


def encoded(valid: str) -> Named:
    yield "empty", b""
    yield "a NUL", b"\x00"
    yield "UTF-16", valid.encode("utf-16")
    yield "latin-1", valid.encode().replace(b'"bad"', b'"b\xe4d"')
    yield "a mark before it", b"\xef\xbb\xbf" + valid.encode()


def large(valid: str) -> Named:
    value = json.loads(valid)
    yield "a million lists", b"[" + b"[]," * 1_000_000 + b"[]]"
    many = f'"argv": [], "x": [{"{}," * 500_000}1]'
    yield "500 000 objects in a report", valid.replace('"argv": []', many).encode()
    suites = {f"s{i}": {"kind": "s", "status": "ok"} for i in range(20_000)}
    yield "20 000 suites", json.dumps(value | {"suites": suites}).encode()
    bare = {"value": 1, "unit": "score", "direction": "lower", "n": 1}
    for what, number, count in (("broken", bare, 60_000), ("empty", {}, 150_000)):
        clean = {**value["suites"]["clean"], "metrics": {f"m{i}": number for i in range(count)}}
        yield f"{count} {what} numbers", json.dumps(value | {"suites": {"clean": clean}}).encode()
    yield "65 MB", b" " * (65 * 2**20)


def evil(text: str) -> str:
    """Put escape sequences into every name of a report that is a name of anything."""
    names = "name", "source", "version", "arch", "platform", "transform", "split", "message"
    name = r'"\u001b[2Jx\u009b1m\u202e\r\n::error::y"'
    return re.sub(rf'("({"|".join(names)})": )"[^"]*"', lambda found: found[1] + name, text)


# Records


def npz(arrays: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def npy(header: bytes, version: bytes = b"\x01\x00", data: bytes = b"") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header + data


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def head(shape: str, kind: str = "<f8") -> bytes:
    return f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()


UNUSED = ("fgsm/column/clean_pred", "fgsm/column/loss_before")
"""Arrays that no number is made of; a record without them says less, and nothing wrong."""


def records(valid: bytes) -> Named:
    """Yield names and contents of hostile records, made of a valid one."""
    with np.load(io.BytesIO(valid)) as file:
        arrays = {name: file[name] for name in file.files}
    for part in range(1, 10):
        yield f"cut at {part}/10", valid[: len(valid) * part // 10]
    for name in arrays.keys() - set(UNUSED):
        yield f"no {name}", npz({key: array for key, array in arrays.items() if key != name})
    for name, key, array in (*columns(arrays), *labels(arrays), *names(arrays)):
        yield f"{key} {name}", npz({**arrays, key: array})
    yield from archives(valid, arrays)


Forged = Iterator[tuple[str, str, Any]]


def columns(arrays: dict[str, Any]) -> Forged:
    column = arrays["clean/column/correct"]
    kinds: dict[str, Any] = {
        "dates": np.zeros(column.shape, dtype="M8[s]"),
        "lengths of time": np.zeros(column.shape, dtype="m8[s]"),
        "structs": np.zeros(column.shape, dtype=[("a", "<i4"), ("b", "<f8")]),
        "complex": np.zeros(column.shape, dtype=complex),
        "bytes": np.zeros(column.shape, dtype="S9"),
        "voids": np.zeros(column.shape, dtype="V8"),
        "words": np.zeros(column.shape, dtype="U9"),
        "not numbers": np.full(column.shape, np.nan),
        "infinite": np.full(column.shape, np.inf),
        "halves": np.full(column.shape, 0.5),
        "flat": column.ravel(),
        "no trial": column[:, :0],
        "no sample": column[:, :, :0],
        "a scalar": np.float64(1.0),
    }
    for what, array in kinds.items():
        yield what, "clean/column/correct", array
        yield what, "labels", array


def labels(arrays: dict[str, Any]) -> Forged:
    n = len(arrays["labels"])
    for value in (10, -1, 2**62, True, 0.0):
        yield f"{value}", "labels", np.full(n, value)
    for positions in ([-1], [n], [2, 1], [0.5], [], [[0]], [2**63 - 1]):
        yield f"{positions}", "fgsm/positions", np.array(positions)


def names(arrays: dict[str, Any]) -> Forged:
    ids = arrays["sample_ids"]
    for what, array in {
        "one for all": np.full(len(ids), "a"), "numbers": np.arange(len(ids)), "too few": ids[:-1],
        "in a table": ids.reshape(1, -1), "one text": np.array("abc"), "bytes": ids.astype("S"),
        "half a pair": np.array([f"{name}\ud800" for name in ids]),
    }.items():  # fmt: skip
        yield what, "sample_ids", array
    for what, array in {
        "twice": np.array(["clean", "clean"]), "none": np.array([], dtype="U1"),
        "numbers": np.arange(1), "another": np.array(["dirty"]),
    }.items():  # fmt: skip
        yield what, "clean/conditions", array


HEADERS = {
    "negative": head("(-1, -40)"), "huge": head("(1000000000000,)"), "no number": head("(1, 'a')"),
    "deep": b"(" * 9000, "no dict": b"[1]", "pickled": head("(40,)", "|O"), "code": b"exec('1')",
    "unclosed": b"{'descr", "too large": head("(40, 40)"), "wide": head("(1,)", "<U99999999"),
    "no width": head("(40,)", "<U0"), "a date": head("(40,)", "<M8[s]"),
}  # fmt: skip


def archives(valid: bytes, arrays: dict[str, Any]) -> Named:
    members = []
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array)
        members.append((f"{name}.npy", buffer.getvalue()))
    yield "empty", b""
    yield "text", b"something else" * 9
    yield "a comment behind it", valid[:-2] + b"\x03\x00abc"
    yield "no arrays", zipped([])
    yield "text inside", zipped([("labels.npy", b"hello")])
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped([*members, members[1]])
    yield "labels twice", twice
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"compressed by {method}, cut", zipped(members, method)[:-200] + valid[-22:]
    for what, header in HEADERS.items():
        for version in (b"\x01\x00", b"\x03\x00"):
            forged = ("labels.npy", npy(header, version, b"\x00" * 320))
            yield f"{what} in {version[0]}", zipped([members[0], forged, *members[2:]])
    bomb = ("x.npy", npy(head("(34000000,)"), data=bytes(272_000_000)))
    yield "a bomb", zipped([*members, bomb])
    yield "many names", zipped([*members, *((f"{i}.npy", b"") for i in range(10_001))])


def outcome(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Check a candidate and say what is wrong with what came of it, "" for nothing."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of memory begins anew
    before, started = peak(), time.process_time()  # not of the other work of the machine
    code = run(["check", str(folder), "--metric", "clean.top1>=0.01", "--github", "off"])
    seconds, taken = time.process_time() - started, peak() - before
    out, err = capsys.readouterr()
    faults = [] if code in (3, 4, 5) else [f"exit {code}"]
    faults += [] if code == 4 or (not out and err.count("\n") == 1) else ["not one line"]
    faults += ["a traceback"] if "Traceback" in err else []
    faults += ["escapes"] if re.search("[\x1b\x9b\u202e]", out + err) else []
    faults += [f"{seconds:.1f} s"] if seconds > SECONDS else []
    faults += [f"{taken >> 20} MiB"] if taken > MEMORY else []
    return ", ".join(faults)


def peak() -> int:
    """Give the most memory that this process has held, in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


linux = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="memory is measured as Linux tells it"
)


HALVES = [0, pytest.param(1, marks=pytest.mark.slow)]
"""Every other file is tried by default."""


@linux
@pytest.mark.parametrize("half", HALVES)
def test_hostile_reports(
    half: int, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    valid = (pair / "bad" / "report.json").read_text(encoding="utf-8")
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "samples.npz").write_bytes((pair / "bad" / "samples.npz").read_bytes())
    wrong, count = {}, 0
    for name, content in texts(valid):
        assert content != valid.encode(), name
        count += 1
        if count % 2 != half:
            continue
        (folder / "report.json").write_bytes(content)
        if found := outcome(folder, capsys):
            wrong[name] = found
    assert wrong == {}
    assert count >= 150


@linux
@pytest.mark.parametrize("half", HALVES)
def test_hostile_records(
    half: int, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a checksum to match: it is the content that is refused."""
    report = json.loads((pair / "bad" / "report.json").read_text(encoding="utf-8"))
    valid = (pair / "bad" / "samples.npz").read_bytes()
    wrong, count = {}, 0
    for name, content in records(valid):
        assert content != valid, name
        count += 1
        if count % 2 != half:
            continue
        (tmp_path / "samples.npz").write_bytes(content)
        report["artifacts"][0]["sha256"] = hashlib.sha256(content).hexdigest()
        (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
        if found := outcome(tmp_path, capsys):
            wrong[name] = found
    assert wrong == {}
    assert count >= 100


def pipe(path: Path) -> None:
    os.mkfifo(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("kind", [pipe, loop, endless, folder], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ["report.json", "samples.npz"])
def test_what_is_no_file_is_not_opened(
    pair: Path, tmp_path: Path, kind: Make, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(bad(), tmp_path)
    (tmp_path / name).unlink()
    kind(tmp_path / name)
    assert run(["check", str(tmp_path), "--baseline", str(pair / "good")]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    told = "cannot read ", "there is no report at "  # a folder of this name is looked into
    assert line.partition("]: ")[2].startswith(told)
    for command in ("show", "md", "csv", "validate"):
        reads = name == "report.json" or command == "validate"
        assert run(["report", command, str(tmp_path)]) == (3 if reads else 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_one_line(pair: Path, tmp_path: Path) -> None:
    for name in ("report.json", "samples.npz"):
        saved(bad(), tmp_path)
        (tmp_path / name).chmod(0)
        assert run(["check", str(tmp_path), "--baseline", str(pair / "good")]) == 3


def test_names_do_not_steer_the_terminal(
    pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(bad(), tmp_path)
    path = tmp_path / "report.json"
    path.write_text(evil(path.read_text(encoding="utf-8")), encoding="utf-8")
    commands = [
        ["check", str(tmp_path), "--metric", "clean.top1>=0.1", "--github", "on"],
        ["check", str(tmp_path), "--baseline", str(pair / "good")],
        ["compare", str(tmp_path), str(tmp_path)],
        *(["report", command, str(tmp_path)] for command in ("show", "md", "csv", "validate")),
    ]
    for command in commands:
        run(command)
        out, err = capsys.readouterr()
        assert not re.search("[\x1b\x9b\u202e\r]", out + err), command
        assert not any(line.startswith("::error::y") for line in (out + err).splitlines())
