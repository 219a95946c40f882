from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from mmkeras.errors import UserError
from mmkeras.export.inference import TrainedModel
from mmkeras.export.saved_model import export
from mmkeras.modalities.preprocessor import Preprocessor, with_widths
from mmkeras.modalities.tf_hub import load_hub_audio_encoder, load_hub_encoder
from mmkeras.models.model import build_model

TEXTS = tf.constant(["moo", "woof woof", ""])
EXPECTED = [[3, 6], [9, 18], [0, 0]]


class Lengths(tf.Module):
    """The smallest sentence encoder: a text's length times its weights."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([1.0, 2.0])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def __call__(self, texts):
        length = tf.cast(tf.strings.length(texts), tf.float32)
        return length[:, None] * self.weights


class Named(Lengths):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def serve(self, texts):
        return {"lengths": super().__call__(texts)}

    __call__ = None


@pytest.fixture
def callable_folder(tmp_path):
    tf.saved_model.save(Lengths(), str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def signature_folder(tmp_path):
    module = Named()
    tf.saved_model.save(module, str(tmp_path), {"serving_default": module.serve})
    return str(tmp_path)


@pytest.mark.parametrize("form", ["callable_folder", "signature_folder"])
def test_a_folder_gives_its_vectors(form, request):
    encoder = load_hub_encoder(request.getfixturevalue(form))
    vectors = encoder(TEXTS)
    assert vectors.dtype == tf.float32
    np.testing.assert_array_equal(vectors, EXPECTED)


@pytest.mark.parametrize("form", ["callable_folder", "signature_folder"])
def test_an_export_finds_the_weights(form, request, tmp_path):
    served = tf.Module()
    served.encoder = load_hub_encoder(request.getfixturevalue(form))
    served.serve = tf.function(
        served.encoder.__call__,
        input_signature=[tf.TensorSpec([None], tf.string)],
        autograph=False,
    )
    tf.saved_model.save(served, str(tmp_path / "export"))
    reloaded = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_array_equal(reloaded.serve(TEXTS), EXPECTED)


def test_a_row_without_readable_text_counts_as_absent(callable_folder, tiny, state):
    text = replace(tiny.text, encoder="hub", hub_handle=callable_folder)
    found = replace(state, modalities=("text",), widths={"text": 2})
    preprocessor = Preprocessor(replace(tiny, text=text), found)

    inputs, status = preprocessor({"text": tf.constant([b"moo", b"", b"\xff\xff"])})

    assert status.numpy().tolist() == [b"ok", b"text absent", b"text unreadable"]
    np.testing.assert_array_equal(inputs["text"], [[3, 6], [0, 0], [0, 0]])
    assert len(preprocessor.resources) == 1


def error_of(handle):
    with pytest.raises(UserError) as caught:
        load_hub_encoder(handle)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_refused_download_names_the_option_that_is_left(monkeypatch):
    def refuse(handle):
        raise OSError("<urlopen error\n [Errno 111] Connection refused>")

    monkeypatch.setattr(hub, "load", refuse)
    line = error_of("https://tfhub.dev/google/universal-sentence-encoder/4")
    assert "universal-sentence-encoder/4" in line
    assert "Connection refused" in line
    assert "--text.hub_handle" in line


def test_a_missing_folder_is_told_without_a_download(monkeypatch):
    monkeypatch.setattr(hub, "load", lambda handle: pytest.fail("was asked for"))
    assert "'no/such/folder' is no folder" in error_of("no/such/folder")


def test_a_folder_that_is_no_module_is_told(tmp_path):
    assert "--text.hub_handle" in error_of(str(tmp_path))


def test_a_module_that_takes_no_text_is_told(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    assert "neither a call nor a signature" in error_of(str(tmp_path))


class Loudness(tf.Module):
    """Like YAMNet: scores, embeddings and a spectrogram of windows of one wave."""

    def __init__(self, answer):
        super().__init__()
        self.weights = tf.Variable([1.0, 2.0, 3.0])
        self.answer = answer

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
    def __call__(self, wave):
        windows = tf.signal.frame(wave, 100, 100, pad_end=True)
        loud = tf.reduce_mean(tf.abs(windows), axis=1, keepdims=True)  # (N, 1)
        embeddings = loud * self.weights
        return {
            "tuple": (loud, embeddings, windows),
            "dict": {"embeddings": embeddings},
            "alone": embeddings,
            "flat": embeddings[0],
        }[self.answer]


def audio_folder(path, answer="tuple"):
    tf.saved_model.save(Loudness(answer), str(path))
    return str(path)


@pytest.mark.parametrize("answer", ["tuple", "dict", "alone"])
def test_a_sounds_vector_is_the_mean_of_its_embeddings(answer, tmp_path):
    encoder = load_hub_audio_encoder(audio_folder(tmp_path, answer))
    wave = tf.constant([0.5] * 100 + [-0.25] * 100)
    np.testing.assert_allclose(encoder(wave), [0.375, 0.75, 1.125], rtol=1e-6)


def test_an_audio_module_of_the_wrong_kind_is_told(callable_folder, tmp_path):
    folder = audio_folder(tmp_path / "flat", "flat")
    with pytest.raises(UserError, match="must be \\(N, D\\) with a fixed D"):
        load_hub_audio_encoder(folder)(tf.zeros([200]))
    with pytest.raises(UserError, match="does not take one wave of floats"):
        load_hub_audio_encoder(callable_folder)(tf.zeros([200]))
    with pytest.raises(UserError, match="audio.hub_handle='nowhere' is no folder here"):
        load_hub_audio_encoder("nowhere")


@pytest.mark.e2e
def test_a_model_of_an_audio_module_is_exported_and_proved(tiny, state, row, tmp_path):
    folder = audio_folder(tmp_path / "module")
    audio = replace(tiny.audio, encoder="hub", hub_handle=folder)
    config = replace(tiny, audio=audio)
    found = with_widths(replace(state, scales={}), config)
    assert found.widths["audio"] == 3
    trained_model = TrainedModel(
        preprocessor=Preprocessor(config, found), model=build_model(config, found)
    )
    assert export(trained_model, [row], tmp_path / "export").name == "1"
