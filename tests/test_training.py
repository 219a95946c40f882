import json
import shutil

import keras
import numpy as np
import pytest

from mmkeras import fit, run, training
from mmkeras.data import raw_rows
from mmkeras.encoders.kerashub import keras_hub
from mmkeras.inference import Predictor, load_trained
from mmkeras.prepare import prepare
from mmkeras.training import fit_model, golden_rows
from tests import tables


@pytest.fixture
def table(tmp_path):
    return tables.write_table(tmp_path / "data" / "data.csv", tables.texts())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config_of(folder, **changes):
    return tables.tiny_config(folder.parent / "cache", **changes)


def test_golden_rows_are_the_first_test_rows(folder, table):
    prepared = prepare(folder, config_of(folder), table)
    rows = golden_rows(prepared)
    assert [row["text"].decode() for row in rows] == [
        r["text"] for r in tables.texts()[32:]
    ]
    assert set(rows[0]) == {"text"}


def test_a_model_trained_in_mixed_precision_is_kept_in_float32(folder, table):
    prepared = prepare(
        folder,
        config_of(folder, epochs=1, train={"precision": "mixed_bfloat16"}),
        table,
    )
    trained, history = fit_model(folder, prepared)
    assert len(history) == 1 and keras.config.dtype_policy().name == "float32"
    policies = {
        layer.dtype_policy.name for layer in trained.model.get_layer("head").layers
    }
    assert policies == {"float32"}
    loaded = load_trained(folder)
    for a, b in zip(
        trained.model.get_weights(), loaded.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    head = loaded.model.get_layer("head")
    assert float(head.get_layer("temperature").temperature) not in (0.0, 1.0)


def test_float16_has_its_loss_scaled(folder, table):
    train = {"precision": "mixed_float16"}
    prepared = prepare(folder, config_of(folder, epochs=1, train=train), table)
    model = training._new_model(folder, prepared)
    training._fit(folder, prepared, model)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert model.optimizer.inner_optimizer.iterations.numpy() > 0


def test_tokens_of_a_frozen_encoder_are_fused_and_then_fine_tuned(folder):
    weights = folder / "vit.weights.h5"
    keras_hub().models.ViTBackbone((32, 32, 3), 8, 1, 2, 8, 32).save_weights(weights)
    config = config_of(
        folder,
        epochs=1,
        table={"modalities": "text,image"},
        image={
            "encoder": "kerashub_vit",
            "weights": str(weights),
            "patch_px": 8,
            "layers": 1,
            "heads": 2,
            "units": 8,
        },
        text={"encoder": "lstm", "max_tokens": 4},
        fusion={"kind": "mean_tokens", "width": 8, "heads": 2},
        train={"fine_tune_epochs": 1},
    )
    rows = tables.write_table(folder / "data" / "data.csv", tables.make_rows())
    trained, history = fit_model(folder, prepare(folder, config, rows))
    assert [entry["phase"] for entry in history] == [1, 2]
    images = [row["image"] for row in golden_rows(prepare(folder, config, rows))]
    answers = Predictor(trained)({"image": images, "text": [b"fresh grass"] * 8})
    assert np.isfinite(answers["probabilities"]).all()


def test_an_interrupted_fit_leaves_a_model_that_loads(folder, table, monkeypatch):
    prepared = prepare(folder, config_of(folder), table)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_model(folder, prepared)
    assert load_trained(folder).analysis.classes == ("a", "b")


# The shared run ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    return tables.trained_run(tmp_path_factory)[0]


def test_a_run_leaves_all_that_it_promises(trained_folder):
    names = {path.name for path in trained_folder.iterdir()}
    assert names - {".lock", ".running"} == {
        "config.yaml",
        "analysis.json",
        "model.keras",
        "metrics.json",
        "report.html",
        "predictions.csv",
        "manifest.json",
        "history.json",
        "logs",
        "checkpoints",
        "export",
    }
    assert run.is_finished(trained_folder)
    history = json.loads((trained_folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]


def test_a_run_that_lacks_only_its_report_is_not_trained_or_exported_again(
    trained_folder, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(trained_folder, folder)
    (folder / "report.html").unlink()
    table = trained_folder.parent / "data" / "data.csv"
    evaluated = []
    monkeypatch.setattr(training, "evaluate", lambda *a, **k: evaluated.append(a))

    def fail(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(training, "export", fail)
    monkeypatch.setattr(keras.Model, "fit", fail)
    config = tables.tiny_config(
        trained_folder.parent / "cache", epochs=6, on_bad_row="absent"
    )
    training.train(folder, config, table)

    (trained, ingested, split, output), *_ = evaluated
    assert (split, output) == ("test", folder)
    before = load_trained(trained_folder).model.get_weights()
    for a, b in zip(before, trained.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    rows = list(raw_rows(ingested.files("test"), ["text"]).as_numpy_iterator())
    assert len(rows) == 8


@pytest.fixture
def epochs_of(monkeypatch):
    """Names the inputs of each model that is trained, an epoch each."""
    trained = []
    train = fit._train

    def counted(model, batches, val, epochs, callbacks):
        trained.extend([sorted(set(model.input) - {"present"})] * len(epochs))
        train(model, batches, val, epochs, callbacks)

    monkeypatch.setattr(fit, "_train", counted)
    return trained


@pytest.mark.e2e
def test_each_modality_gets_a_model_of_its_own_when_asked(
    folder, epochs_of, monkeypatch
):
    names = ("id", "split", "label", "text", "image")
    rows = [{k: row[k] for k in names} for row in tables.make_rows()]
    for row in rows[::5]:
        row["text"] = ""  # the model of text alone is asked about these, too
    table = tables.write_table(folder.parent / "data" / "data.csv", rows)
    evaluate = {"trained_alone": True, "bootstrap_resamples": 20}
    config = config_of(folder, epochs=1, evaluate=evaluate)

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(training, "evaluate", full)
        training.train(folder, config, table)
    assert epochs_of == [["image", "text"], ["text"], ["image"]]

    training.train(folder, config, table)
    assert len(epochs_of) == 3  # nothing was trained again
    metrics = json.loads((folder / "metrics.json").read_text())
    for m in ("text", "image"):
        alone = load_trained(folder / "alone" / m)
        assert alone.analysis.modalities == (m,)
        served = Predictor(alone)(
            {m: [row[m] if m == "image" else row[m].encode() for row in rows[32:]]}
        )
        right = [
            a.decode() == row["label"]
            for a, row in zip(served["label"], rows[32:], strict=True)
        ]
        found = metrics["modalities"][m]["trained_alone"]["accuracy"]
        assert found["value"] == np.mean(right)
    assert (
        "A model trained on one modality alone" in (folder / "report.html").read_text()
    )


def test_one_modality_has_no_models_beside_it(folder, table, epochs_of):
    config = config_of(folder, epochs=1, evaluate={"trained_alone": True})
    training.train(folder, config, table)
    assert epochs_of == [["text"]] and not (folder / "alone").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "fusion_verdict" not in metrics and "shapley" not in metrics
    assert metrics["noise"]["text"]
