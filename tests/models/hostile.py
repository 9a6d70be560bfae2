"""Small files that were made to hurt whoever opens them: names -> the file's bytes.

Pickles are written instruction by instruction, for no pickler writes them so.
"""

import io
import json
import pickle
import random
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robustmix.models.checkpoint import save_checkpoint
from tests.models.builders import checkpoint, state, torch_file, zip_file

Case = tuple[str, bytes]

HEAD = b"\x80\x02"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = pickle.encode_long(value)
    return b"\x8a" + bytes([len(data)]) + data


def call(name: str, *given: bytes) -> bytes:
    module, _, last = name.rpartition(".")
    return f"c{module}\n{last}\n".encode() + b"(" + b"".join(given) + b"tR"


def storage(numel: int, key: str = "0", kind: str = "FloatStorage", where: str = "cpu") -> bytes:
    named = f"ctorch\n{kind}\n".encode() + text(key) + text(where) + number(numel)
    return b"(" + text("storage") + named + b"tQ"


def tensor(
    size: tuple[int, ...], stride: tuple[int, ...], *, numel: int = 4, offset: int = 0
) -> bytes:
    sizes, strides = (b"(" + b"".join(map(number, v)) + b"t" for v in (size, stride))
    empty = call("collections.OrderedDict")
    return call(
        "torch._utils._rebuild_tensor_v2", storage(numel), number(offset), sizes, strides,
        b"\x89", empty,
    )  # fmt: skip


def mapping(**items: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def archive(program: bytes, data: bytes = bytes(16), **more: bytes) -> bytes:
    entries = {"x/data.pkl": program, "x/byteorder": b"little", "x/data/0": data, "x/version": b"3"}
    return zip_file({**entries, **{f"x/{key}": value for key, value in more.items()}})


def doubled(times: int, width: int = 12) -> bytes:
    """Tuples of ``width`` times the same tuple, ``times`` deep: width ** times leaves."""
    program = text("x")
    for level in range(times):
        program += b"q" + bytes([level]) + b"0(" + (b"h" + bytes([level])) * width + b"t"
    return program


def nested(opening: bytes, closing: bytes, depth: int) -> bytes:
    return opening * depth + closing * depth


def trap(trace: Path) -> dict[str, bytes]:
    """Ways to have ``Path.touch(trace)`` called."""
    where = call("pathlib.PosixPath", text(str(trace)))
    touch = b"cpathlib\nPath.touch\n"
    system = f"touch {trace}"
    return {
        "reduce": touch + b"(" + where + b"tR",
        "system": call("os.system", text(system)),
        "posix": call("posix.system", text(system)),
        "eval": call("builtins.eval", text(f"open({str(trace)!r}, 'w')")),
        "old-eval": call("__builtin__.eval", text(f"open({str(trace)!r}, 'w')")),
        "popen": call("subprocess.Popen", b"(" + text("touch") + text(str(trace)) + b"t"),
        "inst": b"(" + text(system) + b"ios\nsystem\n",
        "obj": b"(cos\nsystem\n" + text(system) + b"o",
        "newobj": b"csubprocess\nPopen\n(" + text(system) + b"t\x81",
        "newobj-ex": b"csubprocess\nPopen\n(" + text(system) + b"t}\x92",
        "stack-global": text("os") + text("system") + b"\x93(" + text(system) + b"tR",
        "ext": b"\x82\x01(tR",
        "getattr": call("builtins.getattr", b"cos\nsystem\n", text("__call__")),
        "nested-name": call("torch.serialization.os.system", text(system)),
        "torch-load": call("torch.load", text(str(trace))),
        "torch-hub": call("torch.hub.load_state_dict_from_url", text("file:///x")),
        "apply": call("torch._utils._rebuild_parameter.__globals__.get", text("os")),
        "wrapped": call(
            "torch._tensor._rebuild_from_type_v2", b"cos\nsystem\n", b"ctorch\nTensor\n",
            b"(" + text(system) + b"t", b"}",
        ),
        "build": b"cos\nsystem\n}" + text("a") + text("b") + b"sb",
        "set-state": call("collections.OrderedDict") + mapping(items=b"K\x01") + b"b",
        "partial": call("functools.partial", b"cos\nsystem\n", text(system)),
    }  # fmt: skip


def programs() -> dict[str, bytes]:
    """Pickles that take everything, or are none."""
    wide = call("builtins.bytearray", number(8 * 2**30))
    hexed = text("00" * 2000)
    for _ in range(40):
        hexed = b"c_codecs\nencode\n(" + hexed + text("hex") + b"tR"
    many = b"]q\x00(" + b"K\x01" * 30 + b"e"
    cycle = b"]q\x00h\x00a"
    return {
        "bytearray": wide,
        "bytearray-old": call("__builtin__.bytearray", number(8 * 2**30)),
        "bytearray-list": call("builtins.bytearray", b"]" + number(2**31 - 1) + b"a"),
        "bytearray-new": b"cbuiltins\nbytearray\n" + number(2**31 - 1) + b"\x85\x81",
        "bytearrays": text("a" * 10_000)
        + b"q\x00"
        + b"0cbuiltins\nbytearray\n(h\x00X\x06\0\0\0latin1tR" * 9000,
        "hex": hexed,
        "rot13": call("_codecs.encode", text("a"), text("rot13")),
        "idna": call("_codecs.encode", text("a" * 100_000), text("idna")),
        "tuples": doubled(9),
        "tuple-key": b"}" + doubled(6) + b"K\x01s",
        "tuple-set": call("builtins.set", b"]" + doubled(5) + b"a"),
        "tuple-called": doubled(9) + b"(tR",
        "tuple-built": doubled(9) + b"}b",
        "tuple-new": doubled(9) + b"(t\x81",
        "tuple-layout": call("torch.serialization._get_layout", doubled(5)),
        "tuple-device": call("torch.device", doubled(9)),
        "tuple-persistent": doubled(9) + b"Q",
        "tuple-storage": b"(" + text("storage") + doubled(9) + b"tQ",
        "tuple-counter": call("collections.Counter", b"]" + doubled(5) + b"a"),
        "tuple-size": call("torch.Size", doubled(9)),
        "lists": b"".join(
            b"](" + (b"h" + bytes([i]) if i else b"K\x01") * 12 + b"eq" + bytes([i + 1])
            for i in range(9)
        ),
        "deep-tuple": b")" + b"\x85" * 50_000,
        "deep-list": nested(b"]", b"a", 20_000) + b"]",
        "deep-dict": b"}" + b"}K\x01" * 10_000,
        "deep-reduce": b")" + b"\x85" * 1000,
        "cycle": cycle,
        "cycle-dict": b"}q\x00" + text("a") + b"h\x00s",
        "cycle-tuple": b"]q\x00h\x00\x85q\x01ah\x01",
        "late": many + b"]q\x01h\x00a0h\x00(" + b"h\x01" * 3 + b"e",
        "key-twice": b"}" + text("a") + b"K\x01s" + text("a") + b"K\x02s",
        "calls": b"ccollections\nCounter\nq\x00]q\x01("
        + b"K\x01" * 5000
        + b"e0"
        + b"h\x00h\x01\x85R0" * 2000
        + b"N",
        "memo": b"r\xff\xff\xff\xffN",
        "no-memo": b"h\x07",
        "no-mark": b"t",
        "no-stack": b"0",
        "text-claims": b"X\xff\xff\xff\x7fabc",
        "long-claims": b"\x8b\xff\xff\xff\x7f",
        "frame": b"\x95" + b"\xff" * 8,
        "bytes8": b"\x8e" + struct.pack("<Q", 2**62),
        "decimal": b"L" + b"9" * 100_000 + b"L\n",
        "surrogate": b"X\x03\0\0\0\xed\xa0\x80",
        "number": b"K\x01",
        "none": b"N",
        "odd-items": b"}(K\x01u",
        "append-tuple": b")K\x01a",
        "pop-mark": b"(1",
        "complex": call("builtins.complex", text("1" * 100_000)),
        "device": call("torch.device", text("cuda:99999999999999")),
        "namespace-given": b"cargparse\nNamespace\n" + text("a") + b"\x85\x81",
    }


MANY = HEAD + b"]" + b"K\x01a" * 700_000 + b"."
"""More instructions than a checkpoint has."""


def tensors() -> dict[str, bytes]:
    """Archives whose tensors are not what they seem."""
    made = {
        "beyond": tensor((5,), (1,)),
        "offset": tensor((4,), (1,), offset=1),
        "offset-back": tensor((4,), (1,), offset=-1),
        "stride": tensor((2, 2), (3, 1)),
        "wide": tensor((10**12,), (0,)),
        "wide-2": tensor((10**6, 10**6), (0, 0)),
        "numel": tensor((4,), (1,), numel=10**12),
        "numel-small": tensor((8,), (1,), numel=8),
        "numel-back": tensor((4,), (1,), numel=-4),
        "size-back": tensor((-4,), (1,)),
        "strides-few": tensor((2, 2), (1,)),
        "empty": tensor((0, 10**15), (1, 1)),
        "many-dims": tensor((1,) * 70, (1,) * 70),
        "views": b"}(" + b"".join(text(f"k{i}") + tensor((4,), (1,)) for i in range(3000)) + b"u",
        "no-storage": call("torch._utils._rebuild_tensor_v2", b"N", *[number(1)] * 5),
        "other-key": tensor((4,), (1,)).replace(text("0"), text("9")),
        "path-key": tensor((4,), (1,)).replace(text("0"), text("../0")),
        "meta": tensor((4,), (1,)).replace(text("cpu"), text("meta")),
        "gpu": tensor((4,), (1,)).replace(text("cpu"), text("cuda:0")),
        "sparse": call("torch._utils._rebuild_sparse_tensor", b"N", b")"),
        "quantised": call("torch._utils._rebuild_qtensor", *[b")"] * 6),
        "meta-tensor": call("torch._utils._rebuild_meta_tensor_no_storage", *[b")"] * 4),
        "untyped": call("torch.storage.UntypedStorage", number(2**40)),
        "tensor-class": call("torch.Tensor", number(2**40)),
        "parameter": call("torch.nn.parameter.Parameter", number(2**40)),
        "attributes": call(
            "torch._utils._rebuild_parameter_with_state", tensor((4,), (1,)), b"\x89",
            call("collections.OrderedDict"), mapping(detach=b"K\x01", numel=b"K\x01"),
        ),
    }  # fmt: skip
    return {
        name: archive(HEAD + (one if name == "views" else mapping(a=one)) + b".")
        for name, one in made.items()
    }


def zips() -> Iterator[Case]:
    """Archives that are put together wrongly."""
    good = torch_file({"a": torch.arange(4.0)})
    pkl = HEAD + mapping(a=tensor((4,), (1,))) + b"."
    yield "empty", zip_file({})
    yield "no-data", zip_file({"x/data.pkl": pkl})
    yield "short-data", archive(pkl, bytes(12))
    yield "long-data", archive(pkl, bytes(64))
    yield "no-pickle", archive(b"")
    yield "two-folders", zip_file({"x/data.pkl": pkl, "y/data.pkl": pkl, "x/data/0": bytes(16)})
    yield "order", archive(pkl, **{"byteorder": b"middle"})
    yield "version", archive(pkl, **{"version": b"9999999999"})
    yield "alignment", archive(pkl, **{".storage_alignment": b"9" * 5000, ".format_version": b"1"})
    yield "program", archive(pkl, **{"constants.pkl": pkl})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("x/data.pkl", pkl)
        made.writestr("x/data/0", bytes(50_000_000))
    yield "bomb", buffer.getvalue()
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as made:
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for payload in (pkl, HEAD + b"N."):
                made.writestr("x/data.pkl", payload)
        made.writestr("x/data/0", bytes(16))
    yield "twice", twice.getvalue()
    yield (
        "encrypted",
        good.replace(b"PK\x01\x02\x00\x00\x00\x00\x08\x08", b"PK\x01\x02\0\0\0\0\x09\x08"),
    )
    yield "tail", good + b"PK\x05\x06" + bytes(18)
    yield "head", b"PK\x03\x04" + good
    yield "counts", good[:-14] + b"\xff\xff\xff\xff" + good[-10:]
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        yield f"cut-{share}", good[: int(share * len(good))]


def legacy() -> Iterator[Case]:
    """Files of torch before 1.6, which are pickles after each other."""
    good = torch_file({"a": torch.arange(4.0)}, legacy=True)
    for share in (0.05, 0.4, 0.6, 0.8, 0.97):
        yield f"cut-{share}", good[: int(share * len(good))]
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    wide = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    one = HEAD + wide + number(2**40) + b"NtQ."
    yield "numel", magic + one + pickle.dumps(["0"], 2) + struct.pack("<Q", 4) + bytes(16)
    yield "keys", magic + HEAD + b"N." + pickle.dumps(["7"], 2)
    yield "only-magic", magic
    yield "keys-deep", magic + HEAD + b"N." + HEAD + doubled(9) + b"."
    yield "info", magic[:-4] + HEAD + doubled(9) + b"."


def safetensors() -> Iterator[Case]:
    """Headers that lie."""

    def made(header: object, data: bytes = bytes(16), length: int | None = None) -> bytes:
        head = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(head) if length is None else length) + head + data

    def one(**changes: object) -> dict[str, object]:
        return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **changes}

    yield "length", made({"a": one()}, length=2**39)
    yield "length-0", made({"a": one()}, length=0)
    yield "json", made(b'{"a": ')
    yield "deep", made(b'{"a":' + b"[" * 100_000)
    yield "list", made([one()])
    yield "offsets", made({"a": one(data_offsets=[0, 2**40])})
    yield "offsets-back", made({"a": one(data_offsets=[16, 0])})
    yield "overlap", made({"a": one(), "b": one()})
    yield "shape", made({"a": one(shape=[2**40])})
    yield "shape-back", made({"a": one(shape=[-4])})
    yield "dtype", made({"a": one(dtype="F99")})
    yield "no-data", made({"a": one()}, b"")
    yield "tail", made({"a": one()}, bytes(32))
    yield "key-twice", made(b'{"a":%b,"a":%b}' % ((json.dumps(one()).encode(),) * 2))
    for key, value in {
        "arch": "a" * 10**6,
        "arch-odd": "\x1b[31mresnet8\n",
        "input_size": "[3, 1000000, 32]",
        "mean": "[" * 900,
        "std": "[0, 0, 0]",
    }.items():
        yield f"says-{key}", made({"__metadata__": {key.removesuffix("-odd"): value}, "a": one()})
    many = {f"k{i}": one(shape=[0], data_offsets=[0, 0]) for i in range(60_000)}
    yield "many", made(many, b"")


HEADERS: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(1000),
    "text": b"hello",
    "html": b"<html>" * 100,
    "lfs": b"version https://git-lfs.github.com/spec/v1\n",
    "proto-only": b"\x80\x02",
    "proto-9": b"\x80\x09N.",
    "onnx": b"\x08\x07" + bytes(40),
    "tar": bytes(257) + b"ustar" + bytes(1000),
    "gzip": b"\x1f\x8b\x08" + bytes(100),
    "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    "numpy": b"\x93NUMPY\x01\x00" + bytes(100),
    "pk": b"PK",
    "half-zip": b"PK\x05\x06" + bytes(18),
}


def own_content() -> dict[str, Any]:
    """What a checkpoint of ours holds, as a dictionary."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.pth")
        save_checkpoint(path, checkpoint())
        content: dict[str, Any] = torch.load(path)
    return content


BAD: Mapping[str, tuple[object, ...]] = {
    "arch": (None, 5, "", "x" * 10**6, "\x1b[2J", "timm:", "timm:vit_giant_patch14_224", "a:b:c"),
    "arch_options": (
        *({"resize": value} for value in (-5, 0, 20_000, 10**9, float("nan"), float("inf"))),
        *({"resize": value} for value in ("abc", 48.5, True, None, [48], 2**600)),
        *({"stem": "x"}, {"stem": 3}, {"stem": "c" * 10**6}, {3: 4}, [1], None),
    ),
    "num_classes": (0, -1, 8, 10**12, 7.0, "7", True, None, [7]),
    "input_size": (
        *((3, 10**6, 32), (3, 32, 10**12), (3, 0, 32), (1, 32, 32), (3, -32, 32), (3, 32)),
        *((3.0, 32, 32), "333", None, (3, float("nan"), 32)),
    ),
    "mean": ((float("nan"), 0.5, 0.5), (float("inf"), 0, 0), (0.5, 0.5), (10**400, 0, 0), "abc"),
    "std": ((0, 0, 0), (-1, 1, 1), (float("nan"), 1, 1), (1e-300, 1, 1), (10**400, 1, 1), None),
    "class_names": (list("abc"), [1] * 7, "abcdefg", ["x" * 10**6] * 7, None),
    "method": (None, 3, "m" * 10**6),
    "dataset": (None, 3, "d" * 10**6),
    "run_id": (None, 3, "r" * 10**6),
    "epoch": (-1, 1.5, "2", None, 10**30),
    "weights": ("averaged", None, 3, torch.zeros(3), ["raw"], {}),
    "head": (3, ["one_k"], torch.zeros(2), "h" * 10**6),
    "recipe": (None, [], {"a": torch.zeros(2)}, {"a": {3}}, {"a": float("nan")}, {1: 2, ("a",): 3}),
    "metrics": (None, {"a": float("inf")}, {"a": b"x"}, {"a": 1j}),
    "calibration": (
        *({"T": value, "sample_ids": []} for value in (0, -1, float("nan"), 1e-300, "1", None)),
        *({"T": 1.0}, {"T": 1.0, "sample_ids": [3]}, [], 3),
    ),
    "resume": (
        *({"epoch": -1}, {"step": -1}, {"epoch": 1.5}, {"epoch": 2, "history": []}, "no", [1]),
        *({"epoch": 1, "history": [{}]}, {"history": [{"top1": 0.5}]}, {"epoch": 0, "history": 3}),
        *({"means": {"counts": {"loss": count}, "sums": {"loss": 1.0}}} for count in (0, -3, "1")),
        *({"means": {"counts": {"loss": 3}, "sums": {}}}, {"means": []}),
    ),
    "plugins": ({}, [3], [{"kind": "arch"}], [{"kind": 1, "name": 2, "module": 3, "version": 4}]),
    "format_version": (0, -1, 3, 10**600, "1", True, None, torch.ones(3), [2]),
    "model": ({}, None, [], {"a": 1}, {"fc.weight": torch.zeros(3)}, {1: torch.zeros(2)}),
}  # fmt: skip
"""Values that a field of a checkpoint of ours cannot have."""


def weights(change: Callable[[dict[str, Tensor]], object]) -> bytes:
    values = state(0)
    change(values)
    return torch_file(values)


def foreign() -> Iterator[Case]:
    """State dicts with hostile names and tensors."""
    yield "long-name", weights(lambda w: w.update({"x" * 10**6: torch.zeros(2)}))
    yield "odd-name", weights(lambda w: w.update({"\x1b[31m\n": torch.zeros(2)}))
    yield "dots", weights(lambda w: w.update({"." * 10**5: torch.zeros(2)}))
    yield "digits", weights(lambda w: w.update({f"layer1.{'9' * 5000}.a": torch.zeros(2)}))
    yield "stages", torch_file({f"layer{i}.0.conv1.weight": torch.zeros(1) for i in range(800)})
    yield "prefixes", torch_file({f"p{i}.conv1.weight": torch.zeros(1) for i in range(800)})
    yield "nan", weights(lambda w: w["fc.bias"].fill_(torch.nan))
    yield "bool", weights(lambda w: w.update({"fc.bias": torch.zeros(7, dtype=torch.bool)}))
    yield "complex", weights(lambda w: w.update({"fc.bias": torch.zeros(7, dtype=torch.cfloat)}))
    yield "scalar", weights(lambda w: w.update({"fc.weight": torch.tensor(3.0)}))
    yield "wide-head", weights(lambda w: w.update({"fc.weight": torch.zeros(1).expand(10**6, 64)}))
    yield "empty", weights(lambda w: w.update({"fc.bias": torch.zeros(0)}))
    yield "no-weights", torch_file({"a": {"b": {"c": 1}}})
    yield "deep", torch_file({"a": {"b": {"c": {"d": {"e": {"f": state(0)}}}}}})
    yield "list", torch_file([state(0)])


def mutated(data: bytes, count: int, seed: int) -> Iterator[Case]:
    """Copies of a file with one to three bytes changed."""
    draw = random.Random(seed)
    for i in range(count):
        copy = bytearray(data)
        for _ in range(draw.randint(1, 3)):
            copy[draw.randrange(len(copy))] ^= draw.randint(1, 255)
        yield f"{i}", bytes(copy)


def mutated_pickles(data: bytes, count: int, seed: int) -> Iterator[Case]:
    """Copies of an archive whose pickle has bytes changed and whose checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        entries = {entry.filename: opened.read(entry) for entry in opened.infolist()}
    name = next(key for key in entries if key.endswith("data.pkl"))
    for i, changed in mutated(entries[name], count, seed):
        yield i, zip_file({**entries, name: changed})
