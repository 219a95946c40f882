"""Names that users write, without invisible differences, and texts of a label."""

import re
from unicodedata import normalize

from mmkeras.schema import LABEL_SEPARATOR

# Characters that no font draws: soft hyphen, zero-width space, directions, word joiner
# and its neighbours, byte order mark, selectors of an emoji's variant.
_INVISIBLE = re.compile(
    "[\u00ad\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufe0e\ufe0f]"
)
_JOINERS = "\u200c\u200d "  # of these, those at the ends are invisible


def split_references(label: str) -> list[str]:
    """Returns the texts of a label of a generator, which "|" separates."""
    return [text for text in label.split(LABEL_SEPARATOR) if text]


def clean_name(text: str) -> str:
    """Returns the text in Unicode's form NFC, without characters that cannot be seen.

    Blanks at the ends are dropped, and those inside become one space each.

    Example:
        clean_name("\ufeffcafe\u0301 ")  # "café"
    """
    visible = normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(visible.split()).strip(_JOINERS)
