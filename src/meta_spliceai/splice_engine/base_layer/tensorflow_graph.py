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
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from meta_spliceai.errors import IntegrityError
from meta_spliceai.read_hostile import one_error

_FLOAT = 1
_MOST_VALUES = 1 << 28


def read_constants(path: Path) -> dict[str, Float32[np.ndarray, "*shape"]]:
    """All float32 constants of a frozen graph, by node name.

    Raises:
        IntegrityError: the bytes are no frozen graph, or end too early.
    """
    constants: dict[str, np.ndarray] = {}
    with one_error(path, "fetch it again"):
        for node in map(_fields, _fields(memoryview(path.read_bytes()))[1]):
            name = str(node[1][0], "utf-8")
            for key, value in ((entry[1][0], entry[2]) for entry in map(_fields, node[5])):
                if bytes(key) == b"value" and bytes(node[2][0]) == b"Const":
                    for tensor in map(_fields, _fields(value[0])[8]):
                        if tensor[1] == [_FLOAT]:
                            constants[name] = _values(tensor, name)
    if not constants:
        raise IntegrityError(f"{path} holds no float32 constant, so it is not a frozen TensorFlow graph with weights")
    return constants


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number and where the next field begins."""
    value = 0
    for step in range(10):
        if at + step >= len(data):
            raise ValueError("it ends within a number")
        value |= (data[at + step] & 0x7F) << (7 * step)
        if data[at + step] < 0x80:
            return value, at + step + 1
    raise ValueError("a number is longer than ten bytes")


def _fields(data: memoryview) -> dict[int, list[Any]]:
    """The values of each field of a whole message, in order: a varint as an integer, anything else as its bytes."""
    found: dict[int, list[Any]] = defaultdict(list)
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind not in (0, 1, 2, 5):
            raise ValueError(f"field {number} is of unknown kind {kind}")
        length, at = _varint(data, at) if kind in (0, 2) else (8 if kind == 1 else 4, at)
        if kind == 0:
            found[number].append(length)
            continue
        if length > len(data) - at:
            raise ValueError(f"field {number} claims {length} bytes where {len(data) - at} are left")
        found[number].append(data[at : at + length])
        at += length
    return found


def _values(tensor: dict[int, list[Any]], name: str) -> Float32[np.ndarray, "*shape"]:
    shape = [(_fields(one)[1] or [0])[0] for of in tensor[2] for one in _fields(of)[2]]
    count = math.prod(shape)
    if max([count, *shape]) > _MOST_VALUES:
        raise ValueError(f"{name} claims {count} values of shape {tuple(shape)}")
    stored = b"".join(tensor[4]) or b"".join(tensor[5])
    if len(stored) == 4 and count > 1:
        stored *= count  # TensorFlow writes one value for a constant that is the same throughout
    if len(stored) != 4 * count:
        raise ValueError(f"{name} has {len(stored)} bytes for {count} values of shape {tuple(shape)}")
    return np.frombuffer(stored, dtype="<f4").reshape(shape).astype(np.float32)
