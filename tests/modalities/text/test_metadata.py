import pytest

from mmkeras.modalities.text.metadata import measure_text


@pytest.mark.parametrize(("data", "count"), [("Grüße 🐄".encode(), 7), (b"\xff", 1)])
def test_characters_are_counted_not_bytes(data, count):
    assert measure_text(data) == {"text_characters": count}
