import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities.text import wordpiece
from mmkeras.modalities.text.features import token_table
from mmkeras.modalities.text.pieces import longest_piece

PIECES = ("cow", "##s", "c", "##o", "##w", "the", "un", "##able", "##a", "do", ",")


def split(rows, pieces=PIECES, in_graph=False):
    table, longest = token_table(list(pieces)), longest_piece(tuple(pieces))
    encoded = [[word.encode() for word in row] for row in rows]
    words = tf.ragged.constant(encoded, tf.string, ragged_rank=1)
    run = (
        tf.function(wordpiece.split_words, autograph=False)
        if in_graph
        else wordpiece.split_words
    )
    result = run(words, table, longest)
    return [[piece.decode() for piece in row] for row in result.to_list()]


def split_by_definition(word, pieces):
    """Takes the longest piece, again and again."""
    result, rest = [], word
    while rest:
        prefix = "##" if result else ""
        ends = (n for n in range(len(rest), 0, -1) if prefix + rest[:n] in pieces)
        end = next(ends, None)
        if end is None:
            return ["[UNK]"]
        result.append(prefix + rest[:end])
        rest = rest[end:]
    return result


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["unable", "dog", "cow"], ["un", "##able", "[UNK]", "cow"]),
        (["cow" * 40], ["[UNK]"]),  # 120 letters
        (["c" + "o" * 99], ["c", *["##o"] * 99]),
    ],
)
def test_words_are_split_into_the_longest_pieces(words, expected):
    assert split([words, ["cow"]], in_graph=True) == [expected, ["cow"]]


LETTERS = "abé日🐄"
WORDS = st.text(LETTERS, min_size=1, max_size=7)
PIECE = st.tuples(st.sampled_from(["", "##"]), st.text(LETTERS, min_size=1, max_size=3))
ROWS = st.lists(st.lists(WORDS, max_size=4), min_size=1, max_size=3)


@settings(deadline=None, max_examples=60)
@given(vocabulary=st.sets(PIECE.map("".join), min_size=1), rows=ROWS)
def test_any_words_and_pieces_are_split_as_defined(vocabulary, rows):
    expected = [
        [p for w in row for p in split_by_definition(w, vocabulary)] for row in rows
    ]
    assert split(rows, sorted(vocabulary)) == expected


# Vocabularies -----------------------------------------------------------------


def test_learned_pieces_split_new_words():
    stems = ["play", "walk", "talk", "look", "jump", "call", "work", "help", "ask"]
    words = [stem + end for stem in stems for end in ("ing", "ed", "s")]
    counts = {word.encode(): 1 for word in words}
    pieces = wordpiece.learn_pieces(counts, 100, 3)
    assert wordpiece.learn_pieces(dict(reversed(counts.items())), 100, 3) == pieces
    assert len(pieces) <= 100 and {"p", "##p", "##ing"} <= set(pieces)
    assert split([["pawing"]], pieces) == [["p", "##a", "##w", "##ing"]]
    assert wordpiece.learn_pieces({}, 60, 2) == ("",)


def test_more_letters_than_pieces_leave_the_rarest_out():
    counts = {chr(0x4E00 + i).encode(): 1 + i for i in range(50)}
    pieces = wordpiece.learn_pieces(counts, 20, 1)
    assert 1 <= len(pieces) <= 20 and chr(0x4E00 + 49) in pieces
