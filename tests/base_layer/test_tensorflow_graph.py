"""Frozen graphs made by hand: what is read, and what is refused without following it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from meta_spliceai.errors import IntegrityError
from meta_spliceai.splice_engine.base_layer.tensorflow_graph import read_constants


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def message(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def tensor(values: bytes, *sizes: int, kind: int = 1, field: int = 4) -> bytes:
    shape = b"".join(message(2, number(1, size)) for size in sizes)
    return number(1, kind) + message(2, shape) + message(field, values)


def node(name: str, body: bytes, operation: str = "Const") -> bytes:
    entry = message(1, b"value") + message(2, message(8, body))
    return message(1, message(1, name.encode()) + message(2, operation.encode()) + message(5, entry))


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def read(folder: Path, data: bytes) -> dict[str, np.ndarray]:
    path = folder / "graph.pb"
    path.write_bytes(data)
    return read_constants(path)


def test_float_constants_are_read_and_all_else_is_passed_over(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        node("a", tensor(floats(1, 2, 3, 4, 5, 6), 2, 3))
        + node("whole numbers", tensor(b"\0\0\0\0", 1, kind=3))
        + node("other", tensor(floats(1), 1), operation="Identity")
        + node("scalar", tensor(floats(0.5), field=5))
        + node("same", tensor(floats(7), 2, 2))
        + message(4, b"versions"),
    )
    assert sorted(found) == ["a", "same", "scalar"]
    np.testing.assert_array_equal(found["a"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found["same"], [[7, 7], [7, 7]])
    assert found["scalar"].shape == ()
    assert found["a"].dtype == np.float32


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no float32 constant"),
        (b"\x0a\xff\xff\xff\xff\x7f", "claims .* bytes where 0 are left"),
        (b"\x0a", "ends within a number"),
        (b"\x0a" + b"\xff" * 11, "longer than ten bytes"),
        (b"\x0b\x00", "unknown kind 3"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a frozen TensorFlow graph"),
        (node("a", tensor(floats(1, 2), 3)), "8 bytes for 3 values"),
        (node("a", tensor(floats(1), 1 << 20, 1 << 20)), "claims 1099511627776 values"),
        (node("a", tensor(floats(1), 1 << 62)), "claims 4611686018427387904 values"),
    ],
)
def test_bytes_that_cannot_be_right_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        read(tmp_path, data)


def test_every_truncation_is_refused_or_shorter(tmp_path: Path) -> None:
    whole = node("a", tensor(floats(1, 2), 2)) + node("b", tensor(floats(3), 1))
    cut_between = len(node("a", tensor(floats(1, 2), 2)))
    for length in range(len(whole)):
        if length == cut_between:
            assert sorted(read(tmp_path, whole[:length])) == ["a"]
            continue
        with pytest.raises(IntegrityError):
            read(tmp_path, whole[:length])


def test_random_bytes_never_crash(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    whole = np.frombuffer(node("a", tensor(floats(1, 2), 2)) * 3, dtype=np.uint8)
    for _ in range(300):
        damaged = whole.copy()
        damaged[generator.integers(0, len(damaged), 3)] = generator.integers(0, 256, 3)
        refused = False
        try:
            values = read(tmp_path, damaged.tobytes())
        except IntegrityError:
            refused = True
        assert refused or all(value.dtype == np.float32 for value in values.values())
