"""Validation of settings: the error names the setting, its value and the remedy."""

import pytest

from mmkeras.errors import UserError
from serving.client.settings import GRPC, REST, Limits, Settings, Tls


@pytest.mark.parametrize(
    ("transport", "targets"),
    [
        (GRPC, "localhost:8500 10.0.0.1:8500 [::1]:8500 dns:///models:8500"),
        (REST, "http://localhost:8501 https://models.example.org http://[::1]:8501"),
        (REST, "https://models.example.org/team/ HTTP://localhost:8501"),
    ],
)
def test_the_target_selects_the_transport(transport, targets):
    for target in targets.split():
        assert Settings(target=target).transport == transport


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
        ({"timeout_s": 0}, "timeout_s=0 .*above 0"),
        ({"timeout_s": 1e10}, "at most 86400"),
        ({"timeout_s": float("nan")}, "timeout_s=nan"),
        ({"retries": -1}, "retries=-1"),
        ({"max_message_bytes": 10}, "max_message_bytes=10"),
        ({"max_message_bytes": 2**31}, "at most 2147483647"),
        ({"target": "http://a:1", "gzip": True}, "gzip is for gRPC only"),
        ({"target": "http://a:1", "tls": Tls()}, "has no TLS; write https://"),
        ({"target": "HTTP://a:1", "tls": Tls()}, "has no TLS; write https://"),
    ],
)
def test_an_impossible_setting_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        Settings(**{"target": "localhost:8500", **change})


@pytest.mark.parametrize(
    "change", [{"max_file_mb": 0}, {"max_megapixels": 179}, {"clip_s": 0.5}]
)
def test_limits_of_files_have_bounds(change):
    with pytest.raises(UserError, match=next(iter(change))):
        Limits(**change)


def test_unusable_certificates_are_refused(certificates, tmp_path):
    paths = certificates | {"gone": tmp_path / "gone.pem", "junk": tmp_path / "junk"}
    paths["junk"].write_text("no certificate")
    Tls(ca=paths["ca"], cert=paths["client"], key=paths["client_key"])
    for files, message in [
        ({"cert": "client"}, "go together: --cert and --key"),
        ({"ca": "gone"}, "--ca .*No such file"),
        ({"ca": "junk"}, "--ca .*must be a PEM file"),
        ({"cert": "client", "key": "server_key"}, "--cert .*cannot be used"),
    ]:
        with pytest.raises(UserError, match=message):
            Tls(**{field: paths[name] for field, name in files.items()})
