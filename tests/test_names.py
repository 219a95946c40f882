import pytest

from mmkeras.names import clean_name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\ufeffcafe\u0301 ", "café"),
        ("hot\u00a0 dog\u200b", "hot dog"),
        ("👩\u200d💻\u200d", "👩\u200d💻"),
        ("\u200b\u00ad", ""),
        ("❤\ufe0f", "❤"),
        ("✔\ufe0e", "✔"),
    ],
)
def test_a_clean_name_has_nothing_invisible(text, name):
    assert clean_name(text) == clean_name(name) == name
