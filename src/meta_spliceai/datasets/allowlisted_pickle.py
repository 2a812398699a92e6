"""Reading a third party's pickle of arrays without letting it run anything."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from meta_spliceai.errors import IntegrityError

_RECONSTRUCT = np.zeros(0).__reduce__()[0]
_SCALAR = np.float64(0).__reduce__()[0]

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    # numpy 1 and numpy 2 name the module differently
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.multiarray", "scalar"): _SCALAR,
    ("numpy._core.multiarray", "scalar"): _SCALAR,
}
"""(module, name) as written in the pickle: what it stands for. Nothing else can be named by a pickle that is read."""


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def read_arrays(path: Path) -> dict[str, Any]:
    """A pickled dictionary of numpy arrays and scalars, and of plain Python values.

    Raises:
        IntegrityError: the file is truncated, is no such dictionary, or names anything but numpy's arrays and scalars.
    """
    try:
        with path.open("rb") as handle:
            content = _ArraysOnly(handle).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise IntegrityError(f"{path} is not a pickle of arrays and cannot be read: {error}") from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise IntegrityError(f"{path} holds a {type(content).__name__}, expected a dictionary with names as keys")
    return content
