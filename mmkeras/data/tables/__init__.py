"""Tables of all formats, as streams of rows."""

from mmkeras.data.tables.cells import BadCell
from mmkeras.data.tables.embedded import Embedded
from mmkeras.data.tables.source import open_table
from mmkeras.data.tables.table import Cell, Record, Table

__all__ = ["BadCell", "Cell", "Embedded", "Record", "Table", "open_table"]
