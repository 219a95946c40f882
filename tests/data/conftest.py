import pytest

from mmkeras.data import ingest
from tests import table_factory


@pytest.fixture
def ingest_rows(tmp_path):
    """Writes the rows to a table and ingests it."""

    def write(rows, only=None, **changes):
        table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
        config = table_factory.tiny_config(tmp_path / "cache", **changes)
        return ingest.ingest(table, config, only=only)

    return write
