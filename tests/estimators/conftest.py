"""A small table in memory, and estimators trained on it once per session."""

import numpy as np
import pandas as pd
import pytest

import mmkeras
from tests import table_factory

TINY = {
    "image.size_px": 32,
    "image.width": 2,
    "text.tokens": "word",
    "text.vocab_size": 16,
    "text.units": 8,
    "fusion.units": 8,
    "train.batch_size": 8,
    "train.passes": 1,
    "train.learning_rate": 0.03,
    "train.warmup_epochs": 0.0,
    "table.workers": 1,
    "evaluate.bootstrap_resamples": 20,
    "evaluate.worst_errors": 2,
    "evaluate.noise_rows": 0,
}


def new_classifier(**settings):
    """Returns an estimator of the real architecture at its smallest."""
    settings = {"epochs": 12, **settings}
    return mmkeras.MultimodalClassifier("small-concat", settings=TINY, **settings)


@pytest.fixture(scope="session")
def texts() -> pd.DataFrame:
    """Forty rows of text, with two classes."""
    return pd.DataFrame(table_factory.texts(splits=[""] * 40)).drop(columns="split")


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """Forty rows of a title and a photo: pixels, a PIL image or bytes."""
    from io import BytesIO

    from PIL import Image

    rows = table_factory.make_rows()
    for i, row in enumerate(rows):
        image = Image.open(BytesIO(row["image"]))
        photo = (np.asarray(image), image, row["image"])[i % 3]
        row |= {"title": row["text"], "photo": photo, "colour": row["label"]}
    columns = ["id", "split", "title", "photo", "colour"]
    return pd.DataFrame(rows)[columns]


@pytest.fixture(scope="session")
def fitted(frame, tmp_path_factory) -> mmkeras.MultimodalClassifier:
    """A classifier trained on `frame` in a run folder; tests do not change it."""
    path = tmp_path_factory.mktemp("api") / "run"
    classifier = new_classifier(path=path, columns={"title": "text", "photo": "image"})
    return classifier.fit(frame, label="colour")
