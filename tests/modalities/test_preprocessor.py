import io
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mmkeras.modalities.preprocessing_state import Scale
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.schema import MODALITIES
from tests.modalities.encoded_media import encode_vector

BROKEN = {"text": b"caf\xe9", "image": b"\x89PNG broken", "audio": b"RIFF broken"}
# Per modality of a row: its remark in the status.
CASES = list(product(("ok", "absent", "unreadable"), repeat=3))


@pytest.fixture(scope="module")
def serve(tiny, state):
    return serving(Preprocessor(tiny, state))


def serving(preprocessor):
    spec = {m: tf.TensorSpec([None], tf.string) for m in preprocessor.modalities}
    graph = tf.function(preprocessor, input_signature=[spec], autograph=False)

    def call(*rows):
        columns = {m: tf.constant([r[m] for r in rows], tf.string) for m in spec}
        inputs, status = graph(columns)
        return {k: v.numpy() for k, v in inputs.items()}, status.numpy().tolist()

    return call


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
    narrow = {"audio": Scale(mean=(0.0,) * 16, deviation=(1e-3,) * 16)}
    inputs, _ = serving(Preprocessor(tiny, replace(state, scales=narrow)))(row)
    assert np.abs(inputs["audio"]).max() == 5


def test_vectors_replace_text_and_audio(tiny, state):
    text, audio = (replace(c, encoder="vector") for c in (tiny.text, tiny.audio))
    state = replace(
        state,
        modalities=("text", "audio"),
        widths={"text": 2, "audio": 3},
        scales={"text": Scale(mean=(1.0, 1.0), deviation=(2.0, 1.0))},
    )
    serve = serving(Preprocessor(replace(tiny, text=text, audio=audio), state))
    two, three, wide = (
        encode_vector(np.float32(numbers)) for numbers in ([5, 2], [1, 2, 3], [5, 2, 7])
    )

    inputs, status = serve({"text": two, "audio": three}, {"text": wide, "audio": b""})

    assert status == [b"ok", b"text unreadable; audio absent"]
    np.testing.assert_array_equal(inputs["text"], [[2, 1], [0, 0]])
    np.testing.assert_array_equal(inputs["audio"], [[1, 2, 3], [0, 0, 0]])


def test_shapes_are_static(tiny, state):
    preprocessor = Preprocessor(tiny, state)
    spec = {m: tf.TensorSpec([None], tf.string) for m in MODALITIES}
    graph = tf.function(preprocessor, input_signature=[spec], autograph=False)

    inputs, _ = graph.get_concrete_function().structured_outputs

    for modality in MODALITIES:
        row = preprocessor.input_spec(modality)
        assert inputs[modality].shape[1:] == row.shape
        assert inputs[modality].dtype == row.dtype
    assert inputs["present"].shape.as_list() == [None, 3]
