"""Words of token ids, and attention that sums to one."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmkeras.evaluation.generated_words import (
    count_branch_tokens,
    find_words,
    generate_tokens,
    join_tokens,
    measure_attention,
)
from mmkeras.export.inference import Predictor
from mmkeras.export.two_stage_inference import TwoStagePredictor
from mmkeras.modalities.preprocessing_state import END, FIRST_TOKEN
from tests import table_factory
from tests.generator_models import untrained_generator

NAMES = ("text", "image", "audio")


@pytest.fixture(scope="module")
def generator():
    return untrained_generator()


@pytest.fixture(scope="module")
def data():
    """Complete rows, one without audio, and one without anything."""
    rows = [row | {"text": row["text"].encode()} for row in table_factory.make_rows()]
    rows = [{m: row[m] for m in NAMES} for row in rows[:4]]
    rows[2]["audio"] = b""
    rows[3] = dict.fromkeys(NAMES, b"")
    return {m: [row[m] for row in rows] for m in NAMES}


def words_of(kind, vocabulary, text):
    """Words and their places, of tokens that are separated by '/'."""
    model = SimpleNamespace(
        config=SimpleNamespace(generate=SimpleNamespace(tokens=kind)),
        state=SimpleNamespace(texts=SimpleNamespace(vocabulary=vocabulary)),
    )
    ids = [FIRST_TOKEN + vocabulary.index(token) for token in text.split("/")]
    words = find_words(model, [*ids, END, 0, 0])
    return [(w.text, w.start, w.end) for w in words]


def test_each_word_token_is_a_word():
    words = words_of("word", ("a", "cow", ","), "a/cow/,")
    assert words == [("a", 0, 1), ("cow", 1, 2), (",", 2, 3)]


def test_pieces_are_joined_to_words():
    words = words_of("wordpiece", ("a", "co", "##w", "##s"), "co/##w/##s/a")
    assert words == [("cows", 0, 3), ("a", 3, 4)]


def test_characters_between_blanks_are_a_word_with_the_blanks_after_it():
    words = words_of("character", (" ", "a", "b"), " /a/b/ / /b")
    assert words == [("ab", 0, 5), ("b", 5, 6)]


def test_a_text_without_a_token_has_no_words(generator):
    assert find_words(generator, [END, 0, 0]) == []


def test_generated_tokens_are_those_of_the_served_text(generator, data):
    inputs = TwoStagePredictor(generator).encode(data)
    tokens = generate_tokens(generator, inputs)
    assert tokens.shape == (4, 6) and (tokens == END).any(axis=1).all()
    served = [text.decode() for text in Predictor(generator)(data)["text"]]
    assert join_tokens(generator, tokens) == served
    assert any(served)


def test_the_attention_of_each_token_sums_to_one_over_all_branches(generator, data):
    inputs = TwoStagePredictor(generator).encode(data)
    attention = measure_attention(generator, inputs, generate_tokens(generator, inputs))
    counts = count_branch_tokens(generator)
    assert list(attention) == list(counts) == list(NAMES)
    assert counts["text"] == 8 and counts["image"] == 1 + 4 * 4
    for name, x in attention.items():
        assert x.shape == (4, 6, counts[name]) and (x >= 0).all()
    total = sum(x.sum(axis=2) for x in attention.values())
    np.testing.assert_allclose(total, 1, atol=1e-5)
    audio = attention["audio"]
    assert audio[0].min() > 0
    assert audio[2, :, 0].min() > 0 and audio[2, :, 1:].max() == 0  # it is absent
