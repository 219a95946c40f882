"""Texts of many scripts."""

import random
import unicodedata

SCRIPTS = (
    (0x20, 0x7F), (0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x530, 0x700),
    (0x900, 0xE00), (0xE00, 0x1000), (0x1100, 0x1200), (0x2000, 0x2100),
    (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1E00, 0x1F00),
    (0x1F300, 0x1F700), (0xFB00, 0xFE10), (0x00, 0x20),
)  # fmt: skip
SPECIAL = ["[CLS]", "[SEP]", "[UNK]", "[MASK]", "[PAD]", "café", "U.S.A.", "don't"]


def make_texts(pieces, count):
    """Returns texts of pieces, of characters of many scripts, and of special tokens."""
    choice = random.Random(1)

    def character():
        while True:
            code = choice.randrange(*choice.choice(SCRIPTS))
            if unicodedata.category(chr(code)) != "Cn":
                return chr(code)

    def word():
        kind = choice.random()
        if kind < 0.6:
            return choice.choice(pieces).removeprefix("##")
        if kind < 0.7:
            return choice.choice([*SPECIAL, "x" * choice.choice([99, 100, 101])])
        return "".join(character() for _ in range(choice.randrange(1, 8)))

    spaces = [" ", " ", " ", "", "  "]
    return [
        choice.choice(spaces).join(word() for _ in range(choice.randrange(1, 25)))
        for _ in range(count)
    ]
