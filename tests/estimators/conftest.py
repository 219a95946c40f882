"""A small table in memory, and estimators trained on it once per session."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import mmkeras
from tests import table_factory
from tests.estimators.tiny_estimator import new_classifier


@pytest.fixture(scope="session")
def texts() -> pd.DataFrame:
    """Forty rows of text, with two classes."""
    return pd.DataFrame(table_factory.texts(splits=[""] * 40)).drop(columns="split")


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """Forty rows of a title and a photo: pixels, a PIL image or bytes."""
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
