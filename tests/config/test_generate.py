import hypothesis.strategies as st
import pytest
from hypothesis import given

from mmkeras.config.generate import GenerateConfig
from mmkeras.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vocab_size": 0}, "generate.vocab_size=0 .* at least 1"),
        ({"max_tokens": 0}, "generate.max_tokens=0 .* at least 1"),
        ({"width": 0}, "generate.width=0 .* at least 1"),
        ({"width": 30}, "generate.width=30 .* a multiple of generate.heads=4"),
        ({"layers": 0}, "generate.layers=0 .* at least 1"),
        ({"heads": 0}, "generate.heads=0 .* at least 1"),
        ({"dropout": 1.0}, "generate.dropout=1.0 .* below 1"),
        ({"scheduled_sampling": 1.5}, "generate.scheduled_sampling=1.5 .* at most 1"),
        ({"beams": 0}, "generate.beams=0 .* at least 1"),
        ({"length_penalty": -1.0}, "generate.length_penalty=-1.0 .* at least 0"),
        ({"temperature": -0.1}, "generate.temperature=-0.1 .* at least 0"),
        ({"temperature": float("nan")}, "generate.temperature=nan .* at least 0"),
        ({"temperature": 1.0, "top_k": -1}, "generate.top_k=-1 .* at least 0"),
        ({"seed": -1}, "generate.seed=-1 .* at least 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        GenerateConfig(**settings)


@pytest.mark.parametrize("beams", [2, 5])
def test_several_beams_with_a_temperature_are_refused_with_both_remedies(beams):
    with pytest.raises(UserError) as error:
        GenerateConfig(beams=beams, temperature=0.7)
    message = str(error.value)
    assert f"generate.beams={beams}" in message
    assert "generate.temperature=0.7" in message
    assert "generate.beams to 1" in message and "generate.temperature to 0" in message


def test_the_most_probable_tokens_need_a_temperature():
    with pytest.raises(UserError, match="generate.top_k=5 .* 0 with .*temperature=0"):
        GenerateConfig(top_k=5)
    assert GenerateConfig(top_k=5, temperature=1.0).is_sampled
    assert not GenerateConfig().is_sampled


def test_characters_have_no_vocabulary_file():
    message = "generate.vocab_file=v.txt .* empty with generate.tokens=character"
    with pytest.raises(UserError, match=message):
        GenerateConfig(tokens="character", vocab_file="v.txt")
    for tokens in ("word", "wordpiece"):
        config = GenerateConfig(tokens=tokens, vocab_file="v.txt")
        assert config.vocab_file == "v.txt"


@given(st.integers(1, 300), st.integers(1, 16))
def test_only_the_transformer_needs_a_width_that_its_heads_divide(width, heads):
    settings = {"width": width, "heads": heads}
    assert GenerateConfig(decoder="lstm_attention", **settings).width == width
    if width % heads == 0:
        assert GenerateConfig(**settings).heads == heads
        return
    with pytest.raises(UserError, match=f"a multiple of generate.heads={heads}"):
        GenerateConfig(**settings)
