"""Forms (multipart/form-data) as requests of one row: a field or a file per input."""

import asyncio
from collections.abc import AsyncIterator

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from serving.server.deadline import Deadline
from serving.server.errors import deadline_exceeded, invalid_argument

CONTENT_TYPE = "multipart/form-data"
_STEP = 2**18
_MAX_FIELDS = 1000


def parse_form(
    body: bytes | bytearray, content_type: str, deadline: Deadline
) -> dict[str, bytes]:
    """Returns the content of each field and file, or raises ServingError.

    The header Content-Type has the boundary between the fields.
    """
    try:
        return asyncio.run(_parse(body, content_type, deadline))
    except (MultiPartException, KeyError, ValueError) as error:
        raise invalid_argument(f"The form cannot be read: {error}") from None


async def _parse(body, content_type: str, deadline: Deadline) -> dict[str, bytes]:
    # Not the client's charset, whose decoder may be slow.
    _, parameters = parse_options_header(content_type)
    boundary = parameters[b"boundary"].decode("latin-1")
    parser = MultiPartParser(
        Headers({"content-type": f'{CONTENT_TYPE}; boundary="{boundary}"'}),
        _pieces(body, deadline),
        max_files=_MAX_FIELDS,
        max_fields=_MAX_FIELDS,
        max_part_size=len(body),
    )
    parser.spool_max_size = len(body) + 1  # in memory
    values: dict[str, bytes] = {}
    form = await parser.parse()
    try:
        for name, value in form.multi_items():
            if name in values:
                raise invalid_argument(f"The form has the field '{name}' twice")
            is_text = isinstance(value, str)
            values[name] = value.encode() if is_text else await value.read()
    finally:
        await form.close()
    return values


async def _pieces(body, deadline: Deadline) -> AsyncIterator[bytes]:
    view = memoryview(body)
    for start in range(0, len(body), _STEP):
        if deadline.is_over:
            raise deadline_exceeded("The time was over while the form was read.")
        yield bytes(view[start : start + _STEP])
