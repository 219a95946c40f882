import io
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.modalities.preprocessing_state import Scale
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.schema import MODALITIES

STATES = ("there", "absent", "broken")
BROKEN = {"text": b"caf\xe9", "image": b"\x89PNG broken", "audio": b"RIFF broken"}
WORDS = {"absent": "absent", "broken": "unreadable"}


@pytest.fixture(scope="module")
def serve(tiny, state):
    return serving(Preprocessor(tiny, state))


def serving(preprocessor):
    spec = {m: tf.TensorSpec([None], tf.string) for m in preprocessor.modalities}
    graph = tf.function(preprocessor, input_signature=[spec], autograph=False)

    def call(rows):
        columns = {m: tf.constant([r[m] for r in rows], tf.string) for m in spec}
        inputs, status = graph(columns)
        return {k: v.numpy() for k, v in inputs.items()}, status.numpy().tolist()

    return call


def in_state(row, states):
    content = {"there": row, "absent": dict.fromkeys(row, b""), "broken": BROKEN}
    return {m: content[case][m] for m, case in zip(MODALITIES, states, strict=True)}


COMBINATIONS = list(product(STATES, repeat=3))


def test_the_status_names_what_is_absent_and_what_is_unreadable(serve, row):
    inputs, status = serve([in_state(row, states) for states in COMBINATIONS])
    for states, present, said in zip(
        COMBINATIONS, inputs["present"], status, strict=True
    ):
        remarks = [
            f"{m} {WORDS[case]}"
            for m, case in zip(MODALITIES, states, strict=True)
            if case != "there"
        ]
        assert said.decode() == ("; ".join(remarks) or "ok")
        assert present.tolist() == [float(case == "there") for case in states]


def test_a_batch_is_served_as_row_by_row(serve, row):
    rows = [in_state(row, states) for states in COMBINATIONS]
    inputs, status = serve(rows)
    for i, one in enumerate(rows):
        alone, said = serve([one])
        assert said == status[i : i + 1]
        for name, value in alone.items():
            np.testing.assert_array_equal(value[0], inputs[name][i], err_msg=name)


def test_broken_and_absent_give_the_same_inputs(serve, row):
    broken, _ = serve([in_state(row, ["broken"] * 3)])
    absent, _ = serve([in_state(row, ["absent"] * 3)])
    for name, value in broken.items():
        np.testing.assert_array_equal(value, absent[name], err_msg=name)
        assert not value.any()


def test_a_good_row_gives_its_pixels_and_its_words(serve, row):
    from PIL import Image

    inputs, status = serve([row])

    assert status == [b"ok"]
    pixels = np.array(Image.open(io.BytesIO(row["image"])))
    np.testing.assert_array_equal(inputs["image"][0], pixels)
    the, cat, cow, dog = inputs["text"][0]
    assert cow > the > cat == dog == 0
    assert inputs["audio"].shape == (1, 16)


def test_text_of_nothing_but_spaces_is_absent(serve, row):
    _, status = serve([{**row, "text": b" \n\t"}])
    assert status == [b"text absent"]


def test_an_empty_batch_gives_inputs_without_rows(serve):
    inputs, status = serve([])
    assert status == []
    assert inputs["image"].shape == (0, 32, 32, 3)
    assert inputs["present"].shape == (0, 3)


def test_an_extreme_number_is_cut_to_five_deviations(tiny, state, row):
    narrow = {"audio": Scale(mean=(0.0,) * 16, deviation=(1e-3,) * 16)}
    serve = serving(Preprocessor(tiny, replace(state, scales=narrow)))
    inputs, _ = serve([row])
    assert np.abs(inputs["audio"]).max() == 5


def npy(*numbers):
    file = io.BytesIO()
    np.save(file, np.float32(numbers))
    return file.getvalue()


def test_vectors_stand_in_for_text_and_sound(tiny, state):
    config = replace(
        tiny,
        text=replace(tiny.text, encoder="vector"),
        audio=replace(tiny.audio, encoder="vector"),
    )
    found = replace(
        state,
        modalities=("text", "audio"),
        widths={"text": 2, "audio": 3},
        scales={"text": Scale(mean=(1.0, 1.0), deviation=(2.0, 1.0))},
    )
    serve = serving(Preprocessor(config, found))

    inputs, status = serve(
        [
            {"text": npy(5, 2), "audio": npy(1, 2, 3)},
            {"text": npy(5, 2, 7), "audio": b""},
        ]
    )

    assert status == [b"ok", b"text unreadable; audio absent"]
    np.testing.assert_array_equal(inputs["text"], [[2, 1], [0, 0]])
    np.testing.assert_array_equal(inputs["audio"], [[1, 2, 3], [0, 0, 0]])


def test_shapes_are_known_before_any_row_is_seen(tiny, state):
    preprocessor = Preprocessor(tiny, state)
    spec = {m: tf.TensorSpec([None], tf.string) for m in MODALITIES}
    graph = tf.function(preprocessor, input_signature=[spec], autograph=False)

    inputs, _ = graph.get_concrete_function().structured_outputs

    for modality in MODALITIES:
        row = preprocessor.input_spec(modality)
        assert inputs[modality].shape[1:] == row.shape
        assert inputs[modality].dtype == row.dtype
    assert inputs["present"].shape.as_list() == [None, 3]
