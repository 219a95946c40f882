"""A tiny trained model and a made-up one, each behind a fake server."""

from contextlib import ExitStack

import pytest

from tests import table_factory
from tests.serving.client import fake_server
from tests.serving.client.certificates import (
    grpc_credentials,
    ssl_context,
    write_certificates,
)
from tests.serving.client.network import LOCAL
from tests.serving.client.transport_calls import Sender


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run folder and table of the tiny trained model."""
    return table_factory.trained_run(tmp_path_factory)


@pytest.fixture(scope="session")
def servable(run):
    """Export of the run, executed by the C++ runtime that TF Serving uses."""
    from mmkeras.export.saved_model_session import load_saved_model

    folder = run[0] / "export" / "1"
    with load_saved_model(folder) as call:
        yield fake_server.export_servable(folder, call)


@pytest.fixture(scope="session")
def local_csv(run, tmp_path_factory):
    """local_csv(table) -> output of mmkeras.predict."""
    from mmkeras.predict import predict

    output = tmp_path_factory.mktemp("local") / "out.csv"

    def local_csv(table):
        predict(run[0], table, output)
        return output.read_bytes().decode()

    return local_csv


@pytest.fixture
def trained_server(servable):
    """Fake server of the trained model, version 3."""
    return fake_server.FakeServer(servable)


@pytest.fixture
def text_server():
    """Fake server of a model of text with classes a and b, version 3."""
    return fake_server.FakeServer(fake_server.make_model())


@pytest.fixture(params=["grpc", "rest"])
def serve(request):
    """serve(fake server) starts it by one of the protocols; returns the target.

    `certificates` turns on TLS, `mutual` TLS with client certificates. `serve.kind` is
    the name of the protocol.
    """
    with ExitStack() as stack:

        def serve(fake, certificates=None, mutual=False, host=LOCAL):
            is_grpc = request.param == "grpc"
            start = fake_server.serve_grpc if is_grpc else fake_server.serve_rest
            make_tls = grpc_credentials if is_grpc else ssl_context
            tls = make_tls(certificates, mutual) if certificates else None
            port = stack.enter_context(start(fake, tls))
            scheme = "" if is_grpc else "https://" if certificates else "http://"
            return f"{scheme}{host}:{port}"

        serve.kind = request.param
        yield serve


@pytest.fixture(params=[False, True], ids=["blocking", "async"])
def send(request):
    """send(target, call, timeout_s, **settings) -> reply, by a new transport."""
    return Sender(request.param)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """Paths of PEM files by name, see `write_certificates`."""
    return write_certificates(tmp_path_factory.mktemp("certificates"))
