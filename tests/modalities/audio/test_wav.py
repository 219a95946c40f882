import io

import numpy as np
import pytest
import soundfile

from mmkeras.modalities.audio.wav import A_LAW, MU_LAW, law_samples, wav_chunks
from tests.modalities.encoded_media import encode_audio


@pytest.mark.parametrize(("code", "subtype"), [(A_LAW, "ALAW"), (MU_LAW, "ULAW")])
def test_the_samples_of_g711_bytes_are_those_of_libsndfile(code, subtype):
    data = encode_audio(np.linspace(-1, 1, 70_000), subtype=subtype)
    offset, size = wav_chunks(data)[b"data"]
    octets = np.frombuffer(data, np.uint8, size, offset)
    assert len(set(octets)) == 256
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    np.testing.assert_array_equal(law_samples(code)[octets], expected)
