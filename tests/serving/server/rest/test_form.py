import pytest

from serving.server.deadline import Deadline
from serving.server.rest.form import parse_form
from tests.serving.server.assertions import serving_error

TYPE = "multipart/form-data; boundary=XX"
PART, END = b"--XX\r\nContent-Disposition: form-data", b"--XX--\r\n"
TEXT = PART + b'; name="text"\r\n\r\nw\xc3\xa4rm\r\n'
FILE = PART + b'; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'


def test_fields_and_files_have_their_content():
    values = {"text": "wärm".encode(), "image": b"\x89PNG\r\n\0"}
    body = TEXT + FILE + values["image"] + b"\r\n" + END
    assert parse_form(body, TYPE, Deadline()) == values


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (TEXT + TEXT, TYPE, "The form has the field 'text' twice"),
        (TEXT, "multipart/form-data", "The form cannot be read"),
        (b"no form", TYPE, "The form cannot be read"),
        (PART + b"\r\n\r\n\r\n", TYPE, "The form cannot be read"),
    ],
)
def test_an_invalid_form_is_refused(body, kind, message):
    error = serving_error(parse_form, body + END, kind, Deadline(), match=f"^{message}")
    assert error.code.name == "INVALID_ARGUMENT"


def test_the_charset_of_a_client_is_ignored():
    kind = f"{TYPE}; charset=punycode"
    assert parse_form(TEXT + END, kind, Deadline()) == {"text": "wärm".encode()}


def test_the_deadline_ends_the_parsing():
    error = serving_error(parse_form, TEXT + END, TYPE, Deadline(0))
    assert error.code.name == "DEADLINE_EXCEEDED"
