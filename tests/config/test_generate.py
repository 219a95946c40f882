import hypothesis.strategies as st
import pytest
from hypothesis import given

from mmkeras.cli import build_config
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
        ({"beams": 9999}, "generate.beams=9999 .* at most 100"),
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


def generator(**values):
    return build_config({"preset": "small-captions", **values})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"fusion.kind": "gated"},
            ["fusion.kind=gated", "concat or cross_attention", "task=generate"],
        ),
        (
            {"fusion.kind": "mean_tokens"},
            ["fusion.kind=mean_tokens", "concat or cross_attention"],
        ),
        (
            {"ensemble.folds": 3},
            ["ensemble.folds", "task=generate", "Train one model"],
        ),
        (
            {"table.label": "warm,cold"},
            ["table.label=warm,cold", "2 columns", "Name that one"],
        ),
        ({"loss.image": 0.5}, ["loss.image=0.5", "must be 0", "task=generate"]),
        ({"loss.tabular": 0.5}, ["loss.tabular=0.5", "must be 0"]),
        (
            {"train.oversample": True, "train.class_weights": "none"},
            ["train.oversample=True", "must be false"],
        ),
        (
            {"train.class_weights": "effective"},
            ["train.class_weights=effective", "must be none", "has no classes"],
        ),
        (
            {"table.join_labels": True},
            ["table.join_labels=True", "must be false", "written as they are"],
        ),
        (
            {"loss.kind": "focal"},
            ["loss.kind=focal", "auto or cross_entropy with task=generate"],
        ),
        (
            {"train.monitor": "val_auc"},
            ["train.monitor=val_auc", "val_loss or val_accuracy"],
        ),
        (
            {"export.n_best": 3, "generate.beams": 2},
            ["export.n_best=3", "generate.beams=2", "Set generate.beams=3"],
        ),
        (
            {"export.n_best": 2, "generate.temperature": 0.7},
            ["export.n_best=2", "generate.temperature=0.7 draws one", "beams to 2"],
        ),
    ],
)
def test_what_a_generator_cannot_use_is_refused_with_a_remedy(values, words):
    with pytest.raises(UserError) as error:
        generator(**values)
    missing = [word for word in words if word not in str(error.value)]
    assert not missing, str(error.value)


def test_what_a_generator_can_use_is_not_refused():
    config = generator(
        **{
            "fusion.kind": "cross_attention",
            "export.n_best": 2,
            "generate.beams": 2,
            "loss.text_image": 0.5,
            "train.monitor": "val_accuracy",
        }
    )
    assert config.task == "generate" and config.takes_tokens
    assert config.generate.beams == 2


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("generate.beams", 3, "1 without --task generate"),
        ("generate.decoder", "lstm_attention", "transformer without --task generate"),
        ("generate.max_tokens", 9, "auto without --task generate"),
        ("export.n_best", 2, "0 without --task generate"),
    ],
)
def test_settings_of_a_decoder_need_the_task(name, value, allowed):
    with pytest.raises(UserError) as error:
        build_config({"preset": "small-concat", name: value})
    assert f"{name}={value}" in str(error.value) and allowed in str(error.value)
