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
from typing import Any

import numpy as np
from jaxtyping import Float32

from meta_spliceai.errors import IntegrityError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FLOAT = 1
_MOST_VALUES = 1 << 28


class _WireError(Exception):
    """The bytes do not follow protobuf's wire format."""


def read_constants(path: Path) -> dict[str, Float32[np.ndarray, "*shape"]]:
    """All float32 constants of a frozen graph, by node name. IntegrityError: the bytes are no frozen graph, or end too
    early."""
    constants: dict[str, np.ndarray] = {}
    try:
        for node in _all(memoryview(path.read_bytes()), 1):
            name, operation = (str(next(_all(node, number), b""), "utf-8") for number in (1, 2))
            for entry in _all(node, 5):
                if bytes(next(_all(entry, 1), b"")) == b"value" and operation == "Const":
                    values = _tensor(next(_all(next(_all(entry, 2), b""), 8), None), name)
                    if values is not None:
                        constants[name] = values
    except (_WireError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} is not a whole frozen TensorFlow graph ({error}); fetch it again") from error
    if not constants:
        raise IntegrityError(f"{path} holds no float32 constant, so it is not a frozen TensorFlow graph with weights")
    return constants


def _all(data: Any, number: int) -> Iterator[memoryview]:
    """Every value of a message's field that is bytes (messages, strings)."""
    return (value for found, value in _fields(memoryview(data)) if found == number and isinstance(value, memoryview))


def _varint(data: memoryview, at: int) -> tuple[int, int]:
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


def _fields(data: memoryview) -> list[tuple[int, int | memoryview]]:
    """(field number, value) of a whole message, in order; a varint as an integer, anything else as its bytes."""
    found: list[tuple[int, int | memoryview]] = []
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            found.append((number, value))
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise _WireError(f"field {number} is of unknown kind {kind}")
        if length > len(data) - at:
            raise _WireError(f"field {number} claims {length} bytes where {len(data) - at} are left")
        found.append((number, data[at : at + length]))
        at += length
    return found


def _tensor(tensor: memoryview | None, name: str) -> np.ndarray | None:
    """A float32 tensor, or None for none and for one of another type."""
    fields = _fields(tensor) if tensor is not None else []
    if dict(fields).get(1) != _FLOAT:
        return None
    shape = []
    for dimension in (one for of in _all(tensor, 2) for one in _all(of, 2)):
        size = dict(_fields(dimension)).get(1, 0)
        if not isinstance(size, int) or size > _MOST_VALUES:
            raise _WireError(f"a dimension of size {size!r}")
        shape.append(size)
    count = math.prod(shape)
    if count > _MOST_VALUES:
        raise _WireError(f"{name} claims {count} values")
    stored = b"".join(_all(tensor, 4)) or b"".join(_all(tensor, 5))
    if len(stored) == 4 and count > 1:
        stored *= count  # TensorFlow writes one value for a constant that is the same throughout
    if len(stored) != 4 * count:
        raise _WireError(f"{name} has {len(stored)} bytes for {count} values of shape {tuple(shape)}")
    return np.frombuffer(stored, dtype="<f4").reshape(shape).astype(np.float32)
