from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.config import TextConfig
from mmkeras.errors import UserError
from mmkeras.modalities.preprocessing_state import MULTICLASS, PreprocessingState
from mmkeras.modalities.preprocessor import Preprocessor, with_vocabulary, with_widths
from mmkeras.modalities.text.features import token_table, tokenize
from mmkeras.modalities.text.wordpiece import (
    learn_pieces,
    longest_piece,
    read_pieces,
    split_words,
)
from tests import table_factory

PIECES = ("cow", "##s", "c", "##o", "##w", "the", "un", "##able", "##a", "do", ",")
TEXT = TextConfig(encoder="lstm", tokens="wordpiece", max_tokens=8)


def split(words, pieces=PIECES):
    """Pieces of each text, by the graph."""
    ragged = tf.ragged.constant([[w.encode() for w in row] for row in words], tf.string)
    table = token_table(list(pieces))
    graph = tf.function(split_words, autograph=False)
    found = graph(ragged, table, longest_piece(tuple(pieces)))
    return [[piece.decode() for piece in row] for row in found.to_list()]


def longest_first(word, pieces):
    """By definition: the longest piece there is, again and again."""
    found, rest = [], word
    while rest:
        for end in range(len(rest), 0, -1):
            piece = ("##" if found else "") + rest[:end]
            if piece in pieces:
                found.append(piece)
                rest = rest[end:]
                break
        else:
            return ["[UNK]"]
    return found if len(word) <= 100 else ["[UNK]"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cows"], ["cow", "##s"]),
        (["the", "cow"], ["the", "cow"]),
        (["unable", "dog", "cow"], ["un", "##able", "[UNK]", "cow"]),
        (["cowx"], ["[UNK]"]),  # a word is known wholly or not at all
        (["coo"], ["c", "##o", "##o"]),
        ([], []),
        (["cow" * 40], ["[UNK]"]),  # 120 letters
        (["c" + "o" * 99], ["c", *["##o"] * 99]),
    ],
)
def test_words_are_split_into_the_longest_pieces(words, expected):
    assert split([words, ["cow"]]) == [expected, ["cow"]]


letters = st.text("abé日🐄", min_size=1, max_size=7)
vocabularies = st.sets(
    st.tuples(st.booleans(), st.text("abé日🐄", min_size=1, max_size=3)), min_size=1
)


@settings(deadline=None, max_examples=60)
@given(vocabularies, st.lists(st.lists(letters, max_size=4), min_size=1, max_size=3))
def test_any_words_and_pieces_are_split_as_defined(vocabulary, rows):
    pieces = sorted({("##" if inside else "") + piece for inside, piece in vocabulary})
    expected = [[p for w in row for p in longest_first(w, set(pieces))] for row in rows]
    assert split(rows, pieces) == expected


def test_pieces_are_those_of_another_tokenizer():
    from mmkeras.modalities.kerashub import keras_hub

    theirs = keras_hub().tokenizers.WordPieceTokenizer(
        vocabulary=["[UNK]", *PIECES], lowercase=True, dtype="string"
    )
    text = "The COWS do, the unable cow!  coo, dog"
    ours = split_words(
        tokenize(tf.constant([text]), TEXT), token_table(list(PIECES)), 4
    )
    assert ours.to_list()[0] == [piece.encode() for piece in theirs(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cows, COWS!", ["cows", ",", "cows", "!"]),
        ("日本 語", ["日", "本", "語"]),
        ("a\u00a0b\x00c\n", ["a", "b", "c"]),
        ("don't 🐄", ["don", "'", "t", "🐄"]),
        ("  ", []),
    ],
)
def test_signs_and_chinese_letters_are_words_of_their_own(text, words):
    (found,) = tokenize(tf.constant([text]), TEXT).to_list()
    assert [word.decode() for word in found] == words


# Vocabularies -----------------------------------------------------------------


def test_learned_pieces_split_words_never_seen():
    stems = ["play", "walk", "talk", "look", "jump", "call", "work", "help", "ask"]
    words = [stem + end for stem in stems for end in ("ing", "ed", "s")]
    counts = {word.encode(): 1 for word in words}
    pieces = learn_pieces(counts, 100, 3)
    assert learn_pieces(dict(reversed(counts.items())), 100, 3) == pieces
    assert len(pieces) <= 100 and {"p", "##p", "##ing"} <= set(pieces)
    (found,) = split([["pawing"]], pieces)
    assert found == ["p", "##a", "##w", "##ing"]
    assert learn_pieces({}, 60, 2) == ("",)


def test_more_letters_than_pieces_leave_the_rarest_out():
    counts = {chr(0x4E00 + i).encode(): 1 + i for i in range(50)}
    pieces = learn_pieces(counts, 20, 1)
    assert 1 <= len(pieces) <= 20 and chr(0x4E00 + 49) in pieces


def vocabulary_file(folder, *lines):
    path = folder / "vocab.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


BERT = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "cow", "##s", "é")


def preprocessor(text):
    found = PreprocessingState(
        modalities=("text",), task=MULTICLASS, classes=(), class_rows=()
    )
    config = replace(table_factory.tiny_config(""), text=text)
    counts = {b"cows": 3, b"cow": 3}
    found = with_widths(with_vocabulary(found, counts, 3, text), config)
    return Preprocessor(config, found)


def test_numbers_are_the_lines_of_a_vocabulary_file(tmp_path):
    text = replace(TEXT, vocab_file=vocabulary_file(tmp_path, *BERT))
    inputs = preprocessor(text).text_input(tf.constant(["Cows dog é", "", "cow " * 20]))
    assert inputs.numpy().tolist() == [
        [3, 5, 6, 2, 7, 4, 0, 0],
        [3, 4, 0, 0, 0, 0, 0, 0],
        [3, *[5] * 6, 4],
    ]


def test_learned_pieces_have_numbers_and_no_ends():
    made = preprocessor(replace(TEXT, min_rows=1, vocab_size=50))
    vocabulary = made.state.vocabulary
    (row,) = made.text_input(tf.constant(["cow xyz"])).numpy()
    assert row[0] == 2 + vocabulary.index("cow") and row[1] == 1 and not row[2:].any()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "must have one piece a line"),
        (("cow", "[PAD]", "[UNK]"), r"must have one piece a line.*'\[PAD\]' first"),
        (("[PAD]", "cow"), r"and '\[UNK\]'"),
        (("[PAD]", "[UNK]", "cow", "cow"), "each once"),
        (("[PAD]", "cow", "[UNK]"), "has 'cow' in its second line"),
    ],
)
def test_a_file_that_is_no_vocabulary_is_refused(lines, message, tmp_path):
    with pytest.raises(UserError, match=message):
        read_pieces(vocabulary_file(tmp_path, *lines))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UserError, match="text.vocab_file='.*' cannot be read"):
        read_pieces(str(tmp_path / "no.txt"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": "wordpiece"}, "word or char with text.encoder=tfidf"),
        ({"encoder": "lstm", "vocab_file": "v"}, "empty with text.tokens=word"),
        (
            {"encoder": "lstm", "tokens": "wordpiece", "vocab_file": "v"}
            | {"max_tokens": 2},
            "text.max_tokens=2 is not possible: it must be at least 3",
        ),
    ],
)
def test_pieces_go_with_sequences_only(changes, message):
    with pytest.raises(UserError, match=message):
        TextConfig(**changes)


def test_a_text_of_a_million_words_is_cut_before_it_is_split():
    made = preprocessor(replace(TEXT, min_rows=1, vocab_size=50))
    (row,) = made.text_input(tf.constant(["cow " * 1_000_000])).numpy()
    assert len(row) == 8 and (row == row[0]).all()


def test_broken_and_empty_texts_are_split_as_well():
    made = preprocessor(replace(TEXT, min_rows=1, vocab_size=50))
    found = made.text_input(tf.constant([b"\xffcow", b"", b"\xff"])).numpy()
    assert found.shape == (3, 8) and not found[1].any()
    assert keras.backend.backend() == "tensorflow" and np.isfinite(found).all()
