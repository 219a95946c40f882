from mmkeras.config import TextConfig
from mmkeras.modalities.text import wordpiece
from mmkeras.modalities.text.vocabulary import fit_vocabulary
from mmkeras.modalities.vocabulary import choose_vocabulary

COUNTS = {b"cows": 3, b"cow": 2, b"dog": 1}


def test_settings_limit_the_vocabulary_of_words():
    text = TextConfig(tokens="word", vocab_size=2, min_rows=1)
    assert fit_vocabulary(COUNTS, 3, text)[0] == ("cows", "cow")
    rare = TextConfig(tokens="word", vocab_size=9, min_rows=3)
    assert fit_vocabulary(COUNTS, 3, rare) == choose_vocabulary(COUNTS, 3, 9, 3)


def test_pieces_are_learned_and_have_no_idf():
    text = TextConfig(encoder="lstm", tokens="wordpiece", min_rows=1, vocab_size=20)
    pieces, idf = fit_vocabulary(COUNTS, 3, text)
    assert pieces == wordpiece.learn_pieces(COUNTS, 20, 1) != ("",)
    assert idf == (1.0,) * len(pieces)
