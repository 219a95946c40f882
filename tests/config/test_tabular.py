import pytest

from mmkeras.config.tabular import TabularConfig
from mmkeras.errors import UserError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_rows": 0}, "tabular.min_rows=0 .* at least 1"),
        ({"dropout": 1.0}, "tabular.dropout=1.0 .* below 1"),
        ({"units": 30}, "tabular.units=30 .* a multiple of tabular.heads=4"),
        ({"encoder": "ft_transformer", "units": 0}, "tabular.units=0 .* at least 1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        TabularConfig(**settings)


def test_dense_layers_need_no_heads():
    assert TabularConfig(encoder="mlp", units=30).units == 30
