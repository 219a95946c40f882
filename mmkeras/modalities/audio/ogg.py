"""Pages and links of an Ogg file."""

from mmkeras.modalities.file import Unreadable

_HEADER_BYTES, _FIRST, _LAST = 27, 2, 4


def split_ogg(data: bytes) -> tuple[list[bytes], bool]:
    """Returns the links of a chained Ogg file, and whether the last page ends it.

    A link is a whole Ogg file; most files have one. `data` begins with b"OggS".

    Raises:
        Unreadable: The file does not begin with a link, has other bytes between its
            pages, or ends inside a page.

    Source: RFC 3533, sections 4 (chaining) and 6 (the page header).
    """
    starts, offset, flags = [], 0, 0
    while (start := data.find(b"OggS", offset)) >= 0:
        if start > offset:
            raise Unreadable("damaged Ogg: other bytes between its pages")
        segments = data[start + 26 : start + _HEADER_BYTES]
        sizes_end = start + _HEADER_BYTES + sum(segments)
        offset = sizes_end + sum(data[start + _HEADER_BYTES : sizes_end])
        if not segments or sizes_end > len(data) or offset > len(data):
            raise Unreadable("truncated Ogg: it does not end with a whole page")
        is_in_link, flags = starts and not flags & _FIRST, data[start + 5]
        if not starts and not flags & _FIRST:
            raise Unreadable("truncated Ogg: it does not begin with a first page")
        if flags & _FIRST and (is_in_link or not starts):
            starts.append(start)
    if data[offset:] in (b"O", b"Og", b"Ogg"):
        raise Unreadable("truncated Ogg: it does not end with a whole page")
    ends = [*starts[1:], len(data)]
    links = [data[a:b] for a, b in zip(starts, ends, strict=True)]
    return links, bool(flags & _LAST)
