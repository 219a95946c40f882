import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from mmkeras.modalities.items import (
    pack_items,
    split_cell,
    unpack_in_graph,
    unpack_items,
)
from mmkeras.modalities.vector.npy import npy_bytes


def test_paths_have_semicolons_between_and_a_list_has_its_members(tmp_path):
    assert split_cell("a.png; b.png;", tmp_path) == ("a.png", "b.png")
    assert split_cell("a.png", tmp_path) == ("a.png",)
    assert split_cell(("a.png", b"content", ""), tmp_path) == ("a.png", b"content")
    assert split_cell(b"one;two", tmp_path) == (b"one;two",)
    assert split_cell(";", tmp_path) == (";",) and split_cell("", tmp_path) == ("",)


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        ('["a.png", "b;c.png"]', ("a.png", "b;c.png")),
        (" ['a.png']", ("a.png",)),  # as pandas writes a list to CSV
        ("[0.5, 2]", (npy_bytes([0.5, 2.0]),)),
        *((cell, (cell,)) for cell in ('["a.png", 1]', "[]", "[a.png]")),  # none
        *((cell, (cell,)) for cell in ('[""]', "[{{}}]", "[[1]]")),
    ],
)
def test_a_list_may_be_written_as_text(cell, items, tmp_path):
    assert split_cell(cell, tmp_path) == items


def test_an_existing_path_with_a_semicolon_is_one_file(tmp_path):
    (tmp_path / "a;b.png").write_bytes(b"x")
    assert split_cell("a;b.png", tmp_path) == ("a;b.png",)


def test_one_file_is_itself_and_several_are_a_json_list_of_base64():
    assert pack_items([b"\xff\xfe"]) == b"\xff\xfe"
    texts = json.loads(pack_items([b"a", b"\xff\xfe"]))
    assert [base64.b64decode(text) for text in texts] == [b"a", b"\xff\xfe"]


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
def test_the_graph_and_python_unpack_what_was_packed(files):
    data = pack_items(files)
    if len(files) > 1 or not files[0].startswith(b'["'):
        assert unpack_items(data) == files
        assert unpack_in_graph(tf.constant(data)).numpy().tolist() == files


def test_other_base64_of_a_client_is_unpacked_and_no_base64_is_an_error():
    spaced = f'["//79" , "{base64.b64encode(b"moo").decode()}"]'
    assert unpack_in_graph(tf.constant(spaced)).numpy()[1] == b"moo"
    with pytest.raises(tf.errors.InvalidArgumentError):
        np.array(unpack_in_graph(tf.constant('["ä", "b"]')))
