from dataclasses import replace

import keras
import numpy as np
import pytest

from mmkeras.data import feature_cache
from mmkeras.data.feature_cache import cached_features
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.input_pipeline import branch_batches
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory


@pytest.fixture(scope="module")
def run_data(tmp_path_factory):
    base = tmp_path_factory.mktemp("features")
    rows = [{**row, "text": "", "audio": ""} for row in table_factory.make_rows()]
    config = table_factory.tiny_config(base / "cache")
    dataset = ingest(table_factory.write_table(base / "data.csv", rows), config)
    return dataset, Preprocessor(config, fit_preprocessing(dataset, config))


@pytest.fixture
def calls(monkeypatch):
    """Replaces the reading of images; its calls."""
    calls = []
    monkeypatch.setattr(
        feature_cache, "branch_batches", lambda *args: calls.append(args) or []
    )
    return calls


def build_encoder(seed=1):
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((32, 32, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(pixels)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(pixels, keras.layers.Dense(5)(x))


def test_each_image_has_its_vector_in_the_order_of_the_shards(run_data):
    encoder = build_encoder()
    path = cached_features(encoder, *run_data, "image", "train")
    pixels = np.concatenate(
        [x.numpy() for x in branch_batches(*run_data, "image", "train")]
    )
    vectors = np.fromfile(path, np.float32).reshape(24, 5)
    np.testing.assert_allclose(vectors, encoder(pixels), rtol=1e-5, atol=1e-5)
    assert len(np.unique(vectors, axis=0)) > 20
    assert (
        cached_features(encoder, *run_data, "image", "val").stat().st_size == 8 * 5 * 4
    )


def test_vectors_are_computed_once_for_rows_settings_and_weights(run_data, calls):
    dataset, preprocessor = run_data
    cache_dir = preprocessor.config.table.cache_dir
    config = table_factory.tiny_config(cache_dir, image={"max_megapixels": 7})
    for encoder, changed_dataset, changed_preprocessor in [
        (build_encoder(seed=3), dataset, preprocessor),
        (build_encoder(seed=4), dataset, preprocessor),
        (build_encoder(seed=3), replace(dataset, fingerprint="x"), preprocessor),
        (build_encoder(seed=3), dataset, Preprocessor(config, preprocessor.state)),
    ]:
        count = len(calls)
        for _ in range(2):
            cached_features(
                encoder, changed_dataset, changed_preprocessor, "image", "train"
            )
            assert len(calls) == count + 1


def test_tokens_and_vectors_of_equal_weights_are_two_files(run_data, calls):
    encoder = build_encoder(seed=5)
    tokens = keras.layers.Reshape((1, 5))(encoder.output)
    for model in (encoder, keras.Model(encoder.input, tokens)):
        cached_features(model, *run_data, "image", "train")
    assert len(calls) == 2


def test_an_interrupted_computation_is_repeated(run_data, monkeypatch):
    encoder = build_encoder(seed=2)
    first_batch = next(iter(branch_batches(*run_data, "image", "train")))

    def interrupt(*_):
        yield first_batch
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache, "branch_batches", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cached_features(encoder, *run_data, "image", "train")
    path = cached_features(encoder, *run_data, "image", "train")
    assert path.stat().st_size == 24 * 5 * 4
