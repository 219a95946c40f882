from dataclasses import replace

import numpy as np
import pytest

from mmkeras.data import fit_preprocessing as fit_module
from mmkeras.data.fit_preprocessing import fit_preprocessing
from mmkeras.data.ingest import ingest
from mmkeras.data.stored_rows import COLUMNS, read_rows
from mmkeras.modalities.preprocessor import Preprocessor
from tests import table_factory


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """Fits on rows of which some lack a modality; changes are settings."""
    base = tmp_path_factory.mktemp("data")
    rows = table_factory.make_rows(classes=("red", "green", "blue"))
    rows[3]["audio"] = rows[4]["image"] = rows[5]["text"] = ""
    for row in rows[24:]:  # words that training must not know
        row["text"] += " unseen"
    table = table_factory.write_table(base / "data.csv", rows)
    dataset = ingest(table, table_factory.tiny_config(base / "cache"))

    def fit_with(**changes):
        config = table_factory.tiny_config(base / "cache", **changes)
        return dataset, config, fit_preprocessing(dataset, config)

    return fit_with


def test_vocabulary_and_scales_come_from_the_training_rows_only(fit):
    dataset, config, state = fit(text={"vocab_size": 64, "min_rows": 1})
    text, audio = state.columns["text"], state.columns["audio"]
    assert "fresh" in text["vocabulary"] and "unseen" not in text["vocabulary"]
    assert len(text["idf"]) == len(text["vocabulary"]) == text["width"]

    column = Preprocessor(config, state).columns["audio"]
    unscaled = column.graph({"audio": {"width": audio["width"]}})
    rows = read_rows(dataset.files("train"), [column])
    strings = [row[COLUMNS]["audio"] for row in rows]
    vectors = [
        unscaled.finish_row(unscaled.decode_bytes(s)) for s in strings if s != ""
    ]
    assert len(vectors) == 23
    np.testing.assert_allclose(audio["mean"], np.mean(vectors, 0), atol=1e-5)
    deviation = np.std(np.asarray(vectors, np.float64), 0)
    np.testing.assert_allclose(audio["deviation"], deviation, atol=1e-4)


@pytest.mark.parametrize("tokens", ["word", "char"])
def test_emoji_that_tell_the_class_are_in_the_vocabulary(tokens, tmp_path):
    rows = table_factory.texts(text=["😀", "😡"] * 20)
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    config = table_factory.tiny_config(tmp_path / "cache", text={"tokens": tokens})
    state = fit_preprocessing(ingest(table, config), config)
    assert {"😀", "😡"} <= set(state.columns["text"]["vocabulary"])


def test_classes_of_all_splits_are_known_and_training_rows_counted(fit):
    *_, state = fit()
    assert state.classes == ("blue", "green", "red")
    assert state.class_rows == (8, 8, 8) and state.task == "multiclass"


def test_the_same_rows_and_settings_are_fitted_once(fit):
    dataset, _, state = fit()
    files = {path: path.stat().st_mtime_ns for path in dataset.folder.iterdir()}
    *_, again = fit(epochs=9)
    assert again == state
    assert {p: p.stat().st_mtime_ns for p in dataset.folder.iterdir()} == files
    fit(text={"vocab_size": 3})
    assert len(list(dataset.folder.iterdir())) == len(files) + 1


@pytest.mark.parametrize("scale", ["standard", "quantile"])
def test_all_columns_are_measured_in_one_pass(scale, tmp_path, monkeypatch):
    rows = table_factory.texts(text=["a b", "b c", "c", "c"] * 10)
    for i, row in enumerate(rows):
        row |= {"price": i if i % 4 else "", "size": -i / 2, "kind": "xy"[i % 2]}
    settings = {"tabular": {"scale": scale}, "text": {"min_rows": 1}}
    types = {"text": "text", "price": "numeric", "size": "numeric", "kind": "category"}
    columns = {name: {"type": kind} for name, kind in types.items()}
    config = table_factory.tiny_config(tmp_path, **settings)
    config = replace(config, columns=columns)
    dataset = ingest(table_factory.write_table(tmp_path / "data.csv", rows), config)
    passes = []

    def read(*arguments):
        passes.append(arguments)
        return read_rows(*arguments)

    monkeypatch.setattr(fit_module, "read_rows", read)
    state = fit_preprocessing(dataset, config).columns
    assert len(passes) == 1
    assert set(state["text"]["vocabulary"]) == {"a", "b", "c"}
    assert state["kind"]["categories"] == ["x", "y"]
    for name in ("price", "size"):
        values = [row[name] for row in rows[:24] if row[name] != ""]
        if scale == "quantile":
            expected = np.quantile(values, np.linspace(0, 1, 256))[:, None]
            np.testing.assert_allclose(state[name]["quantiles"], expected, atol=1e-5)
        else:
            assert state[name]["mean"] == pytest.approx([np.mean(values)])
            assert state[name]["deviation"] == pytest.approx([np.std(values)])


def test_the_state_of_texts_is_kept_per_vocabulary(tmp_path):
    rows = table_factory.texts()
    for i, row in enumerate(rows):
        row["label"] = f"a {row['label']}|text of {i % 3}"
    table, path = table_factory.write_table(tmp_path / "d.csv", rows), tmp_path / "v"

    def fit_texts(**generate):
        settings = {"fusion": {"kind": "concat"}, "generate": {"width": 8, **generate}}
        config = table_factory.tiny_config(
            tmp_path / "cache", task="generate", **settings
        )
        return fit_preprocessing(ingest(table, config), config).texts

    words = fit_texts()
    assert words.longest == 3 and words.vocabulary[:3] == ("a", "of", "text")
    assert fit_texts(beams=4, width=4, decoder="lstm_attention") == words
    (folder,) = (tmp_path / "cache").glob("table-*")
    assert len(list(folder.glob("analysis-*.json"))) == 1
    assert len(fit_texts(vocab_size=2).vocabulary) == 2
    assert fit_texts(tokens="character").longest == len("text of 1")
    vocabularies = []
    for content in ("text of", "a b"):
        path.write_text("\n".join(content.split()))
        vocabularies.append(fit_texts(vocab_file=str(path)).vocabulary)
    assert vocabularies == [("text", "of"), ("a", "b")]
    assert len(list(folder.glob("analysis-*.json"))) == 5
