import json
import random
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import mmkeras
from mmkeras.predict import predict
from tests.estimators.tiny_estimator import new_classifier
from tests.program_harness import read_csv


def test_a_frame_with_images_in_memory_is_learned(fitted, frame):
    assert list(fitted.classes_) == ["green", "red"]
    assert fitted.score(frame) > 0.8
    assert len(fitted.history_) == 12 and fitted.warnings_ == []
    assert fitted.report() == fitted.folder_ / "report.html"
    assert fitted.report().is_file()


def test_predictions_are_those_of_the_program(fitted, frame, tmp_path):
    rows = frame.drop(columns="photo").assign(photo="")
    rows.to_csv(tmp_path / "rows.csv", index=False)
    predict(fitted.folder_, tmp_path / "rows.csv", tmp_path / "out.csv")
    expected = read_csv(tmp_path / "out.csv")

    labels, status = fitted.predict(rows, return_status=True)
    probabilities = fitted.predict_proba(rows)

    assert list(labels) == [row["predicted"] for row in expected]
    assert status == [row["status"] for row in expected] == ["photo absent"] * 40
    for i, row in enumerate(expected):
        values = [float(row["green"]), float(row["red"])]
        assert probabilities[i] == pytest.approx(values, abs=2e-6)


def test_labels_are_optional_and_bad_cells_count_as_absent(fitted, frame):
    rows = frame.head(2).drop(columns="colour").astype({"photo": object})
    rows.at[1, "photo"] = b"no image"
    labels, status = fitted.predict(rows, return_status=True)
    assert labels.shape == (2,) and status == ["ok", "photo unreadable"]
    rows.at[1, "photo"] = None
    assert fitted.predict_proba(rows).shape == (2, 2)
    assert fitted.status(rows) == ["ok", "photo absent"]
    assert fitted.embed(rows).shape == (2, 8)
    assert fitted.predict_proba(rows.head(0)).shape == (0, 2)
    with pytest.raises(mmkeras.UserError, match="2 of 2 rows have no label"):
        fitted.score(rows)


def test_an_evaluation_has_intervals_and_the_runs_own_is_read(fitted, frame, tmp_path):
    test_rows = frame[frame.split == "test"]
    again = fitted.evaluate(test_rows, path=tmp_path / "new")
    accuracy = again["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert (tmp_path / "new" / "report.html").is_file()
    content = json.loads((fitted.folder_ / "metrics.json").read_text())
    assert fitted.evaluate() == content["metrics"]
    assert accuracy["value"] == fitted.evaluate()["accuracy"]["value"]
    labels = ["blue"] * len(test_rows)
    with pytest.raises(mmkeras.UserError, match="does not know: blue"):
        fitted.evaluate(test_rows.drop(columns="colour"), labels)


def test_an_explanation_adds_up_and_is_shown_as_a_page(fitted, frame):
    explanations = fitted.explain(frame, rows=2)
    assert len(explanations) == 2 and set(explanations[0].shares) == {"title", "photo"}
    for explanation in explanations:
        change = explanation.probability - explanation.empty_probability
        assert sum(explanation.shares.values()) == pytest.approx(change, abs=1e-6)
        assert set(explanation.parts) == {"title", "photo"}
    html = explanations._repr_html_()
    assert html.startswith("<div><iframe") and "fire" in html and "<body" not in html


def test_versions_are_exported_one_after_the_other(fitted, tmp_path):
    paths = [fitted.export(tmp_path / "served") for _ in range(2)]
    assert [path.name for path in paths] == ["1", "2"]
    for path in paths:
        expected = fitted.folder_ / "export" / "1" / "saved_model.pb"
        assert (path / "saved_model.pb").read_bytes() == expected.read_bytes()
        serve = tf.saved_model.load(path).signatures["serving_default"]
        assert serve(title=tf.constant([""]), photo=tf.constant([""]))


def test_a_loaded_run_predicts_the_same_and_has_a_keras_model(fitted, frame):
    loaded = mmkeras.load(fitted.folder_)
    assert isinstance(loaded, mmkeras.MultimodalClassifier)
    assert isinstance(loaded.model, keras.Model)
    np.testing.assert_array_equal(
        loaded.predict_proba(frame.head()), fitted.predict_proba(frame.head())
    )
    assert loaded.get_params()["settings"] == fitted.config_
    with pytest.raises(mmkeras.UserError, match="holds no config.yaml"):
        mmkeras.load(fitted.folder_ / "logs")


def test_a_finished_run_is_not_trained_again_and_other_rows_are_refused(fitted, frame):
    again = clone(fitted).fit(frame, label="colour")
    assert again.history_ == fitted.history_
    with pytest.raises(mmkeras.UserError, match="holds a run on 'DataFrame"):
        clone(fitted).fit(frame.head(39), label="colour")
    with pytest.raises(mmkeras.UserError, match="epochs=12, and this one has epochs=3"):
        clone(fitted).set_params(epochs=3).fit(frame, label="colour")


# Settings ---------------------------------------------------------------------


def test_settings_by_any_spelling_are_the_same_and_survive_a_clone():
    more = {"text.encoder": "lstm"}
    a = mmkeras.MultimodalClassifier("small-concat", epochs=3, **more)
    b = mmkeras.MultimodalClassifier("small-concat", epochs=3, text__encoder="lstm")
    c = mmkeras.MultimodalClassifier("small-concat", settings=more, epochs="3")
    d = mmkeras.MultimodalClassifier(settings=a.build_config())
    expected = a.build_config()
    assert (expected.epochs, expected.text.encoder) == (3, "lstm")
    for model in (a, b, c, d):
        assert model.build_config() == expected
        assert clone(model).get_params() == model.get_params()
        assert clone(model).build_config() == expected
    assert "text__encoder='lstm'" in repr(b)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"preset": "smal-concat"}, ["no preset 'smal-concat'", "'small-concat'"]),
        ({"epoch": 3}, ["no setting 'epoch'", "Did you mean 'epochs'?"]),
        ({"text__units": "many"}, ["text.units needs int", "'many'"]),
        ({"fusion__kind": "gate"}, ["Did you mean 'gated'?"]),
        ({"epochs": 0}, ["epochs=0"]),
        ({"preset": "late", "settings": mmkeras.Config()}, ["'late'", "Give one"]),
    ],
)
def test_a_wrong_setting_is_refused_at_once(arguments, parts):
    for use in (mmkeras.MultimodalClassifier, new_classifier().set_params):
        if use is not mmkeras.MultimodalClassifier and "settings" in arguments:
            continue
        with pytest.raises(mmkeras.UserError) as error:
            use(**arguments)
        assert all(part in str(error.value) for part in parts)


def test_an_estimator_that_is_not_fitted_refuses_to_predict(texts):
    model = new_classifier()
    for use in (model.predict, model.embed, model.evaluate, model.explain):
        with pytest.raises(mmkeras.UserError, match="not fitted. Call fit"):
            use(texts)
    for use in (model.report, lambda: model.model, lambda: model.export("served")):
        with pytest.raises(mmkeras.UserError, match="not fitted. Call fit"):
            use()


# scikit-learn and Keras -------------------------------------------------------


def test_labels_as_an_array_keep_their_type_in_cross_val_score(texts):
    y = np.array([i % 2 for i in range(40)])
    X = texts[["text"]]
    settings = {"cv": 2, "scoring": "accuracy", "error_score": "raise"}
    scores = cross_val_score(new_classifier(), X, y, **settings)
    assert scores.shape == (2,) and scores.min() > 0.9


class Epochs(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(logs["val_loss"])


def own_encoder(shape):
    layers = [keras.Input(shape), keras.layers.Dense(3, name="mine")]
    return keras.Sequential(layers, name="own")


def test_callbacks_validation_rows_and_an_own_encoder_reach_keras_in_silence(
    texts, capfd, tmp_path
):
    epochs, y = Epochs(), texts.label.tolist()
    settings = {"path": tmp_path / "run", "encoders": {"text": own_encoder}}
    model = new_classifier(table__test_share=0.2, **settings)
    X, X_val = texts[["text"]][:30], texts[["text"]][30:]
    model.fit(X, y[:30], validation_data=(X_val, y[30:]), callbacks=[epochs])
    model.predict(X)
    assert epochs.rows == [entry["val_loss"] for entry in model.history_]
    manifest = json.loads((model.folder_ / "manifest.json").read_text())
    assert manifest["rows"] == {"train": 24, "val": 10, "test": 6}
    assert capfd.readouterr() == ("", "")
    with pytest.raises(mmkeras.UserError, match="with the encoders .'text'. of a"):
        model.set_params(encoders=None).fit(X, y[:30], validation_data=(X_val, y[30:]))
    loaded = mmkeras.load(tmp_path / "run").model.get_layer("head")
    assert loaded.get_layer("own").get_layer("mine").units == 3


def test_several_labels_are_lists(texts):
    y = [["a"], ["b"], ["a", "b"], ["b"]] * 10
    X = texts[["text"]].assign(text=[" ".join(labels) for labels in y])
    settings = {"train__ema": 0.0, "text__dropout": 0.0, "fusion__dropout": 0.0}
    model = new_classifier(train__monitor="val_auc", epochs=40, **settings).fit(X, y)
    assert model.predict(X)[:4] == y[:4] and model.score(X, y) > 0.9
    nothing = [[] for _ in y]  # is a label, and here a wrong one
    assert model.score(X, nothing) == 0.0
    with pytest.raises(mmkeras.UserError, match="1 of 40 rows have no label"):
        model.score(X, [None, *nothing[1:]])


def global_state():
    return (
        random.getstate(),
        tuple(map(str, np.random.get_state())),
        tf.get_logger().level,
        keras.config.dtype_policy().name,
    )


def test_nothing_stays_set_and_a_fit_in_another_thread_is_the_same(texts):
    random.seed(5), np.random.seed(5), tf.random.set_seed(5)
    expected = [tf.random.uniform([]).numpy() for _ in range(2)]
    random.seed(5), np.random.seed(5), tf.random.set_seed(5)
    first, before = tf.random.uniform([]).numpy(), global_state()

    def fit():
        return new_classifier(epochs=1).fit(texts, label="label")

    with ThreadPoolExecutor(1) as pool:
        runs = [fit(), pool.submit(fit).result()]
    assert global_state() == before
    assert [first, tf.random.uniform([]).numpy()] == expected
    a, b = (model.predict_proba(texts) for model in runs)
    np.testing.assert_array_equal(a, b)
    folders = [model.folder_ for model in runs]
    assert folders[0] != folders[1]
    del runs
    assert not any(folder.exists() for folder in folders)
    # Without determinism this op accepts no seed.
    tf.random.set_seed(None)
    tf.random.uniform([])
