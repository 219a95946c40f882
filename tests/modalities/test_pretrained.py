from dataclasses import replace

import pytest

from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig
from mmkeras.config.presets import resnet50_concat, small_concat
from mmkeras.modalities import tf_hub
from mmkeras.modalities.image import applications
from mmkeras.modalities.image.applications import APPLICATIONS
from mmkeras.modalities.pretrained import fetch_pretrained


@pytest.fixture
def fetched(monkeypatch):
    names = []
    monkeypatch.setattr(applications, "fetch_imagenet", names.append)
    monkeypatch.setattr(tf_hub, "fetch", lambda *names_: names.append(names_))
    return names


def with_columns(config, **columns):
    return replace(config, columns=columns)


def test_the_weights_of_the_image_encoder_are_fetched(fetched):
    fetch_pretrained(resnet50_concat())
    assert fetched == [APPLICATIONS["resnet50"]]


def test_the_weights_of_each_column_of_images_are_fetched(fetched):
    small = {"type": "image", "encoder": "mobilenetv3"}
    columns = {"photo": "image", "logo": small, "sketch": small | {"weights": "none"}}
    fetch_pretrained(with_columns(resnet50_concat(), **columns))
    assert fetched == [APPLICATIONS["resnet50"], APPLICATIONS["mobilenetv3"]]


@pytest.mark.parametrize(
    "config",
    [
        with_columns(resnet50_concat(), text="text", audio="audio"),
        small_concat(),
        Config(image=ImageConfig(weights="none")),
        Config(image=ImageConfig(weights="a.h5")),
    ],
)
def test_nothing_is_fetched_that_is_not_used(config, fetched):
    fetch_pretrained(config)
    assert fetched == []


def test_modules_of_tf_hub_are_fetched(fetched):
    config = Config(
        text=TextConfig(encoder="hub", hub_handle="https://a/1"),
        audio=AudioConfig(encoder="hub", hub_handle="https://b/1"),
    )
    fetch_pretrained(with_columns(config, text="text", audio="audio"))
    assert fetched == [("https://a/1", "text"), ("https://b/1", "audio")]
    fetched.clear()
    fetch_pretrained(with_columns(config, audio="audio"))
    assert fetched == [("https://b/1", "audio")]
