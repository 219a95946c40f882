"""Chinese characters, each of which is a word of its own."""

# Ideographs that are words; not those that Unicode has added since.
_IDEOGRAPHS = (
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)


def is_ideograph(character: str) -> bool:
    """Whether a character is a Chinese one, which is a word of its own."""
    code = ord(character)
    return any(first <= code <= last for first, last in _IDEOGRAPHS)
