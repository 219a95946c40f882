import socket
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from mmkeras.environment import download
from mmkeras.errors import UserError
from mmkeras.export.saved_model import export
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.modalities.tf_hub import fetch, load_hub_audio_encoder, load_hub_encoder
from tests.fitted_state import fitted_state
from tests.preset_models import new_model

TEXTS = tf.constant(["moo", "woof woof", ""])
EXPECTED = [[3, 6], [9, 18], [0, 0]]
STRINGS = [tf.TensorSpec([None], tf.string)]


class Lengths(tf.Module):
    """The smallest sentence encoder: a text's length times its weights."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([1.0, 2.0])

    @tf.function(input_signature=STRINGS, autograph=False)
    def __call__(self, texts):
        length = tf.cast(tf.strings.length(texts), tf.float32)
        return length[:, None] * self.weights


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Modules with a call, with a signature, and with neither."""
    base, module = tmp_path_factory.mktemp("hub"), tf.Module()
    module.lengths = Lengths()
    tf.saved_model.save(module.lengths, str(base / "call"))
    serve = tf.function(lambda texts: {"lengths": module.lengths(texts)}, STRINGS)
    tf.saved_model.save(module, str(base / "signature"), serve)
    tf.saved_model.save(tf.Module(), str(base / "neither"))
    (base / "no module").mkdir()
    return {path.name: str(path) for path in base.iterdir()}


@pytest.mark.parametrize("name", ["call", "signature"])
def test_a_module_gives_its_vectors_also_after_an_export(name, folders, tmp_path):
    served = tf.Module()
    served.encoder = load_hub_encoder(folders[name])
    vectors = served.encoder(TEXTS)
    assert vectors.dtype == tf.float32
    np.testing.assert_array_equal(vectors, EXPECTED)

    served.serve = tf.function(served.encoder.__call__, STRINGS, autograph=False)
    tf.saved_model.save(served, str(tmp_path / "export"))
    reloaded = tf.saved_model.load(str(tmp_path / "export"))
    np.testing.assert_array_equal(reloaded.serve(TEXTS), EXPECTED)


def test_a_row_without_readable_text_counts_as_absent(folders, tiny, state):
    text = replace(tiny.text, encoder="hub", hub_handle=folders["call"])
    columns = {"text": {"width": 2}}
    state = replace(state, branches={"text": ("text",)}, columns=columns)
    preprocessor = Preprocessor(replace(tiny, text=text), state)

    inputs, status = preprocessor({"text": tf.constant([b"moo", b"", b"\xff\xff"])})

    assert status.numpy().tolist() == [b"ok", b"text absent", b"text unreadable"]
    np.testing.assert_array_equal(inputs["text"], [[3, 6], [0, 0], [0, 0]])
    assert len(preprocessor.resources) == 1


def refuse(handle):
    raise OSError("<urlopen error\n [Errno 111] Connection refused>")


def test_a_refused_download_names_the_remedy_in_one_line(monkeypatch):
    monkeypatch.setattr(hub, "resolve", refuse)
    reason = r"sentence-encoder/4.*Connection refused.*--text\.hub_handle"
    with pytest.raises(UserError, match=rf"\A.*{reason}.*--text.encoder tfidf.*\Z"):
        load_hub_encoder("https://tfhub.dev/google/universal-sentence-encoder/4")


def test_a_server_that_sends_nothing_is_not_waited_for(monkeypatch, tmp_path):
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "FETCH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        handle = f"http://127.0.0.1:{server.getsockname()[1]}/module/1"
        with pytest.raises(UserError, match="timed out.*--text.hub_handle"):
            fetch(handle, "text")
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", ["TFHUB_CACHE_DIR", "TMPDIR"])
def test_a_cache_with_a_path_like_a_pattern_is_refused(name, monkeypatch, tmp_path):
    monkeypatch.delenv("TFHUB_CACHE_DIR", raising=False)
    monkeypatch.setenv(name, str(tmp_path / "my [1] cache"))
    folder = str(tmp_path / "my [1] cache" / "0123")
    monkeypatch.setattr(hub, "resolve", lambda _: folder)
    with pytest.raises(UserError, match=rf"{name}='.*0123' has .* without them"):
        fetch("https://tfhub.dev/google/yamnet/1", "audio")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no module", "--text.hub_handle"),
        ("neither", "neither a call nor a signature.*give a module"),
        ("no/such/folder", "'no/such/folder' is no folder.*https://"),
    ],
)
def test_a_folder_without_a_text_module_is_refused(name, reason, folders):
    with pytest.raises(UserError, match=rf"\A.*{reason}.*\Z"):
        load_hub_encoder(folders.get(name, name))


class Loudness(tf.Module):
    """Like YAMNet: scores, embeddings and a spectrogram of windows of one wave."""

    def __init__(self, form):
        super().__init__()
        self.weights = tf.Variable([1.0, 2.0, 3.0])
        self.form = form

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
        }[self.form]


def save_audio_module(path, form="tuple"):
    tf.saved_model.save(Loudness(form), str(path))
    return str(path)


@pytest.mark.parametrize("form", ["tuple", "dict", "alone"])
def test_the_vector_of_a_wave_is_the_mean_of_its_embeddings(form, tmp_path):
    encoder = load_hub_audio_encoder(save_audio_module(tmp_path, form))
    wave = tf.constant([0.5] * 100 + [-0.25] * 100)
    np.testing.assert_allclose(encoder(wave), [0.375, 0.75, 1.125], rtol=1e-6)


def test_an_audio_module_of_the_wrong_kind_is_refused(folders, tmp_path):
    flat = save_audio_module(tmp_path / "flat", "flat")
    for handle, reason in {
        flat: r"must be \(N, D\) with a fixed D",
        folders["call"]: "does not take one wave of floats",
        folders["neither"]: "cannot be called.*YAMNet",
        "nowhere": "audio.hub_handle='nowhere' is no folder here",
    }.items():
        with pytest.raises(UserError, match=reason):
            load_hub_audio_encoder(handle)(tf.zeros([200]))


def test_a_model_of_an_audio_module_is_exported(tiny, row, tmp_path):
    folder = save_audio_module(tmp_path / "module")
    audio = replace(tiny.audio, encoder="hub", hub_handle=folder)
    config = replace(tiny, audio=audio)
    state = fitted_state(config)
    assert state.columns["audio"] == {"width": 3}
    assert export(new_model(config, state), [row], tmp_path / "export").name == "1"
