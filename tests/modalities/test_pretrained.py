from dataclasses import replace

import pytest

from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig, image
from mmkeras.config.presets import pretrained_small, resnet50_concat, small_concat
from mmkeras.errors import UserError
from mmkeras.modalities import pretrained, tf_hub
from mmkeras.modalities.image import applications, efficientnet_lite
from mmkeras.modalities.image.applications import APPLICATIONS
from mmkeras.modalities.pretrained import fetch_pretrained

LITE0 = ImageConfig(encoder="efficientnet_lite0")
LITE0_FILE = replace(LITE0, weights="lite.pth")


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


def test_the_weights_of_lite0_are_fetched(monkeypatch):
    names = []
    monkeypatch.setattr(efficientnet_lite, "find_lite0", names.append)
    fetch_pretrained(with_columns(Config(image=LITE0), photo="image"))
    fetch_pretrained(with_columns(Config(image=LITE0_FILE), photo="image"))
    assert names == ["imagenet", LITE0_FILE.weights]


def test_a_folder_without_a_preset_is_refused_before_the_rows_are_read(tmp_path):
    image = ImageConfig(encoder="kerashub", weights=str(tmp_path))
    with pytest.raises(UserError, match="is a folder without config.json"):
        fetch_pretrained(Config(image=image))


def test_models_of_hubs_are_fetched_for_columns_of_the_table(monkeypatch):
    names = []
    monkeypatch.setattr(pretrained, "find_model", lambda *name: names.append(name))
    monkeypatch.setattr(image, "find_spec", lambda name: None)
    config = pretrained_small()
    assert pretrained.has_handles(config) and not pretrained.has_handles(small_concat())
    pretrained.fetch_handles(with_columns(config, title={"type": "text"}, x="numeric"))
    assert names == [("text.weights", config.text.weights)]
    pretrained.fetch_handles(with_columns(config, photo={"type": "image"}))
    assert names[1:] == [("image.weights", "hf://timm/tf_efficientnet_lite0.in1k")]
