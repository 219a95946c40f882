import pytest

from serving.server.deadline import Deadline
from serving.server.rest.form import parse_form
from tests.serving.server.assertions import serving_error

TYPE = "multipart/form-data; boundary=XX"
TEXT = '--XX\r\nContent-Disposition: form-data; name="text"\r\n\r\nwärm\r\n'
FILE = (
    '--XX\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    "Content-Type: image/png\r\n\r\n\x89PNG\r\n\0\r\n"
)


def parse(text, deadline=None, content_type=TYPE):
    body = text.encode("latin-1") + b"--XX--\r\n"
    return parse_form(body, content_type, deadline or Deadline())


def test_fields_and_files_have_their_content():
    text = TEXT.encode().decode("latin-1")
    values = {"text": "wärm".encode(), "image": b"\x89PNG\r\n\0"}
    assert parse(text + FILE) == values


@pytest.mark.parametrize(
    ("text", "content_type", "message"),
    [
        (TEXT + TEXT, TYPE, "the field 'text' twice"),
        (TEXT, "multipart/form-data", "The form cannot be read"),
        ("no form", TYPE, "The form cannot be read"),
        ("--XX\r\nContent-Disposition: form-data\r\n\r\n\r\n", TYPE, "cannot be read"),
    ],
)
def test_an_invalid_form_is_refused(text, content_type, message):
    serving_error(parse, text, content_type=content_type, match=message)


def test_the_deadline_ends_the_parsing():
    error = serving_error(parse, TEXT, Deadline(0))
    assert error.code.name == "DEADLINE_EXCEEDED"
