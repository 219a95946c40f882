"""Media files -> bytes that the served graph can decode. Imports no TensorFlow."""

from mmkeras.media.facts import measure_audio, measure_image, measure_text
from mmkeras.media.file import BadMedia, read_file
from mmkeras.media.picture import prepare_image, upright
from mmkeras.media.sound import prepare_audio, wave_bytes, wave_rate_hz
from mmkeras.media.vector import prepare_vector, vector_width

__all__ = [
    "BadMedia",
    "measure_audio",
    "measure_image",
    "measure_text",
    "prepare_audio",
    "prepare_image",
    "prepare_vector",
    "read_file",
    "upright",
    "vector_width",
    "wave_bytes",
    "wave_rate_hz",
]
