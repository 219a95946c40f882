import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from mmkeras.export.inference import Predictor, load_trained
from mmkeras.export.saved_model import export
from mmkeras.modalities.kerashub import keras_hub
from mmkeras.models.model import get_temperature
from mmkeras.training import fit, run_folder, steps
from mmkeras.training.prepare_run import prepare_run
from mmkeras.training.steps import fit_model, golden_rows
from tests import table_factory
from tests.modalities.text import bert_folder


def assert_same_weights(trained_model, other, atol=0):
    pair = (x.model.get_weights() for x in (trained_model, other))
    for a, b in zip(*pair, strict=True):
        np.testing.assert_allclose(a, b, atol=atol, rtol=0)


def test_golden_rows_are_the_first_test_rows(folder, table, tiny_config):
    rows = golden_rows(prepare_run(folder, tiny_config(), table))
    texts = [row["text"] for row in table_factory.texts()[32:]]
    assert rows == [{"text": text.encode()} for text in texts]


def test_a_model_of_mixed_precision_is_saved_in_float32(folder, table, tiny_config):
    config = tiny_config(epochs=1, train={"precision": "mixed_bfloat16"})
    trained_model, history = fit_model(folder, prepare_run(folder, config, table))
    assert len(history) == 1 and keras.config.dtype_policy().name == "float32"
    layers = trained_model.model.get_layer("head").layers
    assert {layer.dtype_policy.name for layer in layers} == {"float32"}
    loaded = load_trained(folder)
    assert_same_weights(trained_model, loaded)
    assert get_temperature(loaded.model) not in (0.0, 1.0)


def test_float16_has_its_loss_scaled(folder, table, tiny_config, monkeypatch):
    optimizers = []

    def record(model, *arguments):
        state = fit.fit(model, *arguments)
        optimizers.append(model.optimizer)
        return state

    monkeypatch.setattr(steps, "fit", record)
    config = tiny_config(epochs=1, train={"precision": "mixed_float16"})
    fit_model(folder, prepare_run(folder, config, table))
    (optimizer,) = optimizers
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert optimizer.inner_optimizer.iterations.numpy() > 0


@pytest.mark.slow
def test_tokens_of_a_frozen_encoder_are_fused_and_then_fine_tuned(folder, tiny_config):
    weights = folder / "vit.weights.h5"
    keras_hub().models.ViTBackbone((32, 32, 3), 8, 1, 2, 8, 32).save_weights(weights)
    vit = {"encoder": "kerashub_vit", "patch_px": 8, "layers": 1}
    vit |= {"heads": 2, "units": 8}
    config = tiny_config(
        epochs=1,
        table={"modalities": "text,image"},
        image={"weights": str(weights), **vit},
        text={"encoder": "lstm", "max_tokens": 4},
        fusion={"kind": "mean_tokens", "width": 8, "heads": 2},
        train={"fine_tune_epochs": 1},
    )
    rows = table_factory.make_rows()
    table = table_factory.write_table(folder / "data" / "data.csv", rows)
    run_data = prepare_run(folder, config, table)
    trained_model, history = fit_model(folder, run_data)
    assert [entry["phase"] for entry in history] == [1, 2]
    images = [row["image"] for row in golden_rows(run_data)]
    result = Predictor(trained_model)({"image": images, "text": [b"fresh grass"] * 8})
    assert np.isfinite(result["probabilities"]).all()


def test_a_pretrained_bert_is_tuned_and_exported_and_its_folder_needed_no_more(
    folder, table, tiny_config
):
    weights = Path(bert_folder.write_folder(folder / "bert"))
    config = tiny_config(
        epochs=1,
        text={"encoder": "bert", "weights": str(weights), "tokens": "auto"},
        train={"fine_tune_epochs": 1, "fine_tune_rate": 1e-3, "ema": 0.0},
    )
    run_data = prepare_run(folder, config, table)
    before = run_data.preprocessor.columns["text"].build_backbone(False).get_weights()
    trained_model, history = fit_model(folder, run_data)
    assert [entry["phase"] for entry in history] == [1, 2]
    after = trained_model.model.get_layer("text_encoder").get_weights()
    changes = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert 0 < max(changes) < 0.1

    shutil.rmtree(weights)
    loaded = load_trained(folder)
    assert_same_weights(trained_model, loaded)
    rows = golden_rows(run_data)
    export(loaded, rows, folder / "export")  # proved there
    result = Predictor(loaded)({"text": [row["text"] for row in rows]})
    assert np.isfinite(result["probabilities"]).all()


def test_a_pretrained_encoder_that_is_not_frozen_has_a_rate_of_its_own(
    folder, table, tiny_config
):
    weights = bert_folder.write_folder(folder / "bert")
    text = {"encoder": "bert", "weights": weights, "tokens": "auto", "frozen": "no"}
    train = {"learning_rate": 0.1, "fine_tune_rate": 1e-6, "ema": 0.0}
    config = tiny_config(epochs=1, text=text, train=train)
    run_data = prepare_run(folder, config, table)
    before = run_data.preprocessor.columns["text"].build_backbone(False).get_weights()
    trained_model, _ = fit_model(folder, run_data)
    after = trained_model.model.get_layer("text_encoder").get_weights()
    changes = [np.abs(a - b).max() for a, b in zip(before, after, strict=True)]
    assert 0 < max(changes) < 1e-4  # a few steps of 1e-6 at most


def test_an_interrupted_fit_leaves_a_model(folder, table, tiny_config, monkeypatch):
    run_data = prepare_run(folder, tiny_config(), table)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit_model(folder, run_data)
    assert load_trained(folder).state.classes == ("a", "b")


@pytest.fixture(scope="module")
def trained_folder(tmp_path_factory):
    return table_factory.trained_run(tmp_path_factory)[0]


def test_a_run_folder_has_all_its_files(trained_folder):
    names = {path.name for path in trained_folder.iterdir()} - {".lock", ".running"}
    assert names == set(
        "analysis.json checkpoints config.yaml export history.json logs manifest.json"
        " metrics.json model.keras predictions.csv report.html confusion.csv".split()
    )
    assert run_folder.is_finished(trained_folder)
    history = json.loads((trained_folder / "history.json").read_text())
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]


def test_a_run_without_report_is_not_retrained(trained_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(trained_folder, tmp_path / "run")
    (folder / "report.html").unlink()
    table = trained_folder.parent / "data" / "data.csv"
    calls = []
    monkeypatch.setattr(steps, "evaluate", lambda *a, **k: calls.append(a))
    monkeypatch.setattr(steps, "export", None)  # is not called
    monkeypatch.setattr(keras.Model, "fit", None)
    config = table_factory.tiny_config(
        trained_folder.parent / "cache", epochs=6, on_bad_row="absent"
    )
    steps.train(folder, config, table)

    ((trained_model, dataset, split, output),) = calls
    assert (split, output) == ("test", folder) and dataset.rows["test"] == 8
    assert_same_weights(trained_model, load_trained(trained_folder), atol=1e-6)


@pytest.fixture
def trained_inputs(monkeypatch):
    """Inputs of the model of each trained epoch."""
    inputs = []

    def record(model, batches, val, epochs, *more):
        inputs.extend([sorted(set(model.input) - {"present"})] * len(epochs))
        train_epochs(model, batches, val, epochs, *more)

    train_epochs = fit.train_epochs
    monkeypatch.setattr(fit, "train_epochs", record)
    return inputs


def test_unimodal_models_are_trained(folder, tiny_config, trained_inputs, monkeypatch):
    audio = [table_factory.vector([i % 2, 0.1 * i]) for i in range(40)]
    rows = table_factory.texts(audio=audio)
    for row in rows[::5]:
        row["text"] = ""  # is predicted by the text model, too
    table = table_factory.write_table(folder.parent / "data" / "data.csv", rows)
    evaluate = {"trained_alone": True, "bootstrap_resamples": 20}
    config = tiny_config(epochs=1, evaluate=evaluate)

    def fail(*_, **__):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(steps, "evaluate", fail)
        steps.train(folder, config, table)
    assert trained_inputs == [["audio", "text"], ["text"], ["audio"]]

    steps.train(folder, config, table)
    assert len(trained_inputs) == 3  # nothing was trained again
    metrics = json.loads((folder / "metrics.json").read_text())
    for m in ("text", "audio"):
        unimodal = load_trained(folder / "alone" / m)
        assert unimodal.state.branches == {m: (m,)}
        contents = [row[m] if m == "audio" else row[m].encode() for row in rows[32:]]
        labels = Predictor(unimodal)({m: contents})["label"]
        correct = [
            label.decode() == row["label"]
            for label, row in zip(labels, rows[32:], strict=True)
        ]
        result = metrics["modalities"][m]["trained_alone"]["accuracy"]
        assert result["value"] == np.mean(correct)


def test_one_modality_has_no_unimodal_model(folder, table, tiny_config, trained_inputs):
    labels = ["", *"ba" * 19, "b"]  # the first row is rejected
    table_factory.write_table(table, table_factory.texts(label=labels))
    evaluate = {"trained_alone": True}
    config = tiny_config(epochs=1, evaluate=evaluate, on_bad_row="reject")
    steps.train(folder, config, table)
    assert trained_inputs == [["text"]] and not (folder / "alone").exists()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert "fusion_verdict" not in metrics and "shapley" not in metrics
    assert metrics["noise"]["text"] and metrics["rejected_rows"] == 1
