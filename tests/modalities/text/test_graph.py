from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AugmentConfig, TextConfig
from mmkeras.modalities.text.column import Text

PIECES = TextConfig(encoder="lstm", tokens="wordpiece", max_tokens=8)
WORDS = TextConfig(tokens="word", min_rows=1)
COUNTS = {b"cows": 3, b"cow": 3}
BERT = "[PAD] [unused0] [UNK] [CLS] [SEP] cow ##s é"


def graph_of(settings, counts=COUNTS):
    column = Text("title", settings)
    return column.graph({"title": column.fit((counts, 3))})


@pytest.fixture(scope="module")
def learned():
    """Column and graph of learned pieces."""
    column = Text("title", replace(PIECES, min_rows=1, vocab_size=50))
    state = column.fit((COUNTS, 3))
    return state, column.graph({"title": state})


@pytest.fixture(scope="module")
def bert_vocabulary(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("".join(f"{line}\n" for line in BERT.split()), encoding="utf-8")
    return str(path)


def test_ids_are_the_lines_of_a_vocabulary_file(bert_vocabulary):
    graph = graph_of(replace(PIECES, vocab_file=bert_vocabulary))
    inputs = graph.finish_batch(tf.constant(["Cows dog é", "", "cow " * 20]))
    assert inputs.numpy().tolist() == [
        [3, 5, 6, 2, 2, 4, 0, 0],  # the model has no accents
        [3, 4, 0, 0, 0, 0, 0, 0],
        [3, *[5] * 6, 4],
    ]


def test_learned_pieces_have_ids_and_no_ends(learned):
    state, graph = learned
    (row,) = graph.finish_batch(tf.constant(["cow xyz"])).numpy()
    assert row[0] == 2 + state["vocabulary"].index("cow")
    assert row[1] == 1 and not row[2:].any()


def test_a_text_of_a_million_words_is_cut_before_it_is_split(learned):
    _, graph = learned
    (row,) = graph.finish_batch(tf.constant(["cow " * 1_000_000])).numpy()
    assert len(row) == 8 and (row == row[0]).all()


def test_broken_and_empty_texts_are_split_as_well(learned):
    _, graph = learned
    ids = graph.finish_batch(tf.constant([b"\xffcow", b"", b"\xff"])).numpy()
    assert ids.shape == (3, 8) and not ids[1].any() and np.isfinite(ids).all()


def test_words_are_weighted_by_their_idf():
    graph = graph_of(WORDS, {b"the": 3, b"cow": 1})
    both, one, none = graph.finish_batch(tf.constant(["the cow", "the", "dog"])).numpy()
    assert both[1] > both[0] > 0 == one[1] and one[0] == pytest.approx(1)
    assert not none.any() and graph.input_spec.shape == (2,)


def test_broken_empty_and_blank_texts_are_absent_and_only_broken_ones_exist():
    graph = graph_of(WORDS)
    texts = tf.constant([b"cow", b"\xffcow", b"", b" \n"])
    values, usable = graph({"title": texts, "other": tf.constant([b""] * 4)})
    ((ok, exists),) = (usable[name] for name in ("title",))
    assert ok.numpy().tolist() == [True, False, False, False]
    assert exists.numpy().tolist() == [True, True, False, False]
    assert values[0].numpy().any() and not values[1:].numpy().any()


def test_only_training_drops_words():
    graph, text = graph_of(WORDS), tf.constant(["cow cows"] * 20)
    augment = AugmentConfig(word_dropout=0.5)
    complete = graph.finish_batch(text).numpy()
    assert complete.all()
    seed = tf.constant([1, 2])
    first, again = (graph.finish_batch(text, seed, augment).numpy() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert 0 < (first == 0).mean() < 1
    kept = graph.finish_batch(text, seed, AugmentConfig(word_dropout=0.0))
    np.testing.assert_array_equal(kept, complete)


def test_an_export_tracks_the_table_of_tokens():
    assert len(graph_of(WORDS).resources) == 1
