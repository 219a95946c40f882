import numpy as np
import pytest

import mmkeras
from tests.estimators.tiny_estimator import TINY


def test_a_number_is_predicted_in_its_unit(texts):
    price = np.array([100.0 + 50 * (i % 2) for i in range(40)])
    model = mmkeras.MultimodalRegressor("small-concat", settings=TINY, epochs=20)
    model.fit(texts[["text"]], price)
    values, status = model.predict(texts, return_status=True)
    assert values.shape == (40,) and status == ["ok"] * 40
    assert 90 < values.mean() < 160
    assert model.score(texts[["text"]], price) > 0.3
    written = [f"{number:.2f}".replace(".", ",") for number in price]
    assert model.score(texts[["text"]], written) > 0.3
    with pytest.raises(
        mmkeras.UserError, match="Cannot use a label: not a number: 'dear'"
    ):
        model.score(texts[["text"]], ["dear", *written[1:]])
    assert isinstance(mmkeras.load(model.folder_), mmkeras.MultimodalRegressor)
