"""Search of texts with tiny random decoders, compared with loops and all texts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import GenerateConfig
from mmkeras.export.text_search import (
    next_log_probabilities,
    normalize_score,
    search_texts,
    token_log_probabilities,
)
from mmkeras.modalities.preprocessing_state import END, FIRST_TOKEN, START
from mmkeras.models.decoder import build_decoder

ROWS, MAX_TOKENS = 6, 3
WIDTHS = {"memory_width": 5, "embedding_width": 4}
SEARCHES = [
    {},
    {"beams": 3},
    {"beams": 3, "length_penalty": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.8, "top_k": 2},
]


def settings(**changes):
    small = {"width": 8, "layers": 1, "heads": 2, "max_tokens": MAX_TOKENS}
    return GenerateConfig(**{**small, **changes})


def build(words=5, **changes):
    keras.utils.set_random_seed(3)
    config = settings(**changes)
    vocab_size = FIRST_TOKEN + words
    decoder = build_decoder(config, vocab_size=vocab_size, **WIDTHS)
    rng = np.random.default_rng(1)
    for weight in decoder.weights:  # unequal logits, and a visible effect of the memory
        weight.assign(weight + rng.normal(size=weight.shape) / 2)
        if weight.path.endswith("token_embedding/bias"):
            weight.assign(np.zeros(vocab_size))
    return decoder


@pytest.fixture(scope="module", params=["transformer", "lstm_attention"])
def decoder(request):
    return build(decoder=request.param)


def memory_of(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    mask = np.ones((rows, 4), bool)
    mask[1::2, 2:] = False
    values = rng.normal(size=(rows, 4, WIDTHS["memory_width"])).astype("float32")
    fused = rng.normal(size=(rows, WIDTHS["embedding_width"])).astype("float32")
    memory = {"memory": values, "memory_mask": mask, "embedding": fused}
    return {name: tf.constant(x) for name, x in memory.items()}


def search(decoder, memory=None, **changes):
    result = search_texts(decoder, memory or memory_of(), settings(**changes))
    return result.tokens.numpy(), result.scores.numpy()


def row_of(memory, row, times=1):
    return {k: tf.repeat(v[row : row + 1], times, axis=0) for k, v in memory.items()}


def next_of(decoder, memory, texts, is_last):
    """Returns log probabilities (N, V) after the texts (N, L) of one row."""
    start = np.full((len(texts), 1), START)
    tokens = np.concatenate([start, texts], axis=1).astype("int32")
    inputs = {**memory, "tokens": tf.constant(tokens)}
    logits = decoder(inputs)["logits"].numpy()[:, -1].astype("float64")
    logits[:, [0, 1, 2]] = -np.inf
    if is_last:
        logits[:, FIRST_TOKEN:] = -np.inf
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def all_texts(decoder, memory, words, max_tokens):
    """Returns each possible text of one row -> its log probability."""
    result, before = {}, {(): 0.0}
    for length in range(max_tokens + 1):
        texts = np.array(list(before)).reshape(len(before), length)
        repeated = row_of(memory, 0, len(before))
        each = next_of(decoder, repeated, texts, length == max_tokens)
        after = {}
        for row, (text, total) in zip(each, before.items(), strict=True):
            result[(*text, END)] = total + row[END]
            for token in range(FIRST_TOKEN, FIRST_TOKEN + words):
                after[(*text, token)] = total + row[token]
        before = after
    return result


def words_of(tokens):
    return tuple(int(token) for token in tokens if token)


def test_one_beam_takes_the_most_probable_token_at_each_step(decoder):
    tokens, scores = search(decoder)
    assert tokens.shape == (ROWS, 1, MAX_TOKENS + 1) and scores.shape == (ROWS, 1)
    for row in range(ROWS):
        memory, text, total = row_of(memory_of(), row), [], 0.0
        while END not in text:
            is_last = len(text) == MAX_TOKENS
            each = next_of(decoder, memory, np.array([text]).reshape(1, -1), is_last)[0]
            text.append(int(each.argmax()))
            total += each.max()
        assert words_of(tokens[row, 0]) == tuple(text)
        assert scores[row, 0] == pytest.approx(total / len(text), abs=1e-5)
    assert len({words_of(text[0]) for text in tokens}) > 1


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize(("words", "max_tokens"), [(1, 1), (1, 3), (2, 2), (3, 2)])
def test_with_a_beam_per_text_the_search_finds_all_texts(words, max_tokens, penalty):
    changes = {"max_tokens": max_tokens, "length_penalty": penalty}
    decoder = build(words, max_tokens=max_tokens)
    for row in range(3):
        memory = row_of(memory_of(), row)
        texts = all_texts(decoder, memory, words, max_tokens)
        expected = {t: total / len(t) ** penalty for t, total in texts.items()}
        tokens, scores = search(decoder, memory, beams=len(texts), **changes)
        result = list(map(words_of, tokens[0]))
        assert set(result) == set(expected)
        best = max(expected, key=expected.get)
        assert result[0] == best
        values = [expected[text] for text in result]
        np.testing.assert_allclose(scores[0], values, atol=1e-4)


@pytest.mark.parametrize("changes", [{"words": 1}, {"words": 2}, {"words": 3}])
@pytest.mark.parametrize("beams", [8, 20])
@pytest.mark.parametrize("kind", ["transformer", "lstm_attention"])
def test_beams_beyond_the_possible_texts_displace_none(changes, beams, kind):
    decoder = build(**changes, max_tokens=1, decoder=kind)
    memory = row_of(memory_of(), 0)
    texts = all_texts(decoder, memory, changes["words"], 1)
    tokens, scores = search(decoder, memory, beams=beams, max_tokens=1)
    count = len(texts)
    assert {words_of(text) for text in tokens[0, :count]} == set(texts)
    assert (scores[0, :count] > -100).all() and (scores[0, count:] < -1e8).all()
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("changes", SEARCHES)
def test_a_score_is_that_of_the_text_when_it_is_given(decoder, changes):
    tokens, scores = search(decoder, **changes)
    config = settings(**changes)
    for n in range(tokens.shape[1]):
        text = tf.constant(tokens[:, n])
        each = token_log_probabilities(decoder, memory_of(), text, config)
        assert each.shape == text.shape
        np.testing.assert_array_equal(each.numpy()[tokens[:, n] == 0], 0)
        total = tf.reduce_sum(each, axis=1)
        expected = normalize_score(total, text, config)
        np.testing.assert_allclose(scores[:, n], expected, atol=1e-5)


@pytest.mark.parametrize("changes", SEARCHES)
def test_a_text_has_one_end_after_its_tokens_and_padding_after_it(decoder, changes):
    tokens, _ = search(decoder, **changes)
    for text in tokens.reshape(-1, MAX_TOKENS + 1):
        end = list(text).index(END)
        assert end <= MAX_TOKENS
        assert (text[:end] >= FIRST_TOKEN).all() and (text[end + 1 :] == 0).all()


@pytest.mark.parametrize("changes", SEARCHES)
def test_a_text_does_not_depend_on_the_other_rows(decoder, changes):
    memory = memory_of()
    tokens, scores = search(decoder, **changes)
    order = np.array([4, 0, 5, 2])
    part = {name: tf.gather(x, order) for name, x in memory.items()}
    some_tokens, some_scores = search(decoder, part, **changes)
    np.testing.assert_array_equal(some_tokens, tokens[order])
    np.testing.assert_allclose(some_scores, scores[order], atol=1e-5)
    alone, _ = search(decoder, row_of(memory, 3), **changes)
    np.testing.assert_array_equal(alone[0], tokens[3])


@pytest.mark.parametrize("changes", SEARCHES)
def test_any_memory_gives_a_text_and_a_finite_score(decoder, changes):
    memory = memory_of()
    values = memory["memory"].numpy()
    values[0], values[1] = 1e30, -1e30
    values[2] *= 1e6
    mask = memory["memory_mask"].numpy()
    mask[3:] = False
    odd = {"memory": tf.constant(values), "memory_mask": tf.constant(mask)}
    odd["embedding"] = tf.repeat(memory["embedding"][:1], len(mask), axis=0)
    tokens, scores = search(decoder, odd, **changes)
    assert np.isfinite(scores).all() and ((tokens == END).sum(axis=2) == 1).all()
    # Rows without memory have one text.
    np.testing.assert_array_equal(tokens[3:], tokens[[3, 3, 3]])


@pytest.mark.parametrize("changes", SEARCHES)
def test_the_search_ends_even_if_no_number_is_finite(decoder, changes):
    memory = memory_of()
    memory["memory"] = tf.fill(memory["memory"].shape, float("nan"))
    tokens, _ = search(decoder, memory, **changes)
    assert tokens.shape[2] == MAX_TOKENS + 1


def test_one_of_one_token_is_no_choice(decoder):
    tokens, scores = search(decoder, temperature=1.5, top_k=1)
    greedy, greedy_scores = search(decoder)
    np.testing.assert_array_equal(tokens, greedy)
    np.testing.assert_allclose(scores, greedy_scores, atol=1e-6)


@pytest.mark.parametrize("top_k", [0, 2])
def test_a_temperature_near_0_draws_the_most_probable_tokens(decoder, top_k):
    tokens, _ = search(decoder, temperature=1e-9, top_k=top_k)
    np.testing.assert_array_equal(tokens, search(decoder)[0])


def test_no_temperature_draws_a_token_that_is_not_possible(decoder):
    for seed in range(5):
        tokens, scores = search(decoder, temperature=1e12, seed=seed)
        assert not np.isin(tokens, [1, START]).any()
        assert ((tokens == END).sum(axis=2) == 1).all() and (scores > -1e3).all()


def test_a_seed_decides_the_drawn_texts(decoder):
    texts = [search(decoder, temperature=2.0, seed=seed)[0] for seed in range(6)]
    again, _ = search(decoder, temperature=2.0, seed=4)
    np.testing.assert_array_equal(again, texts[4])
    assert len({tokens.tobytes() for tokens in texts}) > 3


def test_tokens_are_drawn_as_often_as_they_are_probable():
    decoder = build(2, max_tokens=1)
    memory = row_of(memory_of(), 0)
    probability = np.exp(next_of(decoder, memory, np.zeros((1, 0)), False)[0])
    counts = np.zeros(len(probability))
    for seed in range(60):
        tokens, _ = search(decoder, memory, max_tokens=1, temperature=1.0, seed=seed)
        counts[tokens[0, 0, 0]] += 1
    np.testing.assert_allclose(counts / 60, probability, atol=0.15)


def test_the_texts_of_a_row_differ_and_the_best_is_first(decoder):
    tokens, scores = search(decoder, beams=4)
    assert (np.diff(scores, axis=1) <= 0).all()
    for texts in tokens:
        assert len(set(map(words_of, texts))) == 4


def test_without_a_penalty_a_score_is_the_sum_over_the_tokens(decoder):
    tokens, scores = search(decoder, length_penalty=0.0)
    _, means = search(decoder)
    counts = (tokens != 0).sum(axis=2)
    np.testing.assert_allclose(scores, means * counts, atol=1e-5)
    halves = normalize_score(
        tf.constant([-8.0]), tf.constant([[5, 5, 5, END]]), settings(length_penalty=0.5)
    )
    assert halves.numpy() == pytest.approx([-4])


def test_log_probabilities_are_of_words_and_the_end():
    logits = tf.constant([[9.0, 9, 9, 1, 2, 3]])
    each = next_log_probabilities(logits, tf.constant(False)).numpy()[0]
    assert (each[:3] < -1e8).all() and np.exp(each).sum() == pytest.approx(1)
    assert each[5] - each[3] == pytest.approx(2)
    last = next_log_probabilities(logits, tf.constant(True)).numpy()[0]
    assert last[END] == 0 and (np.delete(last, END) < -1e8).all()


def test_an_unknown_token_of_a_given_text_has_no_probability(decoder):
    tokens = tf.constant([[5, 1, END, 0]] * ROWS)
    each = token_log_probabilities(decoder, memory_of(), tokens, settings()).numpy()
    assert (each[:, 1] < -1e8).all() and (each[:, [0, 2]] > -100).all()


def test_the_graph_gives_the_texts_of_the_eager_search(decoder):
    config = settings(beams=2)
    memory = {k: v for k, v in memory_of().items()}
    spec = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in memory.items()}
    graph = tf.function(
        lambda x: search_texts(decoder, x, config), input_signature=[spec]
    )
    np.testing.assert_array_equal(
        graph(memory).tokens, search(decoder, memory, beams=2)[0]
    )
    for rows in (1, 3):
        part = {name: x[:rows] for name, x in memory.items()}
        assert graph(part).tokens.shape == (rows, 2, MAX_TOKENS + 1)


def test_the_probabilities_of_all_texts_sum_to_1():
    texts = all_texts(build(2, max_tokens=2), row_of(memory_of(), 0), 2, 2)
    assert len(texts) == 1 + 2 + 4
    assert sum(np.exp(list(texts.values()))) == pytest.approx(1, abs=1e-5)
