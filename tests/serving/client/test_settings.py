"""Settings: what is not possible is said at once, in one line."""

import pytest

from mmkeras.errors import UserError
from serving.client.settings import GRPC, REST, Limits, Settings, Tls


@pytest.mark.parametrize(
    ("target", "door"),
    [
        ("localhost:8500", GRPC),
        ("10.0.0.1:8500", GRPC),
        ("[::1]:8500", GRPC),
        ("dns:///models:8500", GRPC),
        ("models.example.org:443", GRPC),
        ("http://localhost:8501", REST),
        ("https://models.example.org", REST),
        ("https://models.example.org/team/", REST),
        ("http://[::1]:8501", REST),
        ("HTTP://localhost:8501", REST),
    ],
)
def test_the_target_says_which_door(target, door):
    assert Settings(target=target).door == door


@pytest.mark.parametrize(
    "target",
    ["", "localhost", "localhost:", "localhost:0", "localhost:99999", "a b:1"]
    + ["ftp://localhost:1", "http://", "grpc://localhost:8500", ":8500", "a:1:2"]
    + ["http://a:0", "http://a:99999", "http://a/?x=1", "http://a/#x", "http://b@a:1"]
    + ["dns:///models", "dns://8.8.8.8/models:8500", "dns:///http://models:1"],
)
def test_a_target_of_another_form_is_refused(target):
    with pytest.raises(UserError, match="must be HOST:PORT"):
        Settings(target=target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ""}, "model=''"),
        ({"version": -1}, "version=-1"),
        ({"version": 1, "label": "stable"}, "a version or a label"),
        ({"label": ""}, "label=''"),
        ({"timeout_s": 0}, "timeout=0 is not possible: it must be above 0"),
        ({"timeout_s": 1e10}, "at most 86400"),
        ({"timeout_s": float("nan")}, "timeout=nan"),
        ({"retries": -1}, "retries=-1"),
        ({"max_message_bytes": 10}, "max_message_bytes=10"),
        ({"max_message_bytes": 2**31}, "the most that protobuf takes"),
    ],
)
def test_a_setting_that_is_not_possible_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Settings(target="localhost:8500", **change)


def test_what_a_door_has_not_is_refused():
    with pytest.raises(UserError, match="gzip is for gRPC only"):
        Settings(target="http://localhost:8501", gzip=True)
    with pytest.raises(UserError, match="has no TLS; write https://"):
        Settings(target="http://localhost:8501", tls=Tls())
    with pytest.raises(UserError, match="has no TLS; write https://"):
        Settings(target="HTTP://localhost:8501", tls=Tls())


def test_media_limits_have_bounds():
    for change in ({"max_file_mb": 0}, {"max_megapixels": 179}, {"clip_s": 0.5}):
        with pytest.raises(UserError, match=next(iter(change))):
            Limits(**change)


def test_certificates_that_cannot_be_used_are_refused_at_once(certificates, tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    pair = {"cert": certificates["client"], "key": certificates["client_key"]}
    Tls(ca=certificates["ca"], **pair)
    with pytest.raises(UserError, match="go together: --cert and --key"):
        Tls(cert=certificates["client"])
    with pytest.raises(UserError, match="--ca .*No such file"):
        Tls(ca=tmp_path / "gone.pem")
    with pytest.raises(UserError, match="--ca .*must be a PEM file"):
        Tls(ca=junk)
    with pytest.raises(UserError, match="--cert .*cannot be used"):
        Tls(cert=certificates["client"], key=certificates["server_key"])
