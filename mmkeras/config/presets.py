"""Presets: named settings of models from the literature."""

from collections.abc import Callable
from dataclasses import replace

from mmkeras.config import (
    AudioConfig,
    AugmentConfig,
    Config,
    EnsembleConfig,
    FusionConfig,
    ImageConfig,
    TableConfig,
    TabularConfig,
    TextConfig,
    TrainConfig,
    VectorConfig,
)
from mmkeras.config.generate import GENERATE

# Default presets of the demo data sets: for classes, and for generated texts.
DEMO, CAPTIONS = "small-concat", "small-captions"
# Presets whose weights are fetched from hubs, unless flags give local folders.
PRETRAINED = ("pretrained-small", "pretrained", "best", "zero-shot")


def resnet50_concat() -> Config:
    """Returns the reference model: ResNet50, text 512 -> 256, audio 128 -> 64."""
    return Config()


def small_concat() -> Config:
    """Returns the reference model with a small CNN; trains on a CPU."""
    return Config(
        preset="small-concat",
        image=ImageConfig(encoder="small_cnn", size_px=64, weights="none"),
        # Augmentation would blur the histograms in this encoder's first layer.
        augment=AugmentConfig(
            crop=0, colour=0, spec_bands=0, spec_frames=0, word_dropout=0
        ),
        train=TrainConfig(patience=0, restore_best=False),
    )


def _small(preset: str, fusion: FusionConfig, **changes) -> Config:
    """Returns `small_concat` with another fusion."""
    return replace(small_concat(), preset=preset, fusion=fusion, **changes)


def _tokens(preset: str, fusion: FusionConfig, **changes) -> Config:
    """Returns encoders of token sequences: CNN positions, words, audio frames."""
    text = TextConfig(encoder="transformer", units=64, layers=1, dropout=0.2)
    encoders = {"text": text, "audio": AudioConfig(encoder="cnn")}
    return _small(preset, fusion, **{**encoders, **changes})


def cnn_lstm() -> Config:
    """Returns two convolutions for images and an LSTM for words, concatenated."""
    return _small(
        "cnn-lstm",
        FusionConfig(),
        image=ImageConfig(encoder="cnn", size_px=64, weights="none"),
        text=TextConfig(encoder="lstm", units=64, pooling="last", dropout=0.2),
    )


def cnn_rnn() -> Config:
    """Returns convolutions followed by an LSTM over the feature map."""
    encoder = {"encoder": "cnn_lstm", "pooling": "last"}
    image = ImageConfig(size_px=64, weights="none", **encoder)
    return _small("cnn-rnn", FusionConfig(), image=image)


def bert_vit() -> Config:
    """Returns BERT for word pieces and ViT for patches; mean of aligned tokens."""
    return _small(
        "bert-vit",
        FusionConfig(kind="mean_tokens", width=128),
        image=ImageConfig(encoder="kerashub_vit", size_px=64, weights="none"),
        text=TextConfig(encoder="bert", tokens="wordpiece", units=64, dropout=0.1),
        audio=AudioConfig(encoder="cnn"),
    )


def early() -> Config:
    """Returns early fusion: pixels, words and audio statistics without encoders."""
    return _small(
        "early",
        FusionConfig(layers=2),
        image=ImageConfig(encoder="pixels", size_px=64, weights="none"),
        text=TextConfig(units=0),
        audio=AudioConfig(units=0),
        vector=VectorConfig(units=0),
        tabular=TabularConfig(units=0),
    )


def linear() -> Config:
    """Returns the logistic regression that reports compare a model with."""
    return _small(
        "linear",
        FusionConfig(kind="linear", dropout=0, modality_dropout=0),
        image=ImageConfig(encoder="pixels", size_px=64, weights="none"),
        text=TextConfig(units=0, dropout=0),
        audio=AudioConfig(units=0, dropout=0),
        vector=VectorConfig(units=0, dropout=0),
        tabular=TabularConfig(units=0),
        train=TrainConfig(class_weights="none", label_smoothing=0),
    )


def small_captions() -> Config:
    """Returns small encoders and a small Transformer that writes texts, for a CPU."""
    return _tokens(
        CAPTIONS,
        FusionConfig(width=128, dropout=0.1, modality_dropout=0.1),
        task=GENERATE,
        audio=AudioConfig(encoder="gru"),  # the CNN learns speakers, not what they say
        # 36 places, 8 pixels of the demo data set's images apart.
        image=ImageConfig(encoder="small_cnn", size_px=96, weights="none", width=24),
        augment=AugmentConfig(crop=0.2, colour=0, word_dropout=0),
        train=TrainConfig(patience=0, restore_best=False),
    )


def pretrained_small() -> Config:
    """Returns small pretrained encoders, frozen: a minute on a CPU."""
    return Config(
        preset="pretrained-small",
        image=ImageConfig(encoder="efficientnet_lite0"),
        text=TextConfig(
            encoder="bert",
            weights="hf://sentence-transformers/all-MiniLM-L6-v2",
            max_tokens=128,
        ),
        fusion=FusionConfig(dropout=0.2),
        # `benchmarks.frozen_head` compares these with logistic regression.
        train=TrainConfig(
            patience=0, restore_best=False, label_smoothing=0, weight_decay=1.0
        ),
    )


def pretrained() -> Config:
    """Returns pretrained encoders of medium size, fine-tuned on a GPU."""
    small = pretrained_small()
    return replace(
        small,
        preset="pretrained",
        image=ImageConfig(encoder="convnextbase"),
        text=replace(small.text, weights="hf://google-bert/bert-base-uncased"),
        audio=AudioConfig(encoder="kerashub", weights="whisper_base_en"),
        train=replace(
            small.train, fine_tune_epochs=5, fine_tune_rate=2e-5, batch_size=64
        ),
    )


def zero_shot() -> Config:
    """Returns CLIP, which compares images with class names; nothing is trained."""
    return Config(
        preset="zero-shot",
        table=TableConfig(modalities="image"),
        image=ImageConfig(encoder="kerashub", weights="clip_vit_base_patch32"),
        fusion=FusionConfig(kind="zero_shot"),
    )


def best() -> Config:
    """Returns an ensemble of `pretrained-small` and models without its encoders."""
    members = "pretrained-small,interaction,low-rank,gated,linear"
    return replace(
        pretrained_small(),
        preset="best",
        # All members get it; 13 coefficients tell less of the speaker than 64 bands.
        audio=AudioConfig(encoder="mfcc_stats", mfccs=13, segments=3),
        ensemble=EnsembleConfig(presets=members),
    )


def _fused(build: Callable[..., Config], preset: str, **fusion) -> Callable[[], Config]:
    return lambda: build(preset, FusionConfig(**fusion))


PRESETS: dict[str, Callable[[], Config]] = {
    "resnet50-concat": resnet50_concat,
    "small-concat": small_concat,
    "small-captions": small_captions,
    "linear": linear,
    "pretrained-small": pretrained_small,
    "pretrained": pretrained,
    "best": best,
    "zero-shot": zero_shot,
    # Terms for each modality, each pair and all three.
    "interaction": _fused(_small, "interaction", kind="interaction"),
    "cnn-lstm": cnn_lstm,
    "cnn-rnn": cnn_rnn,
    "bert-vit": bert_vit,
    "early": early,
    # One classifier per modality, averaged with learned weights.
    "late": _fused(_small, "late", kind="late"),
    # Tokens of each modality attend to those of the others.
    "cross-attention": _fused(_tokens, "cross-attention", kind="cross_attention"),
    # Gated multimodal units: all inputs set each modality's weight.
    "gated": _fused(_small, "gated", kind="gated"),
    # Outer product of all modalities.
    "tensor-fusion": _fused(_small, "tensor-fusion", kind="tensor", width=16),
    # The outer product in low-rank factors, which is never computed.
    "low-rank": _fused(_small, "low-rank", kind="low_rank"),
    # One cross-modal Transformer per ordered pair of modalities.
    "mult": _fused(_tokens, "mult", kind="mult"),
}
