import pytest

from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig
from mmkeras.config.presets import resnet50_concat, small_concat
from mmkeras.modalities import pretrained, tf_hub
from mmkeras.modalities.image.applications import APPLICATIONS
from mmkeras.modalities.pretrained import fetch_pretrained
from mmkeras.schema import MODALITIES


@pytest.fixture
def fetched(monkeypatch):
    names = []
    monkeypatch.setattr(pretrained, "fetch_imagenet", names.append)
    monkeypatch.setattr(tf_hub, "fetch", lambda *names_: names.append(names_))
    return names


def test_the_weights_of_the_image_encoder_are_fetched(fetched):
    fetch_pretrained(resnet50_concat(), MODALITIES)
    assert fetched == [APPLICATIONS["resnet50"]]


@pytest.mark.parametrize(
    ("config", "modalities"),
    [
        (resnet50_concat(), ("text", "audio")),
        (small_concat(), MODALITIES),
        (Config(image=ImageConfig(weights="none")), MODALITIES),
        (Config(image=ImageConfig(weights="a.h5")), MODALITIES),
    ],
)
def test_nothing_is_fetched_that_is_not_used(config, modalities, fetched):
    fetch_pretrained(config, modalities)
    assert fetched == []


def test_modules_of_tf_hub_are_fetched(fetched):
    config = Config(
        text=TextConfig(encoder="hub", hub_handle="https://a/1"),
        audio=AudioConfig(encoder="hub", hub_handle="https://b/1"),
    )
    fetch_pretrained(config, ("text", "audio"))
    assert fetched == [("https://a/1", "text"), ("https://b/1", "audio")]
    fetched.clear()
    fetch_pretrained(config, ("audio",))
    assert fetched == [("https://b/1", "audio")]
