import numpy as np
import pytest

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.audio.wav import wav_format
from mmkeras.modalities.column import FileReader
from mmkeras.modalities.file import Unreadable
from tests import table_factory

SETTINGS = AudioConfig(clip_s=0.5, bands=16, mfccs=8)
CALL = Audio("call", SETTINGS)
WAV, FLAC = table_factory.tone(), table_factory.tone(kind="FLAC")


@pytest.fixture
def files(tmp_path):
    (tmp_path / "a.wav").write_bytes(WAV)
    (tmp_path / "b.flac").write_bytes(FLAC)
    return FileReader(tmp_path)


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (["a.wav", "b.flac"], "paths of audio"),
        ([WAV, FLAC], "content of audio"),
        (["a.png", "b.png"], ""),
        ([table_factory.image()], ""),
        (["the cow"], ""),
    ],
)
def test_a_column_of_audio_is_recognised(cells, reason, files):
    assert Audio.recognise(cells, files) == reason


def test_audio_of_the_rate_of_the_model_is_kept_with_its_properties(files):
    content = CALL.read("a.wav", files)
    assert content.data == content.digest == WAV
    assert content.metadata == {
        "seconds": 0.2,
        "rate_hz": 16_000,
        "channels": 1,
        "clipped": 0.0,
        "silent": 0.0,
    }
    assert not content.notes and not content.warning and not content.formats


def test_other_rates_and_formats_become_waves_of_the_model(files):
    stereo = table_factory.tone((440, 440), rate_hz=44_100)
    content = CALL.read(stereo, files)
    assert content.digest == stereo and wav_format(content.data).rate_hz == 16_000
    assert content.metadata["rate_hz"] == 44_100
    assert content.metadata["channels"] == 2
    np.testing.assert_allclose(
        CALL.decoder(content.data), CALL.decoder(stereo), atol=1e-6
    )
    flac = CALL.read("b.flac", files)
    assert flac.digest == FLAC and flac.data == CALL.prepare(FLAC)[0] != FLAC
    np.testing.assert_allclose(CALL.decoder(flac.data), CALL.decoder(WAV), atol=1e-4)


def test_a_fault_of_a_file_that_is_read_is_a_note(files):
    faulty = table_factory.faulty_tone()
    content = CALL.read(faulty, files)
    assert content.data == WAV and len(content.notes) == 1
    assert CALL.prepare(faulty) == (WAV, content.notes)


def test_silence_has_a_warning_of_the_list(files):
    warning = CALL.read(table_factory.tone(0), files).warning
    assert warning in Audio.warnings and "silent" in warning


@pytest.mark.parametrize("cell", [WAV[:60], b"moo", "gone.wav"])
def test_audio_that_cannot_be_read_is_unreadable(cell, files):
    with pytest.raises(Unreadable):
        CALL.read(cell, files)


def test_settings_that_change_the_stored_bytes_are_part_of_the_key():
    def key(**settings):
        return Audio("call", AudioConfig(**settings)).read_key()

    assert key(rate_hz=16_000) != key(rate_hz=32_000)
    assert key(clip_s=1.0) != key(clip_s=2.0)
    assert key(bands=8, mfccs=8) == key(bands=16, mfccs=8)


@pytest.mark.parametrize(
    ("encoder", "width", "is_sequence", "shape"),
    [
        ("log_mel_stats", 32, False, (32,)),
        ("mfcc_stats", 16, False, (16,)),
        ("mfcc_stats segments=2", 32, False, (32,)),
        ("cnn", 16, True, (48, 16)),
        ("gru", 8, True, (48, 8)),
    ],
)
def test_the_training_rows_give_a_scale_of_the_features(
    encoder, width, is_sequence, shape
):
    encoder, _, segments = encoder.partition(" segments=")
    settings = AudioConfig(
        encoder=encoder, clip_s=0.5, bands=16, mfccs=8, segments=int(segments or 1)
    )
    column = Audio("call", settings)
    statistic = column.statistics()
    assert (statistic.width, statistic.is_sequence) == (width, is_sequence)
    vector = statistic.vector(WAV).numpy()
    assert vector.shape == ((18, width) if is_sequence else (width,))

    state = column.fit((np.full(width, 2.0), np.full(width, 3.0)))
    scale = {"mean": [2.0] * width, "deviation": [3.0] * width}
    assert state == {"width": width, **scale}
    assert column.input({"call": state}) == (shape, "float32")
    assert column.fit(None)["deviation"] == [1.0] * width


def test_a_pretrained_encoder_has_waves_and_no_statistic():
    column = Audio(
        "call", AudioConfig(encoder="hub", hub_handle="a", clip_s=0.5, segments=3)
    )
    assert column.statistics() is None and column.fit(None) == {}
    assert column.input({"call": {}}) == ((8001,), "float32")
    assert column.is_frozen and not CALL.is_frozen
    waves = np.zeros((2, 8001), "float32")
    waves[0, :3201] = [3200, *CALL.decoder(WAV)]
    features = column.file_features(waves, {})
    assert features.shape == (2, 128) and not np.allclose(*features)


def test_bands_and_times_are_explained_and_drawn():
    entire = CALL.decoder(WAV).std()

    def effects(contents):
        return np.array([entire - CALL.decoder(data).std() for data in contents])

    explained = CALL.explain(WAV, effects)
    values, edges_hz = np.array(explained["effects"]), explained["band_edges_hz"]
    assert values.shape[0] == len(edges_hz) - 1 == 8
    band = int(values.mean(axis=1).argmax())
    assert edges_hz[max(band - 1, 0)] < 440 < edges_hz[band + 2]
    assert explained["seconds"] == pytest.approx(0.2)

    picture = CALL.draw(WAV, explained)
    assert picture["kind"] == "audio" and picture["top_hz"] == pytest.approx(8000)
    assert picture["excerpt"] == CALL.preview(WAV)["content"]
    assert picture["heatmap"].startswith(b"\x89PNG")


def test_a_click_is_not_explained():
    assert CALL.explain(table_factory.tone(seconds=0.002), None) is None


def test_the_preview_is_a_wav_of_16_bits_of_the_model_s_rate():
    preview = CALL.preview(table_factory.tone(rate_hz=44_100, subtype="FLOAT"))
    wav = wav_format(preview["content"])
    assert preview["kind"] == "audio"
    assert (wav.rate_hz, wav.channels, wav.bits) == (16_000, 1, 16)


def test_noise_has_the_level_in_decibels():
    assert Audio.noise_levels[0] is None
    noise = CALL.decoder(CALL.corrupt(WAV, 0.0, [1])) - CALL.decoder(WAV)
    assert noise.std() == pytest.approx(CALL.decoder(WAV).std(), rel=0.05)


def test_linear_features_summarize_frames_and_keep_vectors():
    frames = np.ones((2, 5, 3))
    column = Audio("call", AudioConfig(encoder="cnn"))
    np.testing.assert_array_equal(
        column.linear_features(frames, {}), [[1] * 3 + [0] * 3] * 2
    )
    vectors = np.ones((2, 5))
    np.testing.assert_array_equal(CALL.linear_features(vectors, {}), vectors)
