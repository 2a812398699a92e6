"""Constants of a frozen TensorFlow graph, read without TensorFlow.

A frozen graph is one protobuf message (tensorflow/core/framework/graph.proto). Only what carries weights is read:

    GraphDef      1: NodeDef, repeated
    NodeDef       1: name   2: op   5: attribute map entry (1: key, 2: AttrValue), repeated
    AttrValue     8: TensorProto
    TensorProto   1: data type (1 is float32)   2: TensorShapeProto   4: raw little-endian bytes   5: float values
    TensorShape   2: dimension, repeated (1: size)

Protobuf's wire format: each field is a varint key (number << 3 | kind) and a value: kind 0 varint, 1 eight bytes,
2 a length and that many bytes, 5 four bytes. Every length is compared with what is left before it is followed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from meta_spliceai.errors import IntegrityError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FLOAT = 1
_MOST_VALUES = 1 << 28


def read_constants(path: Path) -> dict[str, Float32[np.ndarray, "*shape"]]:
    """All float32 constants of a frozen graph, by node name.

    Raises:
        IntegrityError: the bytes are no frozen graph, or end too early.
    """
    data = memoryview(path.read_bytes())
    constants: dict[str, np.ndarray] = {}
    try:
        for number, node in _messages(data):
            if number == 1:
                found = _constant(node)
                if found is not None:
                    constants[found[0]] = found[1]
    except _WireError as error:
        raise IntegrityError(f"{path} is not a whole frozen TensorFlow graph ({error}); fetch it again") from error
    if not constants:
        raise IntegrityError(f"{path} holds no float32 constant, so it is not a frozen TensorFlow graph with weights")
    return constants


class _WireError(Exception):
    """The bytes do not follow protobuf's wire format."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """An unsigned integer and the place after it."""
    value = 0
    for step in range(10):
        if at >= len(data):
            raise _WireError("it ends within a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << (7 * step)
        if byte < 0x80:
            return value, at
    raise _WireError("a number is longer than ten bytes")


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of a message, in order; a varint as an integer, anything else as its bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise _WireError(f"field {number} is of unknown kind {kind}")
        if length > len(data) - at:
            raise _WireError(f"field {number} claims {length} bytes where {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The fields of a message that are bytes (messages, strings)."""
    for number, value in _fields(data):
        if isinstance(value, memoryview):
            yield number, value


def _constant(node: memoryview) -> tuple[str, np.ndarray] | None:
    """Name and value of a node that is a float32 constant, else None."""
    name, operation, tensor = "", "", None
    for number, value in _messages(node):
        if number == 1:
            name = _text(value)
        elif number == 2:
            operation = _text(value)
        elif number == 5:
            entry = dict(_messages(value))
            if 1 in entry and 2 in entry and _text(entry[1]) == "value":
                tensor = dict(_messages(entry[2])).get(8)
    if operation != "Const" or tensor is None:
        return None
    values = _tensor(tensor, name)
    return None if values is None else (name, values)


def _tensor(tensor: memoryview, name: str) -> np.ndarray | None:
    """A float32 tensor, or None for one of another type."""
    kind, raw, singles = 0, memoryview(b""), b""
    shape: tuple[int, ...] = ()
    for number, value in _fields(tensor):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, memoryview):
            shape = _shape(value)
        elif number == 4 and isinstance(value, memoryview):
            raw = value
        elif number == 5 and isinstance(value, memoryview):
            singles += bytes(value)
    if kind != _FLOAT:
        return None
    count = math.prod(shape)
    if count > _MOST_VALUES:
        raise _WireError(f"{name} claims {count} values")
    stored = bytes(raw) or singles
    if len(stored) == 4 and count > 1:
        stored *= count  # TensorFlow writes one value for a constant that is the same throughout
    if len(stored) != 4 * count:
        raise _WireError(f"{name} has {len(stored)} bytes for {count} values of shape {shape}")
    return np.frombuffer(stored, dtype="<f4").reshape(shape).astype(np.float32)


def _shape(data: memoryview) -> tuple[int, ...]:
    sizes = []
    for number, dimension in _messages(data):
        if number == 2:
            size = dict(_fields(dimension)).get(1, 0)
            if not isinstance(size, int) or size > _MOST_VALUES:
                raise _WireError(f"a dimension of size {size!r}")
            sizes.append(size)
    return tuple(sizes)


def _text(data: memoryview) -> str:
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise _WireError("a name is not text") from error
