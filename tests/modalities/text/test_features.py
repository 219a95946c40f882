import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from mmkeras.config import TextConfig
from mmkeras.modalities.preprocessing_state import count_rows
from mmkeras.modalities.text import features
from mmkeras.modalities.vocabulary import choose_vocabulary

WORDS = TextConfig(tokens="word")
CHARS = TextConfig(tokens="char", max_ngram=3)
TEXTS = [
    "The cow says moo, and the COW is right.",
    "the dog doesn't say moo; the dog says woof",
    "Le café naïf — ÇA VA?",
    "nothing known here",
    "",
    "42 cows, 7 dogs & 1 cat: 42!",
]


def tokens(text, config=WORDS):
    text = text.encode() if isinstance(text, str) else text
    (row,) = features.tokenize(tf.constant([text]), config).to_list()
    return [token.decode() for token in row]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cow says: MOO!", ["the", "cow", "says", "moo"]),
        ("don't  stop\tnow\n", ["don't", "stop", "now"]),
        ("a-b_c/d.e", ["a", "b", "c", "d", "e"]),
        ("3 cows, 2nd row", ["3", "cows", "2nd", "row"]),
        ("ÉCOLE naïve ŽIVOT", ["école", "naïve", "život"]),
        ("ΑΒΓ привет МИР", ["αβγ", "привет", "мир"]),
        ("नमस्ते 日本語、テスト", ["नमस्ते", "日本語", "テスト"]),
        ("cafe\u0301 🐄 cow", ["cafe\u0301", "🐄", "cow"]),
        ("1️⃣2nd ①❶", ["1️⃣", "2nd", "①❶"]),
        ("a\u200db\x01c\x02d\0e", ["a", "b", "c", "d", "e"]),
        ("", []),
        (" \n!? \u200d\ufe0f\ufffd", []),
    ],
)
def test_words_are_runs_of_letters_and_digits_in_lower_case(text, expected):
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("encoder", "expected"), [("tfidf", CHARS), ("lstm", WORDS), ("bert", WORDS)]
)
def test_auto_is_words_for_sequences_and_else_ngrams(encoder, expected):
    config = TextConfig(encoder=encoder)
    assert tokens("The cow", config) == tokens("The cow", expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("so😀😡so", ["so", "😀", "😡", "so"]),
        ("❤\ufe0f❤ Ⓜ\ufe0f ©\ufe0f", ["❤", "❤", "ⓜ", "©"]),  # and without color
        ("👍🏽👍☝🏻\ufe0f", ["👍🏽", "👍", "☝🏻"]),
        ("👩‍💻👨‍👩‍👧", ["👩‍💻", "👨‍👩‍👧"]),
        ("🏴‍☠\ufe0f!👩🏽‍❤\ufe0f‍👨🏻", ["🏴‍☠", "👩🏽‍❤‍👨🏻"]),
        ("🇩🇪🇫🇷🇩", ["🇩🇪", "🇫🇷", "🇩"]),
        ("🏴\U000e0067\U000e007f7", ["🏴\U000e0067\U000e007f", "7"]),
        ("#\ufe0f⃣ # *", ["#⃣"]),
        ("★★☆", ["★", "★", "☆"]),
        ("\U0001faff", ["\U0001faff"]),  # not assigned in Unicode 15
    ],
)
def test_each_emoji_is_a_token_with_its_skin_tone_and_what_is_joined(text, expected):
    assert tokens(text) == expected


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.sampled_from(
            ["a7", "don't", "cafe\u0301", "日本", "😀", "👍🏽", "👩‍💻", "🇩🇪", "★"]
        )
    ),
    separator=st.sampled_from(
        [" ", ", ", "\n", "\x01", "\x02", "\u200b", "\u200d ", "—"]
    ),
)
def test_words_and_emoji_in_any_order_are_the_tokens(pieces, separator):
    assert tokens(separator.join(pieces)) == pieces


@settings(max_examples=200, deadline=None)
@given(
    st.text(
        st.characters(
            exclude_categories=["So", "Sm", "Sk", "Cs", "Cn"],
            exclude_characters="‼⁉〰\ufe0e\ufe0f⃣",
        )
    )
)
def test_texts_without_emoji_have_the_tokens_of_saved_vocabularies(text):
    clean = tf.strings.unicode_transcode(
        tf.constant([text]), "UTF-8", "UTF-8", replace_control_characters=True
    )
    lower = tf.strings.lower(clean, encoding="utf-8")
    words = tf.strings.regex_replace(lower, r"[^\pL\pN\pM']+", " ")
    (expected,) = tf.strings.split(words).to_list()
    assert tokens(text) == [token.decode() for token in expected]


def test_symbols_that_are_no_emoji_are_no_tokens():
    symbols = [chr(c) for c in range(0x80, 0x20000) if 0xD800 > c or c > 0xDFFF]
    symbols = [c for c in symbols if unicodedata.category(c)[0] in "PSZC"]
    rows = features.tokenize(tf.constant(symbols), WORDS).to_list()
    emoji = {c for c, row in zip(symbols, rows, strict=True) if row}
    assert {"😀", "★", "‼", "©", "🇦", "🏽"} <= emoji
    assert not set("→“”…€№℃∀─█\ufffd\u200d") & emoji


def test_a_text_has_a_word_if_it_has_a_token():
    for text in (b"x!", "😀".encode()):
        assert features.has_word(text) is True
    for text in (b"?! --", b""):
        assert features.has_word(text) is False


@pytest.mark.parametrize("text", TEXTS)
def test_n_grams_are_those_of_scikit_learn(text):
    analyzer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3)).build_analyzer()
    words = " ".join(tokens(text))
    assert sorted(tokens(text, CHARS)) == sorted(analyzer(words))


def is_decodable(row):
    try:
        row.decode()
    except UnicodeDecodeError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=12), max_size=5))
@example([b"\xff", b"caf\xe9", b"\xc3", b"a\xed\xa0\x80", b"\xc0\xaf"])
@example([b"fine", "naïve 🐄".encode(), b""])
def test_utf8_is_valid_as_in_python(rows):
    result = features.is_utf8(tf.constant(rows, tf.string)).numpy().tolist()
    assert result == [is_decodable(row) for row in rows]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=20))
def test_any_bytes_give_tokens_that_are_not_empty(text):
    for config in (WORDS, CHARS):
        assert all(tokens(text, config))


@pytest.mark.parametrize("config", [WORDS, CHARS], ids=["word", "char"])
@pytest.mark.parametrize("size", [5, 512])
def test_the_vectors_are_those_of_scikit_learn(config, size):
    rows = features.tokenize(tf.constant(TEXTS), config)
    vocabulary, idf = choose_vocabulary(*count_rows(rows.to_list()), size, 1)
    table = features.token_table(list(vocabulary))
    result = features.tfidf(rows, table, tf.constant(idf, tf.float32)).numpy()

    reference = TfidfVectorizer(
        analyzer=lambda text: tokens(text, config),
        vocabulary=vocabulary,
        sublinear_tf=True,
        smooth_idf=True,
        norm="l2",
    )
    expected = reference.fit_transform(TEXTS).toarray()
    assert result.shape == (len(TEXTS), len(vocabulary))
    assert len(vocabulary) <= size
    np.testing.assert_allclose(result, expected, atol=1e-6)
    np.testing.assert_allclose(idf, reference.idf_, rtol=1e-6)


def test_tokens_become_their_ids_cut_and_padded():
    tokens = tf.ragged.constant([["cow", "moo", "dog", "cow"], [], ["cow"]])
    ids = features.tokens_to_ids(tokens, features.token_table(["cow", "dog"]), 3)
    assert ids.dtype == tf.int32
    assert ids.numpy().tolist() == [[2, 1, 3], [0, 0, 0], [2, 0, 0]]
