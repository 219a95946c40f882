"""Texts of the label column: token ids, texts from ids, statistics of all texts."""

from dataclasses import replace

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import Config, GenerateConfig
from mmkeras.errors import UserError
from mmkeras.modalities.preprocessing_state import (
    END,
    FIRST_TOKEN,
    START,
    PreprocessingState,
    TextStatistics,
)
from mmkeras.modalities.text.target import (
    MAX_TOKENS,
    TargetTokenizer,
    measure_texts,
    split_references,
    split_text,
    with_text_length,
)

WORDS = ("a", "cow", "red", "café", ".", ",", "'", "s", "(", ")", "!")
PIECES = ("red", "##der", "cow", "##s", "a", ".")


def tokenizer_of(vocabulary, tokens="word", max_tokens=6):
    return TargetTokenizer(
        GenerateConfig(tokens=tokens, max_tokens=max_tokens), vocabulary
    )


def ids_of(tokenizer, *texts):
    return tokenizer.ids(tf.constant(texts)).numpy().tolist()


def round_trip(tokenizer, text):
    (result,) = tokenizer.texts(tokenizer.ids(tf.constant([text]))[:, 1:]).numpy()
    return result.decode()


# Ids ---------------------------------------------------------------------------


def test_ids_begin_with_the_start_and_end_with_the_end():
    tokenizer = tokenizer_of(WORDS)
    assert ids_of(tokenizer, "A cow", "") == [
        [START, 4, 5, END, 0, 0, 0, 0],
        [START, END, 0, 0, 0, 0, 0, 0],
    ]
    assert tokenizer.ids(tf.constant(["a"])).dtype == tf.int32
    assert tokenizer.vocab_size == FIRST_TOKEN + len(WORDS)
    assert len(tokenizer.resources) == 1


def test_tokens_beyond_the_longest_text_are_cut_and_the_end_is_kept():
    tokenizer = tokenizer_of(WORDS, max_tokens=2)
    (ids,) = ids_of(tokenizer, "a red cow a red")
    assert ids == [START, 4, 6, END]


def test_a_word_that_is_not_in_the_vocabulary_is_unknown_and_not_written():
    tokenizer = tokenizer_of(WORDS)
    assert ids_of(tokenizer, "a blue cow") == [[START, 4, 1, 5, END, 0, 0, 0]]
    assert round_trip(tokenizer, "a blue cow") == "a cow"


def test_word_pieces_are_the_longest_of_the_vocabulary():
    tokenizer = tokenizer_of(PIECES, tokens="wordpiece")
    assert ids_of(tokenizer, "Redder cows") == [[START, 4, 5, 6, 7, END, 0, 0]]
    assert round_trip(tokenizer, "a redder cows.") == "a redder cows."
    (ids,) = ids_of(tokenizer, "a dog")
    assert ids[:4] == [START, 8, 1, END]


def test_characters_are_tokens_with_the_blanks_between_words():
    tokenizer = tokenizer_of(("a", " ", "é", "b"), tokens="character")
    assert ids_of(tokenizer, " A\t  é ") == [[START, 4, 5, 6, END, 0, 0, 0]]
    assert round_trip(tokenizer, " A\t  éb ") == "a éb"


def test_a_batch_without_texts_and_texts_that_are_not_utf_8_have_ids():
    tokenizer = tokenizer_of(WORDS)
    assert tokenizer.ids(tf.zeros([0], tf.string)).shape == (0, 8)
    assert ids_of(tokenizer, b"a \xff\xfe cow")[0][0] == START
    characters = tokenizer_of(("a",), tokens="character")
    assert ids_of(characters, b"a\xff")[0][:4] == [START, 4, 1, END]


# Texts -------------------------------------------------------------------------


def test_a_text_ends_at_the_first_end():
    tokenizer = tokenizer_of(WORDS)
    ids = [[START, 4, 5, END, 6, END], [END, 4, 0, 0, 0, 0], [4, 1, 0, 5, 5, 5]]
    texts = tokenizer.texts(tf.constant(ids)).numpy().tolist()
    assert texts == [b"a cow", b"", b"a cow cow cow"]


@pytest.mark.parametrize(
    "text",
    [
        "a red, red cow!",
        "a cow's (red)",
        "it's rock-and-roll; yes...",
        "[a] {b} x/y",
        "l’été, 50 %.",
        'he said "hi" to "me"',
        "it costs $3.50, #1 of 1,000,000 at 10:30",
        "in 2019, 300 cows, 3.5.2020",
        "the boys' or girls' room",
        "don't! the dogs' tails, o'clock",
        "一个红色的圆。日本の赤い カメラ、赤",
    ],
)
def test_marks_are_written_as_in_a_sentence(text):
    words = split_text(tf.constant([text]), "word").to_list()[0]
    vocabulary = tuple(sorted({word.decode() for word in words}))
    result = round_trip(tokenizer_of(vocabulary, max_tokens=30), text)
    assert result == text.replace(" %", "%")


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["a", "cow", "red", "café"]), max_size=6))
def test_words_of_the_vocabulary_are_written_as_they_were_read(words):
    tokenizer = tokenizer_of(WORDS)
    text = " ".join(words)
    assert round_trip(tokenizer, f" {text.upper()}  ") == text


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["red", "redder", "cow", "cows", "a"]), max_size=6))
def test_words_of_pieces_are_written_as_they_were_read(words):
    tokenizer = tokenizer_of(PIECES, tokens="wordpiece", max_tokens=20)
    text = " ".join(words)
    assert round_trip(tokenizer, text) == text


@settings(max_examples=25)
@given(st.text("ab é.’-", max_size=8))
def test_characters_are_written_as_they_were_read(text):
    tokenizer = tokenizer_of(tuple("ab é.’-"), tokens="character", max_tokens=9)
    assert round_trip(tokenizer, text) == " ".join(text.split())


@settings(max_examples=25)
@given(st.text(max_size=12), st.sampled_from(["word", "wordpiece", "character"]))
def test_a_text_that_was_written_has_its_own_ids(text, tokens):
    tokenizer = tokenizer_of(WORDS, tokens=tokens, max_tokens=20)
    once = round_trip(tokenizer, text)
    assert round_trip(tokenizer, once) == once


# Statistics --------------------------------------------------------------------

LABELS = {"a red cow": 3, "red": 1, "a cow.|A cow": 2, "green": 1}


def test_the_vocabulary_begins_with_the_words_of_most_rows():
    texts = measure_texts(LABELS, GenerateConfig())
    assert texts.vocabulary == ("a", "cow", "red", ".", "green")
    assert (texts.longest, texts.most_frequent) == (3, "a red cow")
    few = measure_texts(LABELS, GenerateConfig(vocab_size=2))
    assert few.vocabulary == ("a", "cow")
    # "red" 4 times, "green" once and the mark of "a cow." 2 times, of 21 tokens.
    assert texts.unknown_share == 0 and few.unknown_share == 7 / 21


def test_each_reference_is_a_text_of_its_row():
    texts = measure_texts({"x y|z": 2, "z": 1}, GenerateConfig())
    assert texts.most_frequent == "z" and texts.vocabulary == ("z", "x", "y")
    assert split_references("x y|z") == ["x y", "z"]
    assert split_references("") == []


@settings(max_examples=25)
@given(st.permutations(list(LABELS)))
def test_the_order_of_the_labels_does_not_matter(order):
    labels = {label: LABELS[label] for label in order}
    for tokens in ("word", "character"):
        config = GenerateConfig(tokens=tokens)
        assert measure_texts(labels, config) == measure_texts(LABELS, config)


def test_the_longest_text_is_counted_in_tokens_of_its_kind(tmp_path):
    config = GenerateConfig(tokens="character")
    texts = measure_texts({"ab c": 1}, config)
    assert texts.longest == 4 and set(texts.vocabulary) == set("ab c")
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", *PIECES, ""]))
    config = GenerateConfig(tokens="wordpiece", vocab_file=str(path))
    texts = measure_texts({"redder cows": 1}, config)
    assert texts.longest == 4 and texts.vocabulary == PIECES
    texts = measure_texts({"redder dogs": 1}, config)
    assert (texts.longest, texts.unknown_share) == (3, 1 / 3)


def test_a_vocabulary_file_of_words_is_read_in_its_order(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("Cow\n\n a \r\ncow\nred\n", encoding="utf-8")
    config = GenerateConfig(vocab_file=str(path))
    assert measure_texts(LABELS, config).vocabulary == ("cow", "a", "red")


def test_special_pieces_of_a_vocabulary_file_are_no_tokens_of_a_text(tmp_path):
    path = tmp_path / "vocab.txt"
    special = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    path.write_text("\n".join([*special, "[", "]", *PIECES, ""]))
    config = GenerateConfig(tokens="wordpiece", vocab_file=str(path))
    texts = measure_texts({"redder cows": 1}, config)
    assert texts.vocabulary == ("[", "]", *PIECES)


@pytest.mark.parametrize("tokens", ["word", "wordpiece"])
def test_a_vocabulary_file_that_cannot_be_read_is_named(tokens, tmp_path):
    config = GenerateConfig(tokens=tokens, vocab_file=str(tmp_path / "gone.txt"))
    with pytest.raises(UserError, match="generate.vocab_file='.*gone.txt'"):
        measure_texts(LABELS, config)
    path = tmp_path / "empty.txt"
    path.write_bytes(b"\n\n")
    config = replace(config, vocab_file=str(path))
    with pytest.raises(UserError, match="generate.vocab_file=.*one (word|piece) per"):
        measure_texts(LABELS, config)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(UserError, match="generate.vocab_file="):
        measure_texts(LABELS, config)


def state_of(longest):
    texts = TextStatistics(vocabulary=("a",), longest=longest, most_frequent="a")
    return PreprocessingState(
        branches={}, columns={}, task="generate", classes=(), class_rows=(), texts=texts
    )


@pytest.mark.parametrize(
    ("longest", "expected"), [(7, 7), (0, 1), (MAX_TOKENS + 9, MAX_TOKENS)]
)
def test_auto_is_the_length_of_the_longest_text(longest, expected):
    config = Config(task="generate")
    assert with_text_length(config, state_of(longest)).generate.max_tokens == expected


def test_a_number_of_tokens_is_kept_and_so_are_other_tasks():
    config = Config(task="generate", generate=GenerateConfig(max_tokens=3))
    assert with_text_length(config, state_of(9)) is config
    assert with_text_length(Config(), replace(state_of(9), texts=None)) == Config()


@pytest.mark.parametrize("text", ["at 5:30", "3.5 metres", "two, or three."])
def test_numbers_keep_their_points(text):
    words = sorted(set("at 5 : 30 3 . metres two , or three".split()))
    tokenizer = TargetTokenizer(GenerateConfig(max_tokens=8), words)
    (result,) = tokenizer.texts(tokenizer.ids(tf.constant([text]))).numpy()
    assert result.decode() == text
