"""Pickles from files nobody has to trust: read as data, by a small machine of our own that can call nothing.

Python's own reader imports and calls what a pickle names. This one goes through the same instructions
(`pickletools.genops`), and knows what the few names mean that plain containers and numpy arrays are written with; any
other name is refused. Even numpy's own reconstruction is not called, because it trusts the flags in a pickled dtype.
"""

from __future__ import annotations

import io
import pickletools
import re
import struct
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from robointervlm.core.errors import DataError, RefusedError

_T = TypeVar("_T")

MAX_BYTES = 64_000_000
# Every instruction costs a few microseconds: a file of nothing but instructions must not cost minutes.
MAX_INSTRUCTIONS = 3_000_000

_PLAIN_DTYPE = re.compile(r"[<>|=]?(?:[iufcb][0-9]{1,2}|\?|[SU][0-9]{1,6})")
_RECORD_DTYPE = re.compile(r"V([0-9]{1,4})")
# What a damaged pickle makes the instruction reader and the machine raise.
_DAMAGE = (ValueError, IndexError, KeyError, TypeError, AttributeError, struct.error, OverflowError, UnicodeError)


class _Name(NamedTuple):
    """A name that a pickle imports; known, but never imported here."""

    what: str


class _Array:
    """An array whose content comes with a later instruction."""

    def __init__(self) -> None:
        self.array: np.ndarray[Any, Any] | None = None


class _Dtype:
    """The kind of an array's numbers. Its pickled state may turn the byte order, or name the fields of a record."""

    def __init__(self, code: str) -> None:
        if not _PLAIN_DTYPE.fullmatch(code) and not _RECORD_DTYPE.fullmatch(code):
            raise RefusedError(f"an array of '{code[:40]}'; plain numbers and texts are read, and records of them.")
        self.dtype = np.dtype(code)

    def set_state(self, state: tuple[Any, ...]) -> None:
        """Takes the byte order of numbers, or the fields of a record, from what a pickle says of them."""
        order, base, names, fields, size = state[1:6]
        if order not in {"<", ">", "|", "="} or base is not None:
            raise RefusedError("an array of arrays; plain numbers and texts are read, and records of them.")
        if names is None and fields is None:
            self.dtype = self.dtype.newbyteorder(order)
            return
        if self.dtype.kind != "V" or size != self.dtype.itemsize or set(names) != set(fields):
            raise RefusedError("an array whose fields do not fit its records.")
        places = [_expect(fields[name], tuple) for name in names]
        kinds = [_expect(kind, _Dtype).dtype for kind, _ in places]
        offsets = [_expect(offset, int) for _, offset in places]
        if any(kind.kind == "V" for kind in kinds) or min(offsets, default=0) < 0:
            raise RefusedError("an array of records inside records; records of plain numbers and texts are read.")
        # numpy checks that every field lies inside the record.
        self.dtype = np.dtype({"names": list(names), "formats": kinds, "offsets": offsets, "itemsize": size})


_NAMES = {
    ("builtins", "bytearray"): "bytes",
    ("__builtin__", "bytearray"): "bytes",
    ("builtins", "bytes"): "bytes",
    ("__builtin__", "bytes"): "bytes",
    ("_codecs", "encode"): "encode",
    ("collections", "OrderedDict"): "dict",
    ("builtins", "dict"): "dict",
    ("builtins", "list"): "list",
    ("builtins", "set"): "set",
    ("builtins", "frozenset"): "set",
    ("__builtin__", "set"): "set",
    ("__builtin__", "frozenset"): "set",
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    **{(f"numpy.{core}.multiarray", "_reconstruct"): "reconstruct" for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): "scalar" for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): "frombuffer" for core in ("core", "_core")},
}


def read_pickle(content: bytes, what: str) -> Any:
    """The value that a pickle holds: None, numbers, texts, bytes, lists, tuples, dicts, sets and numpy arrays of them.

    `what` names the pickle in errors. Ordered dicts come as dicts, bytearrays as bytes. Shared
    parts stay shared, so a small file may describe a value that is endless to print; look at what is expected only.
    Raises `RefusedError` for one that names anything else, such as a function to call, and for one that is too long;
    `DataError` for one that is damaged.
    """
    if len(content) > MAX_BYTES:
        raise RefusedError(f"{what} has {len(content) / 1e6:.0f} MB; the limit for a pickle is {MAX_BYTES // 10**6}.")
    try:
        return _Machine().run(content)
    except RefusedError as error:
        raise RefusedError(f"{what} is a pickle that is not trusted: it holds {error}") from error
    except _DAMAGE as error:
        raise DataError(f"{what} is a damaged pickle: {str(error)[:200]}.") from error


class _Machine:
    """The stack machine of the pickle format, without the instructions that run code."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, content: bytes) -> Any:
        """The value on the stack when the pickle stops."""
        for count, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(content))):
            if count >= MAX_INSTRUCTIONS:
                raise RefusedError(f"more than {MAX_INSTRUCTIONS} instructions.")
            if opcode.name in _CONSTANTS:
                self.stack.append(_CONSTANTS[opcode.name])
            elif opcode.name in _LITERALS:
                self.stack.append(argument)
            elif (act := _ACTIONS.get(opcode.name)) is not None:
                act(self, argument)
            elif opcode.name not in _IGNORED:
                raise RefusedError(f"the instruction {opcode.name}, which makes objects; only plain values are read.")
        return _finished(self.stack.pop())

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def above_mark(self) -> list[Any]:
        start = self.marks.pop()
        if start > len(self.stack):
            raise ValueError("it takes back more than it put down")
        values = [_finished(value) for value in self.stack[start:]]
        del self.stack[start:]
        return values

    def pop(self, _: object = None) -> Any:
        """The uppermost value; where a mark is uppermost, the mark goes, as the format has it."""
        if self.marks and self.marks[-1] == len(self.stack):
            return self.marks.pop()
        return self.stack.pop()

    def pop_mark(self, _: object) -> None:
        self.above_mark()

    def duplicate(self, _: object) -> None:
        self.stack.append(self.stack[-1])

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    def tuple_of_marked(self, _: object) -> None:
        self.stack.append(tuple(self.above_mark()))

    def list_of_marked(self, _: object) -> None:
        self.stack.append(self.above_mark())

    def dict_of_marked(self, _: object) -> None:
        self.stack.append(_pairs(self.above_mark()))

    def set_of_marked(self, _: object) -> None:
        self.stack.append(frozenset(map(_key, self.above_mark())))

    def tuple_of(self, count: int) -> None:
        values = tuple(_finished(self.stack.pop()) for _ in range(count))
        self.stack.append(values[::-1])

    def append(self, _: object) -> None:
        value = _finished(self.stack.pop())
        _expect(self.stack[-1], list).append(value)

    def extend(self, _: object) -> None:
        values = self.above_mark()
        _expect(self.stack[-1], list).extend(values)

    def set_item(self, _: object) -> None:
        value, key = _finished(self.stack.pop()), self.stack.pop()
        _expect(self.stack[-1], dict)[_key(key)] = value

    def set_items(self, _: object) -> None:
        pairs = _pairs(self.above_mark())
        _expect(self.stack[-1], dict).update(pairs)

    def add_items(self, _: object) -> None:
        values = self.above_mark()
        _expect(self.stack[-1], set).update(map(_key, values))

    def name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._named(module, name)

    def name_on_stack(self, _: object) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self._named(_expect(module, str), _expect(name, str))

    def _named(self, module: str, name: str) -> None:
        known = _NAMES.get((module, name))
        if known is None:
            raise RefusedError(f"{f'{module}.{name}'[:80]!r}, which is code; only plain values and arrays are read.")
        self.stack.append(_Name(known))

    def reduce(self, _: object) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        self.stack.append(_made(_expect(name, _Name).what, _expect(arguments, tuple)))

    def build(self, _: object) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        state = _expect(state, tuple)
        if isinstance(target, _Dtype):
            target.set_state(state)
        else:
            _, shape, dtype, fortran, data = state
            _expect(target, _Array).array = _array(data, dtype, shape, "F" if fortran else "C")


def _made(name: str, arguments: tuple[Any, ...]) -> Any:  # noqa: PLR0911 - one per form
    """What a known name gives for arguments, made here from plain values."""
    match name, arguments:
        case (("encode" | "bytes"), (str() as text, "latin1" | "latin-1")):
            return text.encode("latin-1")
        case "bytes", () | (bytes(),):
            return b"".join(arguments)
        case (("dict" | "list"), ()):
            return {} if name == "dict" else []
        case "set", ([*values],):
            return frozenset(map(_key, values))
        case "dtype", (str() as code, *_):
            return _Dtype(code)
        case "reconstruct", (_Name("ndarray"), tuple(), bytes() | str()):
            return _Array()
        case "scalar", (_Dtype() as kind, bytes() as data):
            return _array(data, kind, (1,), "C")[0]
        case "frombuffer", (bytes() as data, _Dtype() as kind, tuple() as shape, "C" | "F" as order):
            return _array(data, kind, shape, order)
    raise RefusedError(f"a use of '{name}' that plain values and arrays have no need of.")


def _array(data: object, kind: object, shape: object, order: Any) -> np.ndarray[Any, Any]:
    """An array of a picture's or a table's numbers; a damaged shape is a ValueError of numpy's."""
    numbers = np.frombuffer(_expect(data, bytes), _expect(kind, _Dtype).dtype)
    sides = [_expect(side, int) for side in _expect(shape, tuple)]
    if any(side < 0 for side in sides):
        raise ValueError(f"an array has the shape {sides}")
    return numbers.reshape(sides, order=order)


def _finished(value: Any) -> Any:
    """The value itself; of an array, the array. A name by itself stays what it is, and is of no use to anyone."""
    if isinstance(value, _Array):
        return _expect(value.array, np.ndarray)
    return value


def _expect(value: object, kind: type[_T]) -> _T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{type(value).__name__.lstrip('_').lower()} stands where {kind.__name__} is expected")
    return value


def _key(value: object) -> Any:
    # Texts and bytes are hashed with a secret, whole numbers of 64 bits hardly collide: no crafted slow dictionaries.
    if isinstance(value, str | bytes | bool | None) or (isinstance(value, int) and abs(value) < 2**62):
        return value
    raise ValueError(f"a key is {type(value).__name__}; texts, bytes and whole numbers are read")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise ValueError("a key has no value")
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = frozenset(
    ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING")
    + ("SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES")
    + ("BINBYTES8",)
)
_IGNORED = frozenset(("PROTO", "FRAME", "STOP"))
_ACTIONS: dict[str, Callable[[_Machine, Any], object]] = {
    "MARK": _Machine.mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": _Machine.duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.memoize,
    "TUPLE": _Machine.tuple_of_marked,
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "BYTEARRAY8": lambda machine, data: machine.stack.append(bytes(data)),
    "LIST": _Machine.list_of_marked,
    "DICT": _Machine.dict_of_marked,
    "FROZENSET": _Machine.set_of_marked,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "ADDITEMS": _Machine.add_items,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_on_stack,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
