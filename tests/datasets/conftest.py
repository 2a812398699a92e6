from __future__ import annotations

import pytest

from meta_spliceai.datasets import Loaded, load_dataset
from meta_spliceai.errors import MissingExtraError


@pytest.fixture(scope="session")
def wt1() -> Loaded:
    """The packaged data set, loaded once."""
    try:
        return load_dataset("wt1-exon5")
    except MissingExtraError as error:
        pytest.skip(str(error))
