import numpy as np
import pytest

from mmkeras.cli import add_settings, build_config
from mmkeras.config import Config
from mmkeras.config.flags import Parser
from mmkeras.errors import UserError


def test_numbers_of_numpy_are_those_of_python():
    columns = {"title": {"type": "text", "units": np.int64(8)}}
    values = {"epochs": np.int64(3), "text.dropout": np.float32(0.5)}
    values |= {"table.join_labels": np.bool_(True), "columns": columns}
    config = build_config(values)
    assert (config.epochs, config.text.dropout) == (3, 0.5)
    assert config.table.join_labels is True
    assert type(config.columns["title"]["units"]) is int
    with pytest.raises(UserError, match="epochs needs int, received '3.5'"):
        build_config({"epochs": np.float64(3.5)})


@pytest.mark.parametrize("names", [["photo", "cover"], ("photo", "cover")])
def test_names_of_columns_may_be_a_list(names):
    assert build_config({"table.image": names}).table.image == "photo,cover"
    assert build_config({"table": {"image": names}}).table.image == "photo,cover"
    with pytest.raises(UserError, match="table.id_column needs str"):
        build_config({"table.id_column": names})


def test_values_that_are_given_are_read_without_defaults(tmp_path):
    (tmp_path / "a.yaml").write_text("epochs: 3\ntext: {units: 8, dropout: 0.1}\n")
    parser = Parser()
    add_settings(parser, Config())
    words = ["--config", str(tmp_path / "a.yaml"), "--text.dropout", "0.3"]
    words += ["--columns.place", "geo", "--train.fine_tune_learning_rate", "1e-4"]
    assert parser.read_values(words) == {
        "epochs": 3,
        "text.units": 8,
        "text.dropout": 0.3,
        "columns": {"place": "geo"},
        "train.fine_tune_rate": 1e-4,
    }
    assert parser.read_values([]) == {}
    with pytest.raises(UserError, match="text.units needs int"):
        parser.read_values(["--text.units", "many"])
