"""Tests of the splitting of texts, against the reference's own code."""

import unicodedata

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkeras.modalities.text.characters import WordSplitter

tokenizers = pytest.importorskip("tokenizers")
KINDS = [(False, False), (True, True), (False, True)]
SPLITTERS = {kind: WordSplitter(*kind) for kind in KINDS}


def reference(keep_case, keep_accents):
    normalizer = tokenizers.normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=True,
        strip_accents=not keep_accents,
        lowercase=not keep_case,
    )
    split = tokenizers.pre_tokenizers.BertPreTokenizer().pre_tokenize_str

    def call(text):
        return [word for word, _ in split(normalizer.normalize_str(text))]

    return call


def words_of(texts, kind):
    ragged = SPLITTERS[kind](tf.constant(texts, tf.string)).to_list()
    return [[word.decode() for word in row] for row in ragged]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Cows, COWS!", ["cows", ",", "cows", "!"]),
        ("日本 語", ["日", "本", "語"]),
        ("a\u00a0b\x00c\u200bd\n", ["a", "bcd"]),
        ("don't", ["don", "'", "t"]),
        ("Café, Über, 한", ["cafe", ",", "uber", ",", "한"]),
        ("[CLS] a", ["[", "cls", "]", "a"]),
        ("  ", []),
    ],
)
def test_words_of_an_uncased_model(text, words):
    decomposed = unicodedata.normalize("NFD", "한")
    words = [word.replace("한", decomposed) for word in words]
    assert words_of([text], (False, False)) == [words]


@pytest.mark.parametrize("kind", KINDS)
def test_each_assigned_character_is_split_as_the_reference_does_it(kind):
    codes = [
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")
    ]
    texts = [f"a{chr(code)}b" for code in codes]
    split = reference(*kind)
    differing = [
        text
        for start in range(0, len(texts), 50_000)
        for text, words in zip(
            texts[start : start + 50_000],
            words_of(texts[start : start + 50_000], kind),
            strict=True,
        )
        if words != split(text)
    ]
    assert differing == []


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=100)
@given(text=st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=20))
def test_any_text_is_split_as_the_reference_does_it(kind, text):
    # The reference sorts several marks of one letter, which is dropped with them or
    # rare; here they keep their order.
    sorted_text = unicodedata.normalize("NFD", text)
    if unicodedata.normalize("NFC", sorted_text) == text or kind[1]:
        assert words_of([text], kind) == [reference(*kind)(text)]


def test_bytes_that_are_no_utf8_are_dropped():
    (words,) = SPLITTERS[False, False](tf.constant([b"a\xffb c"])).to_list()
    assert words == [b"ab", b"c"]
