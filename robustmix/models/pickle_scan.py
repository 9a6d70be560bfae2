"""Read through a pickle without making anything of it, and refuse what would take everything.

torch's weights-only unpickler runs no code of a file, but a few kB suffice to fill the memory or to
keep it busy for ever: a call of ``bytearray`` with a large number, tuples of the same tuple whose
hash or text visits every path, more levels than Python can follow. So the instructions are followed
once with sizes in place of values, and the file is refused before the first thing is made.
"""

import pickletools
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable, Sequence
from typing import BinaryIO, Literal, TypeAlias

import torch

MOST_VALUES = 500_000
"""Instructions of a file, values that it unfolds to where it names some repeatedly, and values that
it hands to calls: 16,000 tensors with all that describes them, or 250,000 names."""

MOST_LEVELS = 100
"""Containers inside each other."""

MOST_BYTES = 2**26
"""Bytes that calls may make of texts."""

MOST_DIMENSIONS = 16
"""Of a tensor; torch itself allows more than its functions can compute with."""

LARGEST_KEY = 16
"""Values in a key of a dictionary: hashing it visits all of them, each time."""

REBUILD = frozenset(
    f"torch._utils._rebuild_{name}"
    for name in ("tensor", "tensor_v2", "tensor_v3", "parameter", "parameter_with_state")
)
"""Calls that make dense tensors, of storages that the unpickler has read."""

RECORD = "argparse.Namespace"
"""A class whose objects are read as inert names and values."""

_CONTAINERS = {
    "collections.OrderedDict": "dict",
    "collections.Counter": "dict",
    "builtins.set": "set",
    "torch.Size": "tuple",
}
_PLAIN_CALLS = ("builtins.complex", "torch.device", "torch.serialization._get_layout")
_PARAMETER = "torch.nn.parameter.Parameter"
_WRAPPED = "torch._tensor._rebuild_from_type_v2"
CALLED = frozenset(
    {*REBUILD, *_CONTAINERS, *_PLAIN_CALLS, _PARAMETER, _WRAPPED, RECORD}
    | {"_codecs.encode", "builtins.bytearray"}
)
"""Names that may be called."""

Kind: TypeAlias = Literal[
    "plain", "text", "name", "tuple", "list", "dict", "set", "record", "object", "mark"
]


class RefusedError(Exception):
    """The pickle names something that is more than tensors and plain values."""


class TooLargeError(Exception):
    """What the pickle describes is larger than a checkpoint can be."""


class MalformedError(Exception):
    """The instructions do not fit together."""


class _Value:
    """What is known of a value: how many it holds, itself included, and how deep they lie."""

    __slots__ = ("items", "keys", "kind", "levels", "number", "sealed", "size", "text")

    def __init__(
        self,
        kind: Kind,
        size: int = 1,
        levels: int = 0,
        *,
        text: str = "",
        number: int | None = None,
        items: Sequence["_Value"] = (),
    ) -> None:
        self.kind: Kind = kind
        self.size = size
        self.levels = levels
        self.text = text
        self.number = number
        """Of an integer; of a storage how many elements it has."""

        self.items = items
        self.keys: set[str] | None = None
        """Texts that are keys of a dictionary."""

        self.sealed = False
        """Whether another value holds it. Sizes would be wrong if it then went on growing, and
        nothing that a pickler writes does."""


_PLAIN, _MARK = _Value("plain"), _Value("mark")


def scan_pickle(file: BinaryIO) -> None:
    """Follow one pickle from the file's position to its end, without making anything.

    Raises:
        RefusedError: a name or an instruction that weights-only loading does not accept.
        TooLargeError: too many instructions, values or levels.
        MalformedError: it is no pickle.
    """
    scan = _Scan()
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(file)):
            if count > MOST_VALUES:
                raise TooLargeError(f"more than {MOST_VALUES} instructions")
            scan.step(code.name, argument)
    except (ValueError, IndexError, KeyError) as error:
        raise MalformedError(" ".join(str(error).split())[:80]) from error


class _Scan:
    """The stack of an unpickler, with what is known of the values on it."""

    def __init__(self) -> None:
        self.stack: list[_Value] = []
        self.memo: dict[int, _Value] = {}
        self.numbers: dict[int, _Value] = {}
        self.called = 0
        self.bytes_left = MOST_BYTES

    def step(self, name: str, argument: object) -> None:
        """Follow one instruction."""
        if name in _NUMBERS:
            assert isinstance(argument, int)
            self.stack.append(self._number(argument))
        elif name in _PUSHED:
            self.stack.append(_PLAIN)
        elif name in _TEXTS:
            assert isinstance(argument, str)
            self.stack.append(_Value("text", text=argument))
        elif name in _EMPTY:
            self.stack.append(_Value(_EMPTY[name]))
        elif name in _HANDLERS:
            _HANDLERS[name](self, argument)
        elif name not in ("PROTO", "STOP"):
            raise RefusedError(f"pickle instruction {name}")

    def _number(self, number: int) -> _Value:
        if not 0 <= number < 2**63:
            return _PLAIN
        known = self.numbers.get(number)
        if known is None:
            known = self.numbers[number] = _Value("plain", number=number)
        return known

    def global_name(self, argument: object) -> None:
        module, _, name = str(argument).partition(" ")
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        self.stack.append(_Value("name", text=_known(f"{module}.{name}")))

    def mark(self, argument: object) -> None:
        self.stack.append(_MARK)

    def get(self, argument: object) -> None:
        assert isinstance(argument, int)
        self.stack.append(self.memo[argument])

    def put(self, argument: object) -> None:
        assert isinstance(argument, int)
        self.memo[argument] = self._top()

    def tuple_of(self, argument: object) -> None:
        self._push_tuple(self._pop_to_mark())

    def tuple_1(self, argument: object) -> None:
        self._push_tuple([self._pop()])

    def tuple_2(self, argument: object) -> None:
        self._push_tuple([self._pop(), self._pop()][::-1])

    def tuple_3(self, argument: object) -> None:
        self._push_tuple([self._pop(), self._pop(), self._pop()][::-1])

    def append(self, argument: object) -> None:
        value = self._pop()
        self._grow(self._top("list"), [value])

    def appends(self, argument: object) -> None:
        values = self._pop_to_mark()
        self._grow(self._top("list"), values)

    def set_item(self, argument: object) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def set_items(self, argument: object) -> None:
        self._set_items(self._pop_to_mark())

    def build(self, argument: object) -> None:
        state = self._pop()
        self._grow(self._top("dict", "record"), [state])

    def reduce(self, argument: object) -> None:
        given, called = self._pop("tuple"), self._pop("name")
        self._finish(called, given)

    def new_object(self, argument: object) -> None:
        given, called = self._pop("tuple"), self._pop("name")
        if called.text not in (_PARAMETER, "torch.Size") and given.items:
            raise RefusedError(f"{called.text} made of values")
        self._finish(called, given)

    def storage(self, argument: object) -> None:
        named = self._pop("tuple")
        if named.size > LARGEST_KEY or len(named.items) < 5:
            raise MalformedError("a storage is not named as torch does")
        self.stack.append(_Value("object", number=named.items[4].number))

    def _finish(self, called: _Value, given: _Value) -> None:
        self.called += given.size
        if self.called > MOST_VALUES:
            raise TooLargeError(f"calls with more than {MOST_VALUES} values")
        self.stack.append(self._call(called.text, given))

    def _call(self, name: str, given: _Value) -> _Value:
        if name == RECORD and not given.items:
            return _Value("record")
        if name in ("_codecs.encode", "builtins.bytearray"):
            return self._bytes(name, given.items)
        if name in _CONTAINERS:
            # Iterating over a tensor makes a tensor of each row.
            _need(given.items, "tuple", "list", "dict", "set")
            kind: Kind = _CONTAINERS[name]  # type: ignore[assignment] # mypy knows no dict of it
            return _Value(kind, given.size, given.levels)
        if name in _PLAIN_CALLS:
            _need(given.items, "plain", "text")
            return _PLAIN
        if name == _PARAMETER:
            _need(given.items, "object")
        elif name == _WRAPPED:
            first, inner = given.items[0], given.items[2]
            if first.kind != "name" or first.text not in REBUILD:
                raise RefusedError(f"{name} of something else than a tensor")
            _check_extent(first.text, inner.items)
        elif name in REBUILD:
            _check_extent(name, given.items)
        else:
            raise RefusedError(name)
        return _Value("object", given.size, given.levels)

    def _bytes(self, name: str, given: Sequence[_Value]) -> _Value:
        """Bytes are made of a text in Latin-1 only: other codecs unfold, numbers ask for memory."""
        _need(given, "text")
        if len(given) > 1 and given[1].text.replace("-", "").lower() not in ("latin1", ""):
            raise RefusedError(f"{name} in another encoding than latin1")
        text = given[0].text if given else ""
        self.bytes_left -= len(text)
        if self.bytes_left < 0:
            raise TooLargeError("bytes that are repeated")
        return _Value("text", text=text)

    def _set_items(self, items: Sequence[_Value]) -> None:
        holder = self._top("dict")
        for key in items[::2]:
            if key.size > LARGEST_KEY:
                raise TooLargeError("a large key of a dictionary")
            if key.kind == "text":
                holder.keys = set() if holder.keys is None else holder.keys
                if key.text in holder.keys:
                    raise MalformedError("a dictionary has a key twice")
                holder.keys.add(key.text)
        self._grow(holder, items)

    def _push_tuple(self, items: Sequence[_Value]) -> None:
        made = _Value("tuple", items=items)
        self._grow(made, items)
        self.stack.append(made)

    def _grow(self, holder: _Value, values: Iterable[_Value]) -> None:
        if holder.sealed:
            raise MalformedError("a container changes after its use")
        size, levels = holder.size, holder.levels
        for value in values:
            value.sealed = True
            size += value.size
            levels = max(levels, value.levels + 1)
        if size > MOST_VALUES:
            raise TooLargeError(f"unfolds to more than {MOST_VALUES} values")
        if levels > MOST_LEVELS:
            raise TooLargeError(f"more than {MOST_LEVELS} levels")
        holder.size, holder.levels = size, levels
        if holder.sealed:
            raise MalformedError("a container holds itself")

    def _pop(self, *kinds: Kind) -> _Value:
        value = self._top(*kinds)
        self.stack.pop()
        return value

    def _top(self, *kinds: Kind) -> _Value:
        value = self.stack[-1]
        if value is _MARK or (kinds and value.kind not in kinds):
            raise MalformedError(f"a {value.kind} where another value belongs")
        return value

    def _pop_to_mark(self) -> list[_Value]:
        values = []
        while self.stack[-1] is not _MARK:
            values.append(self.stack.pop())
        self.stack.pop()
        return values[::-1]


def _check_extent(name: str, given: Sequence[_Value]) -> None:
    """Raise for a tensor that reaches beyond its storage: torch would lengthen it with noise.

    Raises:
        MalformedError: it does.
    """
    if "parameter" in name:  # made of a tensor
        return
    storage, offset, sizes, strides = given[:4]
    numbers = [offset.number, *(value.number for value in (*sizes.items, *strides.items))]
    if len(sizes.items) > MOST_DIMENSIONS:
        raise MalformedError(f"a tensor of more than {MOST_DIMENSIONS} dimensions")
    if storage.number is None or any(number is None for number in numbers):
        raise MalformedError("a tensor without numbers")
    reach = (offset.number or 0) + 1
    for size, stride in zip(sizes.items, strides.items, strict=True):
        if not size.number:
            return
        reach += (size.number - 1) * (stride.number or 0)
    width = 1
    if name.endswith("_v3"):  # of a storage of bytes
        width = getattr(torch, given[6].text.rpartition(".")[2]).itemsize
    if reach * width > storage.number:
        raise MalformedError("a tensor is larger than what is stored of it")


def _known(name: str) -> str:
    """Return a name that may be called, or that tells a storage or a type of numbers."""
    module, _, last = name.rpartition(".")
    storage = module in ("torch", "torch.storage", "torch.cuda") and last.endswith("Storage")
    number = module == "torch" and isinstance(getattr(torch, last, None), torch.dtype)
    if name in CALLED or storage or number:
        return name
    raise RefusedError(name)


def _need(values: Iterable[_Value], *kinds: Kind) -> None:
    for value in values:
        if value.kind not in kinds:
            raise RefusedError(f"a call with a {value.kind}")


_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1"})
_PUSHED = frozenset({"NONE", "NEWFALSE", "NEWTRUE", "BINFLOAT"})
_TEXTS = frozenset({"BINUNICODE", "SHORT_BINSTRING"})
_EMPTY: dict[str, Kind] = {
    "EMPTY_TUPLE": "tuple",
    "EMPTY_LIST": "list",
    "EMPTY_DICT": "dict",
    "EMPTY_SET": "set",
}
_HANDLERS: dict[str, Callable[[_Scan, object], None]] = {
    "GLOBAL": _Scan.global_name,
    "MARK": _Scan.mark,
    "BINGET": _Scan.get,
    "LONG_BINGET": _Scan.get,
    "BINPUT": _Scan.put,
    "LONG_BINPUT": _Scan.put,
    "TUPLE": _Scan.tuple_of,
    "TUPLE1": _Scan.tuple_1,
    "TUPLE2": _Scan.tuple_2,
    "TUPLE3": _Scan.tuple_3,
    "APPEND": _Scan.append,
    "APPENDS": _Scan.appends,
    "SETITEM": _Scan.set_item,
    "SETITEMS": _Scan.set_items,
    "BUILD": _Scan.build,
    "REDUCE": _Scan.reduce,
    "NEWOBJ": _Scan.new_object,
    "BINPERSID": _Scan.storage,
}
"""What the weights-only unpickler follows; the rest is refused by it too."""
