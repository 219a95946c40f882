"""Length of a text."""

from mmkeras.schema import TEXT_CHARACTERS


def measure_text(data: bytes) -> dict[str, int]:
    """Counts the characters, not the bytes, of a text in UTF-8."""
    return {TEXT_CHARACTERS: len(data.decode("utf-8", "replace"))}
