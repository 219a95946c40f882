from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras import features
from mmkeras.analyze import analyze
from mmkeras.data import pictures
from mmkeras.features import image_vectors
from mmkeras.preprocess.graph import Preprocessor
from mmkeras.records import ingest
from tests import tables


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    base = tmp_path_factory.mktemp("features")
    rows = [{**row, "text": "", "audio": ""} for row in tables.make_rows()]
    config = tables.tiny_config(base / "cache")
    ingested = ingest(tables.write_table(base / "data.csv", rows), config)
    return ingested, Preprocessor(config, analyze(ingested, config))


def build_encoder(seed=1):
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(5)(x))


def test_each_picture_has_its_vector_in_the_order_of_the_shards(prepared):
    encoder = build_encoder()
    path = image_vectors(encoder, *prepared, "train")
    pixels = np.concatenate([x.numpy() for x in pictures(*prepared, "train")])
    vectors = np.fromfile(path, np.float32).reshape(24, 5)
    np.testing.assert_allclose(vectors, encoder(pixels), rtol=1e-5, atol=1e-5)
    assert len(np.unique(vectors, axis=0)) > 20
    assert image_vectors(encoder, *prepared, "val").stat().st_size == 8 * 5 * 4


def test_vectors_are_computed_once_for_the_same_weights(prepared, monkeypatch):
    path = image_vectors(build_encoder(), *prepared, "train")
    before = path.read_bytes()

    def fail(*_):
        raise AssertionError("computed again")

    monkeypatch.setattr(features, "pictures", fail)
    assert image_vectors(build_encoder(), *prepared, "train") == path
    assert path.read_bytes() == before
    with pytest.raises(AssertionError, match="computed again"):
        image_vectors(build_encoder(seed=3), *prepared, "train")


def test_other_rows_or_settings_get_vectors_of_their_own(prepared, monkeypatch):
    ingested, preprocessor = prepared
    encoder, asked = build_encoder(), []
    monkeypatch.setattr(features, "pictures", lambda *a: asked.append(a) or [])
    image_vectors(encoder, replace(ingested, fingerprint="x"), preprocessor, "train")
    image = {"max_megapixels": 7}
    changed = tables.tiny_config(preprocessor.config.table.cache_dir, image=image)
    other = Preprocessor(changed, preprocessor.analysis)
    image_vectors(encoder, ingested, other, "train")
    assert len(asked) == 2


def test_an_interrupted_computation_is_not_taken_for_whole(prepared, monkeypatch):
    encoder = build_encoder(seed=2)
    first_batch = next(iter(pictures(*prepared, "train")))

    def interrupted(*_):
        yield first_batch
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(features, "pictures", interrupted)
        with pytest.raises(KeyboardInterrupt):
            image_vectors(encoder, *prepared, "train")
    path = image_vectors(encoder, *prepared, "train")
    assert path.stat().st_size == 24 * 5 * 4
