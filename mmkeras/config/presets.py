"""Settings that runs start from, by name: each system that the literature has."""

from collections.abc import Callable
from dataclasses import replace

from mmkeras.config import (
    AudioConfig,
    AugmentConfig,
    Config,
    FusionConfig,
    ImageConfig,
    TextConfig,
    TrainConfig,
)


def resnet50_concat() -> Config:
    """The reference model: ResNet50, text 512 -> 256, audio 128 -> 64."""
    return Config()


def small_concat() -> Config:
    """The same text and audio branches beside a small CNN; trains on a CPU."""
    return Config(
        preset="small-concat",
        image=ImageConfig(encoder="small_cnn", size_px=64, weights="none"),
        # Parts of words say something of words that no training row has.
        text=TextConfig(tokens="char"),
        # Changed pictures blur the histograms that this encoder begins with.
        augment=AugmentConfig(
            crop=0, colour=0, spec_bands=0, spec_frames=0, word_dropout=0
        ),
        train=TrainConfig(patience=0, restore_best=False),
    )


def _small(preset: str, fusion: FusionConfig, **changes) -> Config:
    """The small encoders of one vector under another fusion."""
    return replace(small_concat(), preset=preset, fusion=fusion, **changes)


def _tokens(preset: str, fusion: FusionConfig) -> Config:
    """Encoders of token sequences: places of a small CNN, words, stretches of sound."""
    return _small(
        preset,
        fusion,
        text=TextConfig(encoder="transformer", units=64, layers=1, dropout=0.2),
        audio=AudioConfig(encoder="cnn"),
    )


def interaction() -> Config:
    """One term each for text, image, audio, their pairs and all three."""
    return _small("interaction", FusionConfig(kind="interaction"))


def cnn_lstm() -> Config:
    """Two convolutions for the picture, an LSTM over the words, concatenated."""
    return _small(
        "cnn-lstm",
        FusionConfig(),
        image=ImageConfig(encoder="cnn", size_px=64, weights="none"),
        text=TextConfig(encoder="lstm", units=64, pooling="last", dropout=0.2),
    )


def cnn_rnn() -> Config:
    """Convolutions whose map runs through an LSTM; a dense layer and the classifier."""
    return _small(
        "cnn-rnn",
        FusionConfig(),
        image=ImageConfig(
            encoder="cnn_lstm", size_px=64, weights="none", pooling="last"
        ),
    )


def bert_vit() -> Config:
    """Word pieces through BERT and patches through ViT, aligned; mean of both."""
    return _small(
        "bert-vit",
        FusionConfig(kind="mean_tokens", width=128),
        image=ImageConfig(encoder="kerashub_vit", size_px=64, weights="none"),
        text=TextConfig(encoder="bert", tokens="wordpiece", units=64, dropout=0.1),
        audio=AudioConfig(encoder="cnn"),
    )


def early() -> Config:
    """Small pixels, words and sound statistics joined before any encoding."""
    return _small(
        "early",
        FusionConfig(layers=2),
        image=ImageConfig(encoder="pixels", size_px=64, weights="none"),
        text=TextConfig(tokens="char", units=0),
        audio=AudioConfig(units=0),
    )


def late() -> Config:
    """A classifier a modality, averaged by learned weights."""
    return _small("late", FusionConfig(kind="late"))


def gated() -> Config:
    """Gated multimodal units: how much each modality counts depends on all."""
    return _small("gated", FusionConfig(kind="gated"))


def tensor_fusion() -> Config:
    """Outer product of all modalities."""
    return _small("tensor-fusion", FusionConfig(kind="tensor", width=16))


def low_rank() -> Config:
    """The outer product by low-rank factors, which never makes it."""
    return _small("low-rank", FusionConfig(kind="low_rank"))


def cross_attention() -> Config:
    """Each modality's tokens attend to those of the others."""
    return _tokens("cross-attention", FusionConfig(kind="cross_attention"))


def mult() -> Config:
    """A cross-modal Transformer for each ordered pair of modalities."""
    return _tokens("mult", FusionConfig(kind="mult"))


PRESETS: dict[str, Callable[[], Config]] = {
    "resnet50-concat": resnet50_concat,
    "small-concat": small_concat,
    "interaction": interaction,
    "cnn-lstm": cnn_lstm,
    "cnn-rnn": cnn_rnn,
    "bert-vit": bert_vit,
    "early": early,
    "late": late,
    "cross-attention": cross_attention,
    "gated": gated,
    "tensor-fusion": tensor_fusion,
    "low-rank": low_rank,
    "mult": mult,
}
