"""Preparation of rows: reads and transcodes files to bytes that the model decodes.

`mmkeras.modalities` prepares the same file alike for training. A format that the model
decodes is sent unchanged.
"""

import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mmkeras.errors import UserError, did_you_mean, shorten
from mmkeras.schema import AUDIO, IMAGE, MODALITIES, TEXT
from serving.client.settings import Limits

if TYPE_CHECKING:
    import numpy as np

# A str is the text itself for text, and a path or a URI for image and audio.
Value: TypeAlias = "str | bytes | os.PathLike | np.ndarray | None"
Row: TypeAlias = Mapping[str, Value]
_NPY_PREFIX = b"\x93NUMPY"
# Names of limits in errors of `mmkeras.modalities`; here they are fields of `Limits`.
_SETTING = re.compile(r"\b(?:table|image|audio)\.(max_file_mb|max_megapixels|clip_s)\b")
_SHOWN_CHARACTERS = 80  # of a value in an error


@dataclass(frozen=True, kw_only=True)
class PreparedRow:
    """A row that can be sent.

    Attributes:
        data: Modality -> bytes, without absent and unreadable modalities.
        problems: Modality -> reason why it is unreadable.
        notes: Faults of files that are read whole nevertheless.
    """

    data: dict[str, bytes]
    problems: dict[str, str]
    notes: tuple[str, ...] = ()


def check_names(row: Row, modalities: Sequence[str], model: str) -> None:
    """Raises a UserError for a name that is unknown, or that the model lacks."""
    for name, value in row.items():
        if name not in MODALITIES:
            hint = did_you_mean(name, MODALITIES)
            raise UserError(f"There is no modality '{name}'.{hint}")
        if name not in modalities and not is_absent(value):
            raise modality_error(name, modalities, model)


def modality_error(name: str, modalities: Sequence[str], model: str) -> UserError:
    """Returns the error of a modality that the model lacks."""
    return UserError(
        f"The model '{model}' takes no {name}; it takes {', '.join(modalities)}. "
        f"Leave {name} out."
    )


def list_modalities(rows: Iterable[Row]) -> set[str]:
    """Returns the modalities that at least one row has."""
    return {name for row in rows for name in row if not is_absent(row[name])}


def is_absent(value: Value) -> bool:
    """Returns whether a value is None, "" or b""."""
    return value is None or (isinstance(value, str | bytes) and not value)


def prepare_row(row: Row, limits: Limits, *, strict: bool) -> PreparedRow:
    """Reads and transcodes the files of a row.

    Unless `strict`, an unreadable file is sent as absent, as by `mmkeras.predict`, with
    the reason in `problems`.

    Raises:
        UserError: A value has a wrong type, or `strict` and a file is unreadable.
    """
    from mmkeras.modalities.file import Unreadable

    data, problems, notes = {}, {}, []
    for modality, value in row.items():
        if is_absent(value):
            continue
        try:
            content = _content(modality, value, limits)
            data[modality], faults = _transcode(modality, content, limits)
            notes += [f"{modality} {_shorten(value)}: {fault}" for fault in faults]
        except Unreadable as error:
            reason = _SETTING.sub(r"\1", str(error))
            problems[modality] = f"{modality} {_shorten(value)}: {reason}"
            if strict:
                raise UserError(f"Cannot use {problems[modality]}.") from None
    return PreparedRow(data=data, problems=problems, notes=tuple(notes))


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
            raise Unreadable("characters that UTF-8 cannot encode") from None
    if modality != IMAGE and type(value).__module__ == "numpy":
        import numpy as np

        file = io.BytesIO()
        np.save(file, value, allow_pickle=False)
        return file.getvalue()
    raise UserError(
        f"{modality} must be a path or bytes"
        f"{', text' * (modality == TEXT)}{', or a vector' * (modality != IMAGE)}; "
        f"received {type(value).__name__}."
    )


def _transcode(modality: str, content: bytes, limits: Limits):
    """Returns bytes that the model decodes, and notes on faults of the file."""
    from mmkeras.config import AudioConfig, ImageConfig
    from mmkeras.modalities.audio.reading import read_audio
    from mmkeras.modalities.image.reading import prepare_image
    from mmkeras.modalities.vector.reading import prepare_vector

    if modality == IMAGE:
        config = ImageConfig(max_megapixels=limits.max_megapixels)
        return prepare_image(content, config), ()
    if content.startswith(_NPY_PREFIX):
        return prepare_vector(content), ()
    if modality == AUDIO:
        audio = read_audio(content, AudioConfig(clip_s=limits.clip_s))
        return audio.wav, audio.notes
    return content, ()


def _shorten(value: Value) -> str:
    if not isinstance(value, str | os.PathLike):
        return f"({type(value).__name__})"
    return f"'{shorten(os.fspath(value), _SHOWN_CHARACTERS)}'"
