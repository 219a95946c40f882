from dataclasses import replace

import numpy as np
import pytest

from mmkeras.config.presets import PRESETS
from mmkeras.data.example_reader import RowReader
from mmkeras.data.table import iter_rows
from mmkeras.explanation.explainer import Explainer
from mmkeras.export.inference import Predictor, TrainedModel, load_trained
from mmkeras.modalities.image.encoding import png_bytes
from mmkeras.modalities.preprocessing_state import Scale
from mmkeras.modalities.preprocessor import Preprocessor
from mmkeras.models.model import build_model
from tests import table_factory
from tests.config.test_presets import learned, tiny

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def trained_model(tmp_path_factory):
    return load_trained(table_factory.trained_run(tmp_path_factory)[0])


@pytest.fixture(scope="module")
def explainer(trained_model):
    return Explainer(trained_model)


@pytest.fixture
def explained(explainer, trained_model, tmp_path):
    """Explains a row of a table that holds these cells."""

    def explain(**cells):
        table = table_factory.write_table(tmp_path / "data.csv", [{"id": "r", **cells}])
        reader = RowReader(tmp_path, trained_model.config, trained_model.state.widths)
        names = ",".join(m for m in NAMES if m in cells)
        columns = replace(trained_model.config.table, modalities=names)
        (row,) = iter_rows(table, columns, labeled=False)
        return explainer.explain(reader.read(row))

    return explain


def complete(i=0):
    return {m: table_factory.make_rows()[i][m] for m in NAMES}


def test_the_answer_is_the_one_that_is_served(explained, trained_model):
    row = complete()
    found = explained(**row)
    served = Predictor(trained_model)(
        {m: [row[m] if m != "text" else row[m].encode()] for m in NAMES}
    )
    assert found.predicted == found.explained == served["label"][0].decode()
    assert found.probability == pytest.approx(served["score"][0], abs=1e-6)
    assert found.status == "ok" and found.problems == ()


@pytest.mark.parametrize("i", range(4))
def test_a_rows_shares_add_up_to_what_it_gains_over_nothing(explained, i):
    found = explained(**complete(i))
    gain = found.probability - found.none
    assert sum(found.shares.values()) == pytest.approx(gain, abs=1e-9)


def test_the_share_of_what_is_not_there_is_exactly_nothing(explained):
    row = {**complete(), "audio": ""}
    found = explained(**row)
    assert found.shares["audio"] == 0 and found.audio is None
    assert found.status == "audio absent"
    assert set(found.shares) == set(NAMES)
    gain = found.probability - found.none
    assert sum(found.shares.values()) == pytest.approx(gain, abs=1e-9)


def test_a_broken_picture_counts_as_absent_and_is_said(explained):
    row = complete()
    found = explained(**{**row, "image": row["image"][:60]})
    assert found.status == "image unreadable" and found.shares["image"] == 0
    assert found.image is None and "cannot be decoded" in found.problems[0]


def test_an_empty_row_is_explained_by_nothing(explained):
    found = explained(text="", image="", audio="")
    assert found.shares == dict.fromkeys(NAMES, 0.0)
    assert found.probability == found.none
    assert found.image is found.text is found.audio is None


def test_a_column_that_the_table_lacks_is_absent(explained):
    found = explained(image=complete()["image"])
    assert found.status == "text absent; audio absent"
    assert found.image.shape == (8, 8) and found.text is None


def test_a_coloured_object_lights_up_and_the_white_around_it_does_not(explained):
    pixels = np.full((32, 32, 3), 255, np.uint8)
    pixels[4:16, 16:28] = table_factory.CLASSES["red"][0]
    found = explained(text="", audio="", image=png_bytes(pixels))
    effect = found.image if found.explained == "red" else -found.image
    inside, far = effect[1:4, 4:7], effect[6:, :2]
    assert inside.mean() > 0.01
    assert np.abs(far).max() < 1e-6
    assert np.unravel_index(effect.argmax(), effect.shape)[0] < 5


def test_the_word_that_the_class_is_known_by_counts(explained):
    words, text = ("warm", "fire"), "something warm fire else"
    found = explained(text=text, image="", audio="")
    effects = {text[a:b]: e for a, b, e in found.text}
    assert set(effects) == set(text.split())
    sign = 1 if found.explained == "red" else -1
    assert sign * sum(effects[w] for w in words) > 0
    assert effects["something"] == pytest.approx(0, abs=1e-6)  # never learned


def test_without_its_only_word_a_row_is_as_without_text(explained):
    whole, empty = explained(**{**complete(), "text": "fire"}), complete()
    without = explained(**{**empty, "text": ""})
    ((_, _, effect),) = whole.text
    p = without.probability
    p = p if without.explained == whole.explained else 1 - p
    assert whole.probability - effect == pytest.approx(p, abs=1e-6)


def test_a_sound_is_explained_in_its_time_and_bands(explained):
    found = explained(text="", image="", audio=complete()["audio"])
    assert found.audio.shape[0] == len(found.band_edges_hz) - 1 == 8
    assert np.abs(found.audio).max() > 0
    assert found.seconds == pytest.approx(0.2, abs=0.01)


def test_a_text_of_signs_and_a_click_of_a_sound_have_shares_and_no_parts(explained):
    found = explained(text="!", image="", audio=table_factory.tone(seconds=0.003))
    assert found.status == "image absent" and found.audio is None
    assert len(found.text) == 1


def test_vectors_have_shares_only(tmp_path):
    model = table_factory.text_model(tmp_path, "multilabel")
    config = replace(model.config, text=replace(model.config.text, encoder="vector"))
    vectors = TrainedModel(
        preprocessor=Preprocessor(config, model.state), model=model.model
    )
    table = table_factory.write_table(
        tmp_path / "t.csv", [{"text": table_factory.vector([1, 2])}]
    )
    reader = RowReader(tmp_path, config, {"text": 2})
    columns = replace(config.table, modalities="text")
    (row,) = iter_rows(table, columns, labeled=False)
    found = Explainer(vectors).explain(reader.read(row))
    assert found.text is None and set(found.shares) == {"text"}
    assert found.predicted == "a|c" and found.explained == "a"  # several labels


@pytest.mark.e2e
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_explained_by_what_it_serves(name, tmp_path):
    config = tiny(name)
    state = learned(config, tokens=20)
    width = state.widths["audio"]
    scale = Scale(mean=(-4.0,) * width, deviation=(2.0,) * width)
    state = replace(state, scales={"audio": scale})
    preprocessor = Preprocessor(config, state)
    model = TrainedModel(preprocessor=preprocessor, model=build_model(config, state))
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    cells = {**complete(), "image": png_bytes(noise)}
    table = table_factory.write_table(tmp_path / "data.csv", [cells])
    (row,) = iter_rows(table, config.table, labeled=False)
    read = RowReader(tmp_path, config, state.widths).read(row)
    found = Explainer(model).explain(read)
    served = Predictor(model)({m: [read.data[m], b""] for m in NAMES})["probabilities"]
    column = state.classes.index(found.explained)
    assert found.probability == pytest.approx(served[0, column], abs=1e-5)
    assert found.none == pytest.approx(served[1, column], abs=1e-5)
    gain = found.probability - found.none
    assert sum(found.shares.values()) == pytest.approx(gain, abs=1e-9)
    assert found.image.shape == (8, 8) and len(found.text) == 4
    assert np.isfinite(found.image).all() and np.isfinite(found.audio).all()
    assert np.abs(found.image).max() > 0 or np.abs(found.audio).max() > 0
