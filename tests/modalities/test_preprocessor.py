import io
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mmkeras.modalities.column import Column
from mmkeras.modalities.preprocessor import Preprocessor, column_feature
from mmkeras.schema import MODALITIES
from tests.fitted_state import fitted_state
from tests.modalities.encoded_media import encode_vector

BROKEN = {"text": b"caf\xe9", "image": b"\x89PNG broken", "audio": b"RIFF broken"}
# Per modality of a row: its remark in the status.
CASES = list(product(("ok", "absent", "unreadable"), repeat=3))


@pytest.fixture(scope="module")
def serve(tiny, state):
    return serving(Preprocessor(tiny, state))


def serving(preprocessor):
    specs = [preprocessor.specs]
    graph = tf.function(preprocessor, input_signature=specs, autograph=False)

    def call(*rows):
        columns = {name: [row[name] for row in rows] for name in preprocessor.specs}
        inputs, status = graph(preprocessor.tensors(columns))
        return {k: v.numpy() for k, v in inputs.items()}, status.numpy().tolist()

    return call


def test_the_served_inputs_are_strings_by_column(tiny, state):
    spec = tf.TensorSpec([None], tf.string)
    assert Preprocessor(tiny, state).specs == dict.fromkeys(MODALITIES, spec)


def make_row(row, case):
    contents = {"ok": row, "absent": dict.fromkeys(row, b""), "unreadable": BROKEN}
    return {m: contents[remark][m] for m, remark in zip(MODALITIES, case, strict=True)}


def test_the_status_names_absent_and_unreadable_modalities(serve, row):
    inputs, status = serve(*(make_row(row, case) for case in CASES))
    for case, present, text in zip(CASES, inputs["present"], status, strict=True):
        named = zip(MODALITIES, case, strict=True)
        remarks = [f"{m} {remark}" for m, remark in named if remark != "ok"]
        assert text.decode() == ("; ".join(remarks) or "ok")
        assert present.tolist() == [float(remark == "ok") for remark in case]


def test_a_batch_is_served_as_row_by_row(serve, row):
    rows = [make_row(row, case) for case in CASES]
    inputs, status = serve(*rows)
    for i, single in enumerate(rows):
        values, text = serve(single)
        assert text == status[i : i + 1]
        for name, value in values.items():
            np.testing.assert_array_equal(value[0], inputs[name][i], err_msg=name)


def test_broken_and_absent_give_the_same_inputs(serve, row):
    broken, _ = serve(make_row(row, ["unreadable"] * 3))
    absent, _ = serve(make_row(row, ["absent"] * 3))
    for name, value in broken.items():
        np.testing.assert_array_equal(value, absent[name], err_msg=name)
        assert not value.any()


def test_a_valid_row_gives_its_pixels_and_its_words(serve, row):
    inputs, status = serve(row)

    assert status == [b"ok"]
    pixels = np.array(Image.open(io.BytesIO(row["image"])))
    np.testing.assert_array_equal(inputs["image"][0], pixels)
    the, cat, cow, dog = inputs["text"][0]
    assert cow > the > cat == dog == 0
    assert inputs["audio"].shape == (1, 16)


def test_text_of_nothing_but_spaces_is_absent(serve, row):
    assert serve({**row, "text": b" \n\t"})[1] == [b"text absent"]


def test_an_empty_batch_gives_inputs_without_rows(serve):
    inputs, status = serve()
    assert status == []
    assert inputs["image"].shape == (0, 32, 32, 3)
    assert inputs["present"].shape == (0, 3)


def test_an_extreme_number_is_cut_to_five_deviations(tiny, state, row):
    narrow = {"width": 16, "mean": [0.0] * 16, "deviation": [1e-3] * 16}
    state = replace(state, columns={**state.columns, "audio": narrow})
    inputs, _ = serving(Preprocessor(tiny, state))(row)
    assert np.abs(inputs["audio"]).max() == 5


def test_vectors_replace_text_and_audio(tiny, state):
    widths = {"text": 2, "audio": 3}
    columns = {
        m: {"type": m, "encoder": "vector", "vector_width": width}
        for m, width in widths.items()
    }
    state = replace(
        state,
        branches={m: (m,) for m in widths},
        columns={
            "text": {"width": 2, "mean": [1.0, 1.0], "deviation": [2.0, 1.0]},
            "audio": {"width": 3},
        },
    )
    serve = serving(Preprocessor(replace(tiny, columns=columns), state))
    two, three, wide = (
        encode_vector(np.float32(numbers)) for numbers in ([5, 2], [1, 2, 3], [5, 2, 7])
    )

    inputs, status = serve({"text": two, "audio": three}, {"text": wide, "audio": b""})

    assert status == [b"ok", b"text unreadable; audio absent"]
    np.testing.assert_array_equal(inputs["text"], [[2, 1], [0, 0]])
    np.testing.assert_array_equal(inputs["audio"], [[1, 2, 3], [0, 0, 0]])


def test_shapes_are_static(tiny, state):
    preprocessor = Preprocessor(tiny, state)
    specs = [preprocessor.specs]
    graph = tf.function(preprocessor, input_signature=specs, autograph=False)

    inputs, _ = graph.get_concrete_function().structured_outputs

    for modality in MODALITIES:
        row = preprocessor.graphs[modality].input_spec
        assert inputs[modality].shape[1:] == row.shape
        assert inputs[modality].dtype == row.dtype
    assert inputs["present"].shape.as_list() == [None, 3]


def test_columns_of_one_type_are_inputs_of_their_own(tiny):
    columns = {"Title 1": "text", "text": {"type": "text", "encoder": "gru"}}
    config = replace(tiny, columns=columns, text=replace(tiny.text, min_rows=1))
    preprocessor = Preprocessor(config, fitted_state(config))
    keys = {name: branch.key for name, branch in preprocessor.branches.items()}
    rows = {"Title 1": b"cow", "text": b""}, {"Title 1": b"\xff", "text": b"the dog"}

    inputs, status = serving(preprocessor)(*rows)

    assert status == [b"text absent", b"Title 1 unreadable"]
    assert inputs["present"].tolist() == [[1, 0], [0, 1]]
    assert list(keys) == list(columns) == list(preprocessor.columns)
    assert set(inputs) == {*keys.values(), "present"}
    title, text = (inputs[keys[name]] for name in columns)
    assert title[0].any() and not title[1].any() and title.dtype == np.float32
    assert text[1, :2].all() and not text[0].any() and text.dtype == np.int32


class Number(Column):
    """Column of numbers, of which the model has none alone."""

    type, takes_strings = "number", False
    recognise = read = statistics = fit = None


def test_a_missing_feature_of_an_example_is_absent(tiny, state):
    number = Number("age", None)
    text = Preprocessor(tiny, state).columns["text"]
    features = {"age": column_feature(number), "text": column_feature(text)}
    row = tf.io.parse_single_example(b"", features)
    assert np.isnan(row["age"]) and np.isnan(number.absent)
    assert row["text"] == text.absent == b""
    assert number.is_absent(float(row["age"])) and text.is_absent(b"")
    assert not number.is_absent(0.0) and not text.is_absent(b"0")
