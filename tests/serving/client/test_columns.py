"""Objects of the types of columns, with the limits of the client."""

from pathlib import Path

import pytest

from mmkeras.data.tables import Embedded
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.types import TYPES
from serving.client.columns import build_column, cell_value
from serving.client.settings import Limits

LIMITS = Limits(max_megapixels=3, clip_s=7)


@pytest.mark.parametrize("kind", TYPES)
def test_a_column_is_of_its_type_with_the_limits_of_the_client(kind):
    column = build_column("x", kind, False, LIMITS)
    assert (column.name, column.type) == ("x", kind) and type(column) is TYPES[kind]
    assert getattr(column.settings, "clip_s", 7) == 7
    assert getattr(column.settings, "max_megapixels", 3) == 3


def test_values_of_an_unknown_type_are_sent_as_they_are():
    column = build_column("x", "video", False, LIMITS)
    assert column.prepare(b"a") == (b"a", ()) and not column.has_files
    assert build_column("x", "share", True, LIMITS).read("2.5", None).data == 2.5


def test_cells_of_files_are_paths_and_those_of_texts_if_wanted():
    files = FileReader("folder")
    for kind in ("image", "vector"):
        for text_files in (False, True):
            assert cell_value("a", kind, text_files, files) == ("folder/a",)
            several = cell_value(("a", b"b"), kind, text_files, files)
            assert several == ("folder/a", b"b")
    assert cell_value("a;b", "image", False, files) == ("folder/a", "folder/b")
    assert cell_value("a;b", "text", False, files) == "a;b"
    assert cell_value(("a", "b"), "text", False, files) == ("a", "b")
    assert cell_value("a", "text", True, files) == (Path("folder/a"),)
    assert cell_value("a", "date", True, files) == "a"


def test_a_cell_that_cannot_be_read_is_the_error():
    cell = Embedded(file="gone.arrow", column="x", row=0)
    error = cell_value(cell, "image", False, FileReader("folder"))
    assert isinstance(error, Unreadable) and "gone.arrow" in str(error)
