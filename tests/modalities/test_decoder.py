import numpy as np
import pytest
import tensorflow as tf

from mmkeras.config import AudioConfig, ImageConfig
from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.decoder import Decoder
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.image.column import Image
from tests import table_factory


def test_a_function_of_the_graph_is_traced_once():
    calls = []
    decode = Decoder(lambda data: calls.append(1) or tf.strings.length(data), "text")
    assert [decode(data).item() for data in (b"", b"moo")] == [0, 3]
    assert calls == [1]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (table_factory.image(kind="JPEG")[:200], "truncated or damaged JPEG"),
        (table_factory.image()[:60], "truncated or damaged PNG"),
        (b"moo", "the image cannot be decoded"),
    ],
)
def test_the_reason_names_the_format_if_it_is_known(data, reason):
    decode = Image("cat", ImageConfig(size_px=32)).decoder
    with pytest.raises(Unreadable, match=reason) as error:
        decode(data)
    assert "\n" not in str(error.value) and "{{" not in str(error.value)


def test_the_reason_names_the_medium():
    with pytest.raises(Unreadable, match="^the audio cannot be decoded: "):
        Audio("moo", AudioConfig()).decoder(b"RIFF broken")


def test_media_become_the_numbers_of_the_graph():
    pixels = Image("cat", ImageConfig(size_px=32)).decoder(table_factory.image())
    assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
    assert (pixels == (220, 30, 40)).all()
    wave = Audio("moo", AudioConfig()).decoder(table_factory.tone(440))
    assert wave.shape == (3200,) and wave.dtype == np.float32
    assert np.abs(wave).max() == pytest.approx(0.5, abs=0.01)
