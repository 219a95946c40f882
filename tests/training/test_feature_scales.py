import keras
import numpy as np
import pytest

from mmkeras.data.input_pipeline import Batches
from mmkeras.models.model import backbones, scale_layers, with_outputs
from mmkeras.training.prepare_run import prepare_run
from mmkeras.training.steps import fit_model
from tests import table_factory


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory):
    """A model of frozen images and of texts; three rows lack the image."""
    folder = tmp_path_factory.mktemp("scales")
    rows = table_factory.make_rows()
    for row in rows[:3]:
        row["image"] = ""
    config = table_factory.tiny_config(
        folder / "cache",
        epochs=1,
        table={"modalities": "text,image"},
        image={"frozen": "yes"},
        vector={"units": 6},
    )
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    (folder / "run").mkdir()
    run_data = prepare_run(folder / "run", config, table)
    return fit_model(folder / "run", run_data)[0], run_data


def test_the_vectors_of_a_frozen_encoder_are_standardized_by_the_training_rows(
    trained_model,
):
    model, run_data = trained_model[0].model, trained_model[1]
    (scale,) = scale_layers(model).values()
    encoder, vectors = backbones(model)["image"], []
    train = Batches(
        dataset=run_data.dataset, preprocessor=run_data.preprocessor, split="train"
    )
    for inputs, *_ in train.eval_batches():
        column = list(run_data.state.branches).index("image")
        has_image = inputs["present"].numpy()[:, column] > 0
        vectors.append(encoder(inputs["image"]).numpy()[has_image])
    vectors = np.concatenate(vectors)
    assert len(vectors) < run_data.dataset.rows["train"]
    mean, deviation = scale.get_weights()
    np.testing.assert_allclose(mean, vectors.mean(axis=0), rtol=1e-3, atol=1e-5)
    varies = deviation != 1
    assert varies.any()
    expected = vectors.std(axis=0)[varies]
    np.testing.assert_allclose(deviation[varies], expected, rtol=1e-2, atol=1e-5)
    z = np.array(scale(vectors))
    assert np.abs(z).max() <= 5 and abs(z[:, varies].mean()) < 0.1


def test_the_scale_is_saved_with_the_model(trained_model, tmp_path):
    model = trained_model[0].model
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    inputs = {
        name: np.ones((2, *x.shape[1:]), x.dtype) for name, x in model.input.items()
    }
    expected, outputs = with_outputs(model)(inputs), with_outputs(loaded)(inputs)
    for name, values in expected.items():
        np.testing.assert_allclose(outputs[name], values, atol=1e-6)
