"""Pieces of words: the vocabularies of BERT."""

from collections.abc import Iterable

from mmkeras.errors import UserError
from mmkeras.files import read_text
from mmkeras.modalities.preprocessing_state import RESERVED

# Special pieces: an unknown word, and the ends of a text.
UNKNOWN_PIECE, END_PIECES = "[UNK]", ("[CLS]", "[SEP]")
_PADDING_PIECE = "[PAD]"
CONTINUATION = "##"  # prefix of a piece that is not the start of a word


def read_pieces(path: str, name: str) -> tuple[str, ...]:
    """Reads a vocab.txt of BERT: one piece per line, from token id `RESERVED` on.

    `name` is the setting with its value, for errors.

    Raises:
        UserError: The file cannot be read, or is no such vocabulary.
    """
    try:
        lines = [line.rstrip("\r") for line in read_text(path).split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{name} has no readable vocabulary: {error}.") from None
    return check_pieces(lines[:-1] if lines[-1] == "" else lines, name)


def check_pieces(pieces: list[str], name: str) -> tuple[str, ...]:
    """Returns the pieces of a vocabulary of BERT from token id `RESERVED` on.

    Raises:
        UserError: It is no such vocabulary.
    """
    unknown = pieces.index(UNKNOWN_PIECE) if UNKNOWN_PIECE in pieces else 0
    if pieces[:1] != [_PADDING_PIECE] or not unknown or len(set(pieces)) < len(pieces):
        raise UserError(
            f"{name} must have a vocabulary with one piece per line, each once: "
            f"'{_PADDING_PIECE}' first, and '{UNKNOWN_PIECE}'."
        )
    second = pieces[1]
    if second != UNKNOWN_PIECE and not second.startswith("[unused"):
        raise UserError(
            f"{name} has '{second}' as the second piece of its vocabulary; it must be "
            f"'{UNKNOWN_PIECE}' or '[unused0]', as id 1 is for unknown words."
        )
    return tuple(pieces[RESERVED:])


def has_capitals(pieces: Iterable[str]) -> bool:
    """Whether pieces of words have capital letters, as those of cased models do."""
    return any(x != x.lower() for x in pieces if not x.startswith("["))


def longest_piece(vocabulary: tuple[str, ...]) -> int:
    """Returns the number of letters of the longest piece, at least 1."""
    return max([1, *(len(piece.removeprefix(CONTINUATION)) for piece in vocabulary)])
