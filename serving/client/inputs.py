"""What a caller gives for a row -> bytes that the served graph decodes.

The bytes are those that training saw of the same file: `mmkeras.modalities` makes them both
times. A format that the graph decodes goes out as it came.
"""

import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mmkeras.errors import UserError
from mmkeras.schema import AUDIO, IMAGE, MODALITIES, TEXT
from serving.client.settings import Limits

if TYPE_CHECKING:
    import numpy as np

# Of text a str is the text itself; of picture and sound it is a path or a URI.
Value: TypeAlias = "str | bytes | os.PathLike | np.ndarray | None"
Row: TypeAlias = Mapping[str, Value]
_VECTOR = b"\x93NUMPY"
# How `mmkeras.modalities` names a limit, which here is a field of `Limits`.
_SETTING = re.compile(r"\b(?:table|image|audio)\.(max_file_mb|max_megapixels|clip_s)\b")
_SHOWN = 80  # characters of a value in a message


@dataclass(frozen=True, kw_only=True)
class PreparedRow:
    """A row that can be sent.

    Attributes:
        data: Modality -> bytes; one that is absent or broken is not in it.
        broken: Modality -> why it could not be read, with its name.
    """

    data: dict[str, bytes]
    broken: dict[str, str]


def check_names(row: Row, known: Sequence[str], model: str) -> None:
    """Refuses what no model takes, and what is given to this one in vain.

    Raises:
        UserError: A name is unknown, or that of a modality the model has not.
    """
    for name, value in row.items():
        if name not in MODALITIES:
            from mmkeras.errors import did_you_mean

            raise UserError(
                f"There is no modality '{name}'.{did_you_mean(name, MODALITIES)}"
            )
        if name not in known and not is_absent(value):
            raise not_taken(name, known, model)


def not_taken(name: str, known: Sequence[str], model: str) -> UserError:
    """Returns the error of a modality that the model has not."""
    return UserError(
        f"The model '{model}' takes no {name}; it takes {', '.join(known)}. "
        f"Leave {name} out."
    )


def given(rows: Iterable[Row]) -> set[str]:
    """Returns the modalities that any of the rows has."""
    return {name for row in rows for name in row if not is_absent(row[name])}


def is_absent(value: Value) -> bool:
    """Whether there is nothing: None, "" and b""."""
    return value is None or (isinstance(value, str | bytes) and not value)


def prepare(row: Row, limits: Limits, *, strict: bool) -> PreparedRow:
    """Reads and transcodes what a row names.

    Args:
        row: Modality -> str, bytes, path, array, or None.
        limits: What is read.
        strict: Whether what cannot be read is an error; else it is sent as absent,
            as `mmkeras.predict` takes it, and said in `broken`.

    Raises:
        UserError: A value is of no type known, or `strict` and cannot be read.
    """
    from mmkeras.modalities.file import Unreadable

    data, broken = {}, {}
    for modality, value in row.items():
        if is_absent(value):
            continue
        try:
            data[modality] = _decodable(
                modality, _content(modality, value, limits), limits
            )
        except Unreadable as error:
            reason = _SETTING.sub(r"\1", str(error))
            broken[modality] = f"{modality} {_shown(value)}: {reason}"
            if strict:
                raise UserError(f"Cannot use {broken[modality]}.") from None
    return PreparedRow(data=data, broken=broken)


def _content(modality: str, value: Value, limits: Limits) -> bytes:
    from mmkeras.modalities.file import Unreadable, read_file

    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, os.PathLike) or (isinstance(value, str) and modality != TEXT):
        return read_file(os.fspath(value), limits.max_file_mb)
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise Unreadable("characters that UTF-8 cannot write") from None
    if modality != IMAGE and type(value).__module__ == "numpy":
        return _npy(value)
    raise UserError(
        f"{modality} must be a path or bytes"
        f"{', text' * (modality == TEXT)}{', or a vector' * (modality != IMAGE)}; "
        f"received {type(value).__name__}."
    )


def _npy(vector: "np.ndarray") -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, vector, allow_pickle=False)
    return file.getvalue()


def _decodable(modality: str, content: bytes, limits: Limits) -> bytes:
    from mmkeras.config import AudioConfig, ImageConfig
    from mmkeras.modalities.audio.reading import prepare_audio
    from mmkeras.modalities.image.reading import prepare_image
    from mmkeras.modalities.vector.reading import prepare_vector

    if modality == IMAGE:
        config = ImageConfig(max_megapixels=limits.max_megapixels)
        return prepare_image(content, config)
    if content.startswith(_VECTOR):
        return prepare_vector(content)
    if modality == AUDIO:
        return prepare_audio(content, AudioConfig(clip_s=limits.clip_s))
    return content


def _shown(value: Value) -> str:
    if isinstance(value, str | os.PathLike):
        name = os.fspath(value)
        name = name if len(name) <= _SHOWN else name[: _SHOWN - 3] + "..."
        return f"'{name}'"
    return f"({type(value).__name__})"
