"""Cleanup of graph functions that the tests of modalities trace."""

import pytest

from tests.modalities.encoded_media import traced


@pytest.fixture(scope="module", autouse=True)
def traced_functions_end_before_tensorflow():
    yield
    traced.cache_clear()
