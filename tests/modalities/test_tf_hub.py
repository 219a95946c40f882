import socket
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub

from mmkeras.environment import download
from mmkeras.errors import UserError
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.modalities.tf_hub import fetch, load_hub_encoder

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
