from dataclasses import replace

import numpy as np
import pytest

from mmkeras.data.example_reader import RowReader
from mmkeras.data.table import iter_rows
from mmkeras.explanation.explainer import Explainer
from mmkeras.explanation.page import as_json, build_card, write_explanations
from mmkeras.export.inference import Predictor, load_trained
from mmkeras.modalities.image.encoding import png_bytes
from tests import table_factory
from tests.fitted_state import fitted_state
from tests.generator_models import WORDS, untrained_generator
from tests.preset_models import FROM_SCRATCH, new_model, preset_state, tiny_preset

NAMES = ("text", "image", "audio")
EMPTY = dict.fromkeys(NAMES, "")


def complete():
    return {m: table_factory.make_rows(["test"])[0][m] for m in NAMES}


HALF_IMAGE = complete()["image"][:60]
BRANCHES = ("bert-vit",)  # tokens; the shared run has vectors


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory):
    return load_trained(table_factory.trained_run(tmp_path_factory)[0])


@pytest.fixture(scope="module")
def explainer(trained_model):
    return Explainer(trained_model)


@pytest.fixture
def read_row(tmp_path):
    """Reads the only row of a new table with these cells."""

    def read(trained_model, cells):
        table = table_factory.write_table(tmp_path / "data.csv", [{"id": "r", **cells}])
        config, names = trained_model.config, [m for m in NAMES if m in cells]
        (row,) = iter_rows(table, config.table, names, labeled=False)
        return RowReader(tmp_path, config).read(row)

    return read


@pytest.fixture
def explained(explainer, trained_model, read_row):
    return lambda **cells: explainer.explain(read_row(trained_model, cells))


def assert_shares_add_up(explanation):
    gain = explanation.probability - explanation.empty_probability
    assert set(explanation.shares) == set(NAMES)
    assert sum(explanation.shares.values()) == pytest.approx(gain, abs=1e-9)


def test_the_prediction_is_the_served_one(explained, trained_model):
    row = complete()
    explanation = explained(**row)
    data = {**{m: [row[m]] for m in NAMES}, "text": [row["text"].encode()]}
    served = Predictor(trained_model)(data)
    label = served["label"][0].decode()
    assert explanation.predicted == explanation.explained == label
    assert explanation.probability == pytest.approx(served["score"][0], abs=1e-6)
    assert explanation.status == "ok" and explanation.problems == ()
    assert_shares_add_up(explanation)


@pytest.mark.parametrize(
    "cells, missing, status",
    [
        (complete() | {"audio": ""}, ["audio"], "audio absent"),
        (complete() | {"image": HALF_IMAGE}, ["image"], "image unreadable"),
        (EMPTY | {"text": "fire"}, ["image", "audio"], "image absent; audio absent"),
        (EMPTY, NAMES, "text absent; image absent; audio absent"),
    ],
)
def test_missing_modalities_have_no_share_nor_parts(explained, cells, missing, status):
    explanation = explained(**cells)
    assert explanation.status == status
    for m in NAMES:
        assert (explanation.shares[m] == 0) == (m in missing)
        assert (m not in explanation.parts) == (m in missing)
    assert ("cannot be decoded" in str(explanation.problems)) == ("unread" in status)
    assert_shares_add_up(explanation)


def test_a_coloured_object_has_an_effect_and_the_white_background_has_none(explained):
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[4:16, 16:28] = table_factory.CLASSES["red"][0]
    explanation = explained(**EMPTY | {"image": png_bytes(pixels)})
    sign = 1 if explanation.explained == "red" else -1
    effect = sign * np.array(explanation.parts["image"]["effects"])
    assert effect[1:4, 4:7].mean() > 0.1 * np.abs(effect).max() > 0.001
    assert np.abs(effect[6:, :2]).max() < 1e-6
    assert np.unravel_index(effect.argmax(), effect.shape)[0] < 5


def test_the_words_of_a_class_have_an_effect_and_unknown_words_have_none(explained):
    text = "something warm fire else"
    explanation = explained(**EMPTY | {"text": text})
    effects = {part["word"]: part["effect"] for part in explanation.parts["text"]}
    assert set(effects) == set(text.split())
    sign = 1 if explanation.explained == "red" else -1
    assert sign * (effects["warm"] + effects["fire"]) > 0
    assert effects["something"] == pytest.approx(0, abs=1e-6)


def test_without_its_only_word_a_row_is_as_without_text(explained):
    full = explained(**complete() | {"text": "fire"})
    without = explained(**complete() | {"text": ""})
    (part,) = full.parts["text"]
    is_same_class = without.explained == full.explained
    p = without.probability if is_same_class else 1 - without.probability
    assert full.probability - part["effect"] == pytest.approx(p, abs=1e-6)


def test_audio_is_explained_by_bands_and_time(explained):
    explanation = explained(**EMPTY | {"audio": complete()["audio"]})
    audio = explanation.parts["audio"]
    assert len(audio["effects"]) == len(audio["band_edges_hz"]) - 1 == 8
    assert np.abs(audio["effects"]).max() > 0
    assert audio["seconds"] == pytest.approx(0.2, abs=0.01)


def test_a_click_has_a_share_and_no_parts(explained):
    click = table_factory.tone(seconds=0.003)
    explanation = explained(**EMPTY | {"text": "!", "audio": click})
    assert explanation.status == "image absent"
    assert list(explanation.parts) == ["text"] and len(explanation.parts["text"]) == 1


def test_vectors_have_shares_only(tmp_path, read_row):
    vectors = table_factory.text_model(tmp_path, "multilabel", encoder="vector")
    read = read_row(vectors, {"text": table_factory.vector([1, 2])})
    explanation = Explainer(vectors).explain(read)
    assert explanation.parts == {} and set(explanation.shares) == {"text"}
    assert explanation.predicted == "a|c" and explanation.explained == "a"


def test_shares_of_many_branches_are_estimated_and_named_so(tmp_path):
    entry = {"type": "text", "encoder": "vector", "vector_width": 2}
    names = [f"text{i}" for i in range(9)]
    config = tiny_preset("small-concat")
    config = replace(config, columns=dict.fromkeys(names, entry))
    explainer = Explainer(new_model(config, fitted_state(config)))
    cells = {name: table_factory.vector([1, i]) for i, name in enumerate(names)}
    table = table_factory.write_table(
        tmp_path / "data.csv", [cells, cells | {"text3": ""}]
    )
    rows = iter_rows(table, config.table, names, labeled=False)
    reads = list(map(RowReader(tmp_path, config).read, rows))
    nine, eight = map(explainer.explain, reads)
    assert nine.sampled_orders == 38 and eight.sampled_orders == 0
    for row in (nine, eight):
        gain = row.probability - row.empty_probability
        assert sum(row.shares.values()) == pytest.approx(gain, abs=1e-6)
    assert as_json(reads[0], nine)["sampled_orders"] == 38
    assert "sampled_orders" not in as_json(reads[1], eight)
    path, columns = tmp_path / "page.html", explainer.trained_model.preprocessor.columns
    cards = [build_card(reads[0], nine, columns), build_card(reads[1], eight, columns)]
    write_explanations(path, "Nine", cards)
    assert "estimated from random orders" in path.read_text(encoding="utf-8")
    write_explanations(path, "Eight", cards[1:])
    assert "exact Shapley values" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in BRANCHES else pytest.mark.slow)
        for name in FROM_SCRATCH
    ],
)
def test_the_predictions_of_a_preset_are_explained(name, read_row):
    config = tiny_preset(name)
    state = preset_state(config, tokens=20)
    width = state.columns["audio"]["width"]
    scale = {"width": width, "mean": [-4.0] * width, "deviation": [2.0] * width}
    model = new_model(config, replace(state, columns=state.columns | {"audio": scale}))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    read = read_row(model, {**complete(), "image": png_bytes(noise)})
    explanation = Explainer(model).explain(read)
    served = Predictor(model)({m: [read.data[m], b""] for m in NAMES})["probabilities"]
    column = model.state.classes.index(explanation.explained)
    assert explanation.probability == pytest.approx(served[0, column], abs=1e-5)
    assert explanation.empty_probability == pytest.approx(served[1, column], abs=1e-5)
    assert_shares_add_up(explanation)
    parts = explanation.parts
    image, audio = (np.array(parts[m]["effects"]) for m in ("image", "audio"))
    assert image.shape == (8, 8) and len(parts["text"]) == 4
    assert np.isfinite(image).all() and np.isfinite(audio).all()
    assert np.abs(image).max() > 0 or np.abs(audio).max() > 0


# Generated texts --------------------------------------------------------------


@pytest.fixture(scope="module")
def generator():
    return untrained_generator()


def test_a_text_has_shares_that_add_up_and_so_has_each_word(generator, read_row):
    explanation = Explainer(generator).explain(read_row(generator, complete()))
    assert explanation.is_text and not explanation.is_number
    assert explanation.explained == explanation.predicted
    assert 0 < explanation.empty_probability < 1
    assert_shares_add_up(explanation)
    words = [word.word for word in explanation.words]
    assert words and set(words) <= set(WORDS)
    assert words == explanation.predicted.replace(",", " ,").split()
    for word in explanation.words:
        gain = word.log_probability - word.empty_log_probability
        assert sum(word.shares.values()) == pytest.approx(gain, abs=1e-6)
        assert any(word.shares.values())


def test_hiding_all_columns_gives_the_value_of_an_empty_row(generator, read_row):
    text = read_row(generator, EMPTY | {"text": "cow"})
    explanation = Explainer(generator).explain(text)
    (part,) = explanation.parts["text"]
    assert explanation.probability - part["effect"] == pytest.approx(
        explanation.empty_probability, abs=1e-6
    )
    for word in explanation.words:
        (part,) = word.parts["text"]
        assert word.log_probability - part["effect"] == pytest.approx(
            word.empty_log_probability, abs=1e-5
        )


def test_each_word_has_the_effects_of_the_same_parts_as_the_text(generator, read_row):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    read = read_row(generator, {**complete(), "image": png_bytes(noise)})
    explanation = Explainer(generator).explain(read)
    parts = explanation.parts
    assert set(parts) == set(NAMES)
    for word in explanation.words:
        assert set(word.parts) == set(NAMES)
        for m in ("image", "audio"):
            effects = np.array(word.parts[m]["effects"])
            assert effects.shape == np.shape(parts[m]["effects"])
            assert np.isfinite(effects).all() and np.abs(effects).max() > 0
        assert [p["word"] for p in word.parts["text"]] == [
            p["word"] for p in parts["text"]
        ]
    first, second = explanation.words[:2]
    assert first.parts["image"] != second.parts["image"]


def test_the_variants_of_a_row_are_decoded_once(generator, read_row, monkeypatch):
    explainer, calls = Explainer(generator), []
    score_tokens = explainer.predictor.score_tokens

    def counted(inputs, *args):
        calls.append(len(inputs["present"]))
        return score_tokens(inputs, *args)

    monkeypatch.setattr(explainer.predictor, "score_tokens", counted)
    explanation = explainer.explain(read_row(generator, EMPTY | {"text": "a b c"}))
    assert len(explanation.words) > 1
    assert calls == [1, 1, 3]  # nothing, the text, and the text without each word


def test_the_entry_of_a_text_has_its_words(generator, read_row):
    read = read_row(generator, EMPTY | {"text": "cow"})
    explanation = Explainer(generator).explain(read)
    words = as_json(read, explanation)["words"]
    assert [word["word"] for word in words] == [w.word for w in explanation.words]
    for word in words:
        assert list(word["parts"]) == ["text"] and set(word["shares"]) == set(NAMES)
        assert word["log_probability"] < 0
