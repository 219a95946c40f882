import pytest

import mmkeras
from mmkeras.errors import UserError
from tests.estimators.tiny_estimator import new_classifier


@pytest.mark.slow
def test_each_fold_is_tested_once_and_resumed(texts, tmp_path):
    model = new_classifier()
    arguments = {"label": "label", "folds": 2, "path": tmp_path / "folds"}
    result = mmkeras.cross_validate(model, texts, **arguments)
    accuracy = result["metrics"]["accuracy"]
    assert len(accuracy["each"]) == 2 and accuracy["mean"] > 0.9
    assert result["baselines"]["majority"]["accuracy"]["mean"] == pytest.approx(0.5)
    files = [tmp_path / "folds" / f"fold-{k}" / "predictions.csv" for k in (1, 2)]
    rows = [row for path in files for row in path.read_text().splitlines()[1:]]
    assert len({row.partition(",")[0] for row in rows}) == len(rows) == 40
    assert mmkeras.cross_validate(model, texts, **arguments) == result
    with pytest.raises(UserError, match="each fold needs its own"):
        mmkeras.cross_validate(model.set_params(path=tmp_path), texts)
