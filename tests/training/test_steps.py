import json
import shutil

import keras
import numpy as np
import pytest

from mmkeras.data.input_pipeline import read_rows
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.modalities.kerashub import keras_hub
from mmkeras.training import fit, run_folder, steps
from mmkeras.training.prepare_run import prepare_run
from mmkeras.training.steps import fit_model, golden_rows
from tests import table_factory


@pytest.fixture
def table(tmp_path):
    return table_factory.write_table(
        tmp_path / "data" / "data.csv", table_factory.texts()
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def config_of(folder, **changes):
    return table_factory.tiny_config(folder.parent / "cache", **changes)


def test_golden_rows_are_the_first_test_rows(folder, table):
    run_data = prepare_run(folder, config_of(folder), table)
    rows = golden_rows(run_data)
    assert [row["text"].decode() for row in rows] == [
        r["text"] for r in table_factory.texts()[32:]
    ]
    assert set(rows[0]) == {"text"}


def test_a_model_trained_in_mixed_precision_is_kept_in_float32(folder, table):
    run_data = prepare_run(
        folder,
        config_of(folder, epochs=1, train={"precision": "mixed_bfloat16"}),
        table,
    )
    trained_model, history = fit_model(folder, run_data)
    assert len(history) == 1 and keras.config.dtype_policy().name == "float32"
    policies = {
        layer.dtype_policy.name
        for layer in trained_model.model.get_layer("head").layers
    }
    assert policies == {"float32"}
    loaded = load_trained(folder)
    for a, b in zip(
        trained_model.model.get_weights(), loaded.model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    head = loaded.model.get_layer("head")
    assert float(head.get_layer("temperature").temperature) not in (0.0, 1.0)


def test_float16_has_its_loss_scaled(folder, table):
    train = {"precision": "mixed_float16"}
    run_data = prepare_run(folder, config_of(folder, epochs=1, train=train), table)
    model = steps._new_model(folder, run_data)
    steps._fit(folder, run_data, model)
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
    rows = table_factory.write_table(
        folder / "data" / "data.csv", table_factory.make_rows()
    )
    trained_model, history = fit_model(folder, prepare_run(folder, config, rows))
    assert [entry["phase"] for entry in history] == [1, 2]
    images = [row["image"] for row in golden_rows(prepare_run(folder, config, rows))]
    answers = Predictor(trained_model)({"image": images, "text": [b"fresh grass"] * 8})
    assert np.isfinite(answers["probabilities"]).all()


def test_an_interrupted_fit_leaves_a_model_that_loads(folder, table, monkeypatch):
    run_data = prepare_run(folder, config_of(folder), table)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_model(folder, run_data)
    assert load_trained(folder).state.classes == ("a", "b")


# The shared run ---------------------------------------------------------------


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


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
    assert run_folder.is_finished(trained_folder)
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
    monkeypatch.setattr(steps, "evaluate", lambda *a, **k: evaluated.append(a))

    def fail(*_, **__):
        raise AssertionError("done again")

    monkeypatch.setattr(steps, "export", fail)
    monkeypatch.setattr(keras.Model, "fit", fail)
    config = table_factory.tiny_config(
        trained_folder.parent / "cache", epochs=6, on_bad_row="absent"
    )
    steps.train(folder, config, table)

    (trained_model, dataset, split, output), *_ = evaluated
    assert (split, output) == ("test", folder)
    before = load_trained(trained_folder).model.get_weights()
    for a, b in zip(before, trained_model.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    rows = list(read_rows(dataset.files("test"), ["text"]).as_numpy_iterator())
    assert len(rows) == 8


@pytest.fixture
def epochs_of(monkeypatch):
    """Names the inputs of each model that is trained, an epoch each."""
    trained_model = []
    train = fit._train

    def counted(model, batches, val, epochs, callbacks):
        trained_model.extend([sorted(set(model.input) - {"present"})] * len(epochs))
        train(model, batches, val, epochs, callbacks)

    monkeypatch.setattr(fit, "_train", counted)
    return trained_model


@pytest.mark.e2e
def test_each_modality_gets_a_model_of_its_own_when_asked(
    folder, epochs_of, monkeypatch
):
    names = ("id", "split", "label", "text", "image")
    rows = [{k: row[k] for k in names} for row in table_factory.make_rows()]
    for row in rows[::5]:
        row["text"] = ""  # the model of text alone is asked about these, too
    table = table_factory.write_table(folder.parent / "data" / "data.csv", rows)
    evaluate = {"trained_alone": True, "bootstrap_resamples": 20}
    config = config_of(folder, epochs=1, evaluate=evaluate)

    def full(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(steps, "evaluate", full)
        steps.train(folder, config, table)
    assert epochs_of == [["image", "text"], ["text"], ["image"]]

    steps.train(folder, config, table)
    assert len(epochs_of) == 3  # nothing was trained again
    metrics = json.loads((folder / "metrics.json").read_text())
    for m in ("text", "image"):
        alone = load_trained(folder / "alone" / m)
        assert alone.state.modalities == (m,)
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
    steps.train(folder, config, table)
    assert epochs_of == [["text"]] and not (folder / "alone").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "fusion_verdict" not in metrics and "shapley" not in metrics
    assert metrics["noise"]["text"]
