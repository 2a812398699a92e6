"""No tensor is left on the CPU where a GPU works (see `on_another_device`), on machines without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this PyTorch has no devices that are made in Python",
)

PROGRAM = Path(__file__).with_name("on_another_device.py")


def checked(*names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), *names],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


QUICK = ("scoring incremental fp32 0.0", "training validated-delta-10k")


def test_scoring_and_the_central_model_stay_on_their_device_and_a_tensor_left_behind_is_noticed() -> None:
    done = checked("mistake", *QUICK)
    assert done.stdout.count(": fine") == len(QUICK), done.stdout + done.stderr
    assert "mistake: FAILED FakeTensorDeviceMismatchError" in done.stdout
    assert done.returncode == 1


@pytest.mark.slow
def test_every_other_kind_of_row_stays_on_its_device() -> None:
    done = checked("but", *QUICK)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": fine") > 15
