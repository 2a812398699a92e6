"""A checkout that merely stands on PYTHONPATH, as on a machine that nothing can be installed on."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_it_knows_its_version_where_it_is_not_installed() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT / 'src')!r}); import meta_spliceai; print(meta_spliceai.__version__)"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == wanted, done.stderr
