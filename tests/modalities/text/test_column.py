import numpy as np
import pytest

from mmkeras.config import TextConfig
from mmkeras.modalities import tf_hub
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.preprocessing_state import NO_TOKENS
from mmkeras.modalities.text.column import Text

FILES = FileReader("")
TITLE = Text("title", TextConfig(tokens="word", min_rows=2))
COUNTS = {b"cow": 3, b"moo": 2, b"rare": 1}


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["the cow", "a dog", "moo"], "texts of several words"),
        (["the cow", "moo", "woof"], ""),
        (["cow", "dog"], ""),
        (["2024-01-02", "12:30"], ""),
        (["images/a-1.png", "images/b-2.png"], ""),
        (["這是一隻狗", "牛"], "texts of several words"),
        ([b"the cow", 7, "a dog"], ""),
    ],
)
def test_a_column_of_several_words_is_recognised(cells, reason):
    assert Text.recognise(cells, FILES) == reason


@pytest.mark.parametrize(("cell", "count"), [("Grüße 🐄", 7), ("ab\n", 3)])
def test_a_text_has_its_characters_not_its_bytes(cell, count):
    content = TITLE.read(cell, FILES)
    assert content.data == content.digest == cell.encode()
    assert content.metadata == {"characters": count}
    assert not content.notes and not content.formats and not content.warning


@pytest.mark.parametrize("cell", [b"\xff", ("a", "\ud800"), "a\udc00"])
def test_what_has_no_form_in_utf_8_is_unreadable(cell):
    with pytest.raises(Unreadable, match="not UTF-8"):
        TITLE.read(cell, FILES)


def test_bytes_and_several_texts_are_one_text():
    assert TITLE.read("Grüße".encode(), FILES).data == "Grüße".encode()
    content = TITLE.read((b"the", "cow"), FILES)
    assert content.data == b"the cow" and content.metadata == {"characters": 7}


def test_bytes_that_are_not_utf8_are_unreadable():
    for cell in (b"\xff", (b"a", b"\xff")):
        with pytest.raises(Unreadable, match="not UTF-8"):
            TITLE.read(cell, FILES)


def test_a_text_without_a_word_has_a_warning_of_the_list():
    warning = TITLE.read("?! --", FILES).warning
    assert warning in Text.warnings and "no word" in warning


def test_a_client_sends_a_text_as_it_is():
    assert TITLE.prepare(b"\xff") == (b"\xff", ())


def test_the_training_rows_give_vocabulary_idf_and_width():
    assert TITLE.statistics().min_rows == 2
    (tokens,) = TITLE.statistics().tokens(["The cow"]).to_list()
    assert tokens == [b"the", b"cow"]
    state = TITLE.fit((COUNTS, 3))
    assert state["width"] == 2 and state["vocabulary"] == ["cow", "moo"]
    assert state["idf"] == pytest.approx([1, np.log(4 / 3) + 1])
    assert TITLE.input({"title": state}) == ((2,), "float32")


def test_a_sequence_is_as_wide_as_its_tokens():
    column = Text("title", TextConfig(encoder="gru", min_rows=2, max_tokens=9))
    state = column.fit((COUNTS, 3))
    assert state["width"] == 9 and state["vocabulary"] == ["cow", "moo"]
    assert column.input({"title": state}) == ((9,), "int32")


def test_rare_words_may_have_common_pieces():
    text = TextConfig(encoder="lstm", tokens="wordpiece", min_rows=5)
    assert Text("title", text).statistics().min_rows == 1


def test_a_hub_module_has_a_width_and_no_statistic(monkeypatch):
    handles = []
    monkeypatch.setattr(tf_hub, "hub_text_width", lambda h: handles.append(h) or 3)
    column = Text("title", TextConfig(encoder="hub", hub_handle="https://a/1"))
    assert column.statistics() is None and column.fit(None) == {"width": 3}
    assert handles == ["https://a/1"]


def test_a_vocabulary_without_tokens_has_a_warning():
    assert "column 'title' is in text.min_rows=2" in TITLE.warn_unused(
        TITLE.fit(({b"rare": 1}, 3))
    )
    assert TITLE.fit(({}, 3))["vocabulary"] == list(NO_TOKENS)
    assert TITLE.warn_unused(TITLE.fit((COUNTS, 3))) == ""
    assert TITLE.warn_unused({"width": 3}) == ""


def test_settings_and_the_pieces_of_a_file_decide_what_is_fitted(tmp_path):
    path = tmp_path / "vocab.txt"
    text = TextConfig(encoder="lstm", tokens="wordpiece", vocab_file=str(path))
    path.write_text("[PAD]\n[UNK]\ncow\n")
    before = Text("title", text).fit_key()
    assert Text("other", text).fit_key() == before != TITLE.fit_key()
    path.write_text("[PAD]\n[UNK]\ndog\n")
    assert Text("title", text).fit_key() != before


def test_each_word_is_explained_and_drawn():
    def effects(texts):
        assert list(texts) == [b"cow", b"The"]
        return np.array([0.0, 0.5])

    explained = TITLE.explain(b"The cow", effects)
    assert explained == [
        {"word": "The", "start": 0, "effect": 0.0},
        {"word": "cow", "start": 4, "effect": 0.5},
    ]
    picture = TITLE.draw(b"The cow", explained)
    assert picture["kind"] == "words" and picture["scale"] == 0.5
    assert "".join(piece["text"] for piece in picture["pieces"]) == "The cow"


def test_a_text_without_words_has_no_effects():
    assert TITLE.explain(b" ", None) == []


def test_a_text_is_its_preview():
    assert TITLE.preview(b"moo \xff") == {"kind": "text", "content": "moo \ufffd"}


def test_the_highest_level_of_noise_drops_all_words():
    first, *_, last = Text.noise_levels
    assert TITLE.corrupt(b"the cow", first, [1]) == b"the cow"
    assert TITLE.corrupt(b"the cow", last, [1]) == b""


def test_linear_features_of_token_ids_are_counts_of_all_tokens_but_padding():
    column = Text("title", TextConfig(encoder="gru", max_tokens=4))
    state = {"title": {"width": 4, "vocabulary": ["cow", "moo"]}}
    features = column.linear_features(np.array([[2, 3, 3, 1], [2, 0, 0, 0]]), state)
    assert features == pytest.approx(np.log1p([[1, 1, 2], [0, 1, 0]]))
    vectors = np.ones((2, 5))
    assert TITLE.linear_features(vectors, {}) is vectors
