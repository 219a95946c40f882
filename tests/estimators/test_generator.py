import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import mmkeras
from mmkeras.predict import predict
from tests import table_factory
from tests.estimators.tiny_estimator import TINY
from tests.program_harness import read_csv

SMALL = {
    **TINY,
    "generate.width": 8,
    "generate.heads": 2,
    "generate.layers": 1,
    "fusion.width": 8,
}


@pytest.fixture(scope="module")
def captioner(generator_run) -> mmkeras.MultimodalGenerator:
    """The estimator of the tiny run; tests do not change it."""
    return mmkeras.load(generator_run)


@pytest.fixture(scope="module")
def images() -> pd.DataFrame:
    """Rows of a red image, of a green one and of none."""
    cells = [table_factory.image(), table_factory.image((30, 200, 60)), None]
    return pd.DataFrame({"image": pd.Series(cells, dtype=object)})


def new_generator(**settings):
    return mmkeras.MultimodalGenerator(settings=SMALL, epochs=1, **settings)


def test_a_run_of_a_generator_is_loaded_as_one(captioner):
    assert isinstance(captioner, mmkeras.MultimodalGenerator)
    assert captioner.config_.task == "generate"
    assert list(captioner.feature_names_in_) == ["image"]


def test_texts_are_those_of_the_program(captioner, generator_table, tmp_path):
    predict(captioner.folder_, generator_table, tmp_path / "out.csv")
    expected = read_csv(tmp_path / "out.csv")
    texts, status = captioner.predict(generator_table, return_status=True)
    assert texts.dtype == object and texts.shape == (40,)
    assert list(texts) == [row["predicted"] for row in expected]
    assert status == [row["status"] for row in expected] == ["ok"] * 40
    accuracy = np.mean([r["predicted"] in r["label"].split("|") for r in expected])
    assert captioner.score(generator_table) >= accuracy > 0.6


def test_rows_without_anything_have_a_text_too(captioner, images):
    texts, status = captioner.predict(images, return_status=True)
    assert all(isinstance(text, str) and text for text in texts)
    assert status == ["ok", "ok", "image absent"]
    assert captioner.predict(images.head(0)).shape == (0,)
    assert captioner.predict_n_best(images.head(0)) == []
    assert captioner.embed(images).shape[0] == 3


def test_the_best_of_several_texts_is_the_predicted_one(captioner, images):
    rows = captioner.predict_n_best(images)
    assert [row[0][0] for row in rows] == list(captioner.predict(images))
    for row in rows:
        (first, high), (second, low) = row
        assert first != second and low <= high < 0 and isinstance(high, float)


def test_a_score_counts_texts_equal_to_any_reference(captioner, images):
    texts = list(captioner.predict(images))
    assert captioner.score(images, texts) == 1
    references = [["no", texts[0].upper()], f"no|{texts[1]}", ["no"]]
    assert captioner.score(images, references) == pytest.approx(2 / 3)
    with pytest.raises(mmkeras.UserError, match="1 of 3 rows have no label"):
        captioner.score(images, [*texts[:2], ""])


def test_an_evaluation_has_the_metrics_of_texts(captioner, images, generator_table):
    texts = list(captioner.predict(images))
    metrics = captioner.evaluate(images, texts)
    assert metrics["exact_match"]["value"] == metrics["rouge_l"]["value"] == 1
    assert metrics["word_error_rate"]["value"] == 0
    again = captioner.evaluate(generator_table)  # test rows of the run only
    assert again["chrf"] == captioner.evaluate()["chrf"]


def test_an_explanation_is_of_the_text(captioner, images):
    (explanation,) = captioner.explain(images, rows=1)
    assert explanation.predicted == captioner.predict(images)[0]
    assert set(explanation.shares) == {"image"}


def test_texts_and_lists_of_references_are_fitted(tmp_path, texts):
    X = texts[["text"]]
    y = ["a good text", ["a bad text", "not good"]] * 20
    model = new_generator(path=tmp_path / "run")
    assert model.fit(X, y) is model
    vocabulary = model.trained_model.state.texts.vocabulary
    assert sorted(vocabulary) == ["a", "bad", "good", "not", "text"]
    predictions = model.predict(X)
    assert list(mmkeras.load(tmp_path / "run").predict(X)) == list(predictions)
    assert list(pickle.loads(pickle.dumps(model)).predict(X)) == list(predictions)
    assert 0 <= model.evaluate()["exact_match"]["value"] <= 1
    assert model.export(tmp_path / "served") == tmp_path / "served" / "1"
    message = "export.n_best=0. Set export.n_best and generate.beams"
    with pytest.raises(mmkeras.UserError, match=message):
        model.predict_n_best(X)


def test_the_default_preset_writes_captions():
    config = mmkeras.MultimodalGenerator().build_config()
    assert (config.preset, config.task) == ("small-captions", "generate")
    small = new_generator(generate__beams=3, export__n_best=2).build_config()
    assert (small.preset, small.generate.width, small.export.n_best) == (
        "small-captions",
        8,
        2,
    )
    settings = mmkeras.presets["small-captions"]()
    config = mmkeras.MultimodalGenerator(settings=settings).build_config()
    assert config == settings


def test_the_settings_are_those_of_scikit_learn():
    model = new_generator(generate__beams=2)
    assert clone(model).get_params() == model.get_params()
    assert model.get_params()["preset"] is None
    model.set_params(generate__beams=3)
    assert model.build_config().generate.beams == 3


def test_another_task_is_refused_with_the_estimator_for_it():
    cases = {
        "MultimodalGenerator": (mmkeras.MultimodalClassifier, "generate"),
        "MultimodalRegressor": (mmkeras.MultimodalGenerator, "regression"),
        "MultimodalClassifier": (mmkeras.MultimodalGenerator, "binary"),
    }
    for name, (kind, task) in cases.items():
        preset = "small-captions" if task == "generate" else "small-concat"
        with pytest.raises(mmkeras.UserError, match=f"task={task} .* Use {name}"):
            kind(preset, task=task)
