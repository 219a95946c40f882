"""Environment of the tests, and fixtures with the smallest settings and one row."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Each worker of pytest-xdist, and each process that a test starts, uses one core.
for variable in (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
):
    os.environ.setdefault(variable, "1")

import io  # noqa: E402
import signal  # noqa: E402
import wave  # noqa: E402
from pathlib import Path  # noqa: E402

import hypothesis  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

from mmkeras.config import (  # noqa: E402
    AudioConfig,
    Config,
    FusionConfig,
    ImageConfig,
    TextConfig,
)
from mmkeras.modalities.preprocessing_state import (  # noqa: E402
    MULTICLASS,
    PreprocessingState,
)
from tests import table_factory  # noqa: E402

# A background job of a shell ignores these signals, which programs under test inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The time of an example depends on the machine.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(scope="session")
def tiny() -> Config:
    """Settings of the real architecture with minimal sizes."""
    return Config(
        preset="small-concat",
        image=ImageConfig(encoder="small_cnn", size_px=32, weights="none", width=2),
        text=TextConfig(vocab_size=4, units=4),
        audio=AudioConfig(
            rate_hz=8000, clip_s=0.25, bands=8, high_hz=3800.0, mfccs=4, units=4
        ),
        fusion=FusionConfig(units=8),
    )


@pytest.fixture(scope="session")
def state() -> PreprocessingState:
    """A preprocessing state that fits `tiny`."""
    return PreprocessingState(
        branches={"text": ("text",), "image": ("image",), "audio": ("audio",)},
        columns={
            "text": {
                "width": 4,
                "vocabulary": ["the", "cat", "cow", "dog"],
                "idf": [1.0, 1.5, 1.25, 2.0],
            },
            "image": {},
            "audio": {"width": 16, "mean": [-2.0] * 16, "deviation": [2.0] * 16},
        },
        task=MULTICLASS,
        classes=("cat", "cow", "dog"),
        class_rows=(2, 3, 4),
    )


@pytest.fixture(scope="session")
def row() -> dict[str, bytes]:
    """One valid row: a text, a PNG, a WAV of 440 Hz."""
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    image, audio = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(image, "PNG")
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(2000) / 8000)
    with wave.open(audio, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((32767 * tone).astype("<i2").tobytes())
    return {
        "text": b"The cow",
        "image": image.getvalue(),
        "audio": audio.getvalue(),
    }


@pytest.fixture(scope="session")
def generator_run(tmp_path_factory) -> Path:
    """Run folder of a tiny generator of captions, with two texts per row."""
    return table_factory.generator_run(tmp_path_factory)[0]


@pytest.fixture(scope="session")
def generator_table(tmp_path_factory) -> Path:
    """Table of `generator_run`: 40 rows with an image and two captions."""
    return table_factory.generator_run(tmp_path_factory)[1]
