import pytest

from mmkeras.modalities.heatmap import MIN_SCALE
from mmkeras.modalities.text import occlusion
from mmkeras.modalities.text.occlusion import colour_words, find_words, remove_words


@pytest.mark.parametrize(
    "text, words",
    [("Ein Löwe,  zwei", ["Ein", "Löwe,", "zwei"]), ("青い空 sky", [*"青い空", "sky"])],
)
def test_words_end_at_spaces_and_after_each_character_without_spaces(text, words):
    assert [text[a:b] for a, b in find_words(text)] == words


def test_each_word_is_removed_once():
    text = "Ein Löwe,  zwei"
    texts = [data.decode() for data in remove_words(text, find_words(text))]
    assert texts == ["Löwe,  zwei", "Ein   zwei", "Ein Löwe,"]


def test_the_number_of_words_is_limited():
    assert len(find_words("la " * 5000)) == occlusion.MAX_WORDS
    assert find_words(" \n ") == []


def effects_of(text, *effects):
    spans = find_words(text)
    return [
        {"word": text[start:end], "start": start, "effect": effect}
        for (start, end), effect in zip(spans, effects, strict=True)
    ]


def test_the_pieces_of_a_coloured_text_are_the_text():
    text = " Ein Löwe,  zwei\n"
    coloured = colour_words(text, effects_of(text, 0.2, -0.4, 0.0))
    pieces = coloured["pieces"]
    assert "".join(piece["text"] for piece in pieces) == text
    words = [(p["text"], p["share"]) for p in pieces if p["effect"] is not None]
    assert words == [("Ein", 0.5), ("Löwe,", -1.0), ("zwei", 0.0)]
    assert coloured["scale"] == 0.4 and coloured["limit"] == 0


def test_words_of_small_effects_stay_pale():
    coloured = colour_words("moo", effects_of("moo", 0.001))
    assert coloured["scale"] == MIN_SCALE and coloured["pieces"][1]["share"] == 0.05


def test_the_limit_of_words_is_named_if_it_is_reached():
    text = "la " * 5000
    effects = effects_of(text, *[0.1] * occlusion.MAX_WORDS)
    coloured = colour_words(text, effects)
    assert coloured["limit"] == occlusion.MAX_WORDS
    assert coloured["pieces"][-1]["text"].startswith(" la la")
