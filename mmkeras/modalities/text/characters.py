"""Splitting of texts into words and punctuation as BERT does it, in core ops."""

import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import tensorflow as tf

from mmkeras.modalities.text.ideographs import is_ideograph

_SPACES = frozenset("\t\n\r \xa0\u1680\u2028\u2029\u202f\u205f\u3000") | frozenset(
    map(chr, range(0x2000, 0x200B))
)
# Marks, punctuation and format characters that Unicode has added after version 8; the
# reference keeps them as if they were letters.
_ADDED = (
    "61D 7FD 890-8E2 9FD-9FE A76 AFA-AFF B55 C04-C3C C77 C84 D00 D3B-D3C D81 EBA ECE "
    "180F-1886 1ABF-1ACE 1B7D-1B7E 1DF6-1DFB 2E43-2E5D A82C A8C5 A8FF A9BD 10D24-10F89 "
    "11070-11074 110C2-110CD 111CF 1123E-11241 1133B 11438-1145E 11660-1166C "
    "116B9 1182F-1183B 11938 1193B-11FFF 12FF1-12FF2 13430-13455 16E97-16F4F "
    "16FE2-16FE4 1CF00-1CF46 1E000-1E4EF 1E944-1E95F"
)
# Marks and punctuation of ASCII and of version 8, which are none in later versions.
_MARKS = "\u1734"
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\u166d\U000111c9")
# What happens to a code point: unchanged, dropped, between spaces, or by the table.
_KEEP, _DROP, _ENCLOSE, _REPLACE = range(4)
_WIDTH = 3  # of the table: letters of a syllable of Hangul
# No code points between these ranges and after them are marks or letters with a case.
_RANGES = (range(0x30000), range(0xE0000, 0xE0200), range(0xF0000, 0xF0001))


class WordSplitter:
    """Graph function from (B,) texts to (B, L) ragged words, in core ops.

    Punctuation marks and ideographs are words of their own, and control characters are
    dropped. Without `keep_case` letters are lower-cased, and without `keep_accents`
    decomposed and the accents dropped.

    Source: Devlin et al., 2019, https://arxiv.org/abs/1810.04805, as Hugging Face's
    `tokenizers` has it, code point by code point; several marks of one letter keep
    their order.

    Example:
        >>> WordSplitter(keep_case=False, keep_accents=False)(["Über: 日本"]).to_list()
        [[b'uber', b':', b'\xe6\x97\xa5', b'\xe6\x9c\xac']]
    """

    def __init__(self, keep_case: bool, keep_accents: bool):
        table = _character_table(keep_case, keep_accents)
        self._starts, self._kinds, self._codes, self._results = table

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> "WordSplitter":
        """Returns the splitter of a column; earlier versions have neither setting."""
        return cls(state.get("keep_case", False), state.get("keep_accents", True))

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        flat = codes.flat_values  # (N,) int32
        start = tf.searchsorted(self._starts, flat, side="right") - 1
        kind = tf.gather(self._kinds, start)[:, None]  # (N, 1)
        index = tf.minimum(tf.searchsorted(self._codes, flat), len(self._codes) - 1)
        space, none = tf.fill(tf.shape(flat), ord(" ")), tf.fill(tf.shape(flat), -1)
        results = tf.gather(self._results, index)  # (N, 3), -1 is none
        for of_kind, columns in (
            (_KEEP, (none, flat, none)),
            (_DROP, (none, none, none)),
            (_ENCLOSE, (space, flat, space)),
        ):
            results = tf.where(kind == of_kind, tf.stack(columns, axis=1), results)
        exists = tf.reshape(results >= 0, [-1])
        letters = tf.RaggedTensor.from_value_rowids(
            tf.boolean_mask(tf.reshape(results, [-1]), exists),
            tf.boolean_mask(tf.repeat(codes.value_rowids(), _WIDTH), exists),
            codes.nrows(),
        )
        return tf.strings.split(tf.strings.unicode_encode(letters, "UTF-8"))


@lru_cache
def _character_table(keep_case: bool, keep_accents: bool) -> tuple[np.ndarray, ...]:
    """Returns the starts of runs of code points with one kind, (R,), and the kinds,
    (R,) int8; the code points of the kind "replace", (K,), and their results, (K, 3)
    with -1 in padding."""
    starts, kinds, codes, results = [], [], [], []
    for code in (code for codes in _RANGES for code in codes):
        character = chr(code)
        result = _convert(character, keep_case, keep_accents)
        kinds_of = {character: _KEEP, "": _DROP, f" {character} ": _ENCLOSE}
        kind = kinds_of.get(result, _REPLACE)
        if kind == _REPLACE:
            codes.append(code)
            results.append([*map(ord, result), *[-1] * (_WIDTH - len(result))])
        if not kinds or kinds[-1] != kind:
            starts.append(code)
            kinds.append(kind)
    return (
        np.array(starts, np.int32),
        np.array(kinds, np.int8),
        np.array(codes, np.int32),
        np.array(results, np.int32),
    )


def _convert(character: str, keep_case: bool, keep_accents: bool) -> str:
    """Returns what a character becomes, punctuation and ideographs between spaces."""
    code = ord(character)
    if character in _SPACES:
        return " "
    if code in _added_characters():
        return character
    if code in (0, 0xFFFD) or unicodedata.category(character) in ("Cc", "Cf", "Co"):
        return ""
    result = character
    if not keep_accents:
        parts = unicodedata.normalize("NFD", character)
        result = "".join(x for x in parts if not _is_mark(x))
    if not keep_case:
        result = "".join(x.lower() for x in result)
    if is_ideograph(character) or any(map(_is_punctuation, result)):
        return f" {result} "
    return result


def _is_mark(character: str) -> bool:
    if character in _PUNCTUATION:
        return False
    return unicodedata.category(character) == "Mn" or character in _MARKS


def _is_punctuation(character: str) -> bool:
    return character in _PUNCTUATION or unicodedata.category(character)[0] == "P"


@lru_cache
def _added_characters() -> frozenset[int]:
    ranges = (x.partition("-") for x in _ADDED.split())
    return frozenset(
        code
        for first, _, last in ranges
        for code in range(int(first, 16), int(last or first, 16) + 1)
    )
