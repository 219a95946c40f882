"""One tiny trained model for all tests here, behind both doors."""

import pytest

from tests import table_factory
from tests.serving.client import fake_server as stands


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Run folder and table of the tiny trained model."""
    return table_factory.trained_run(tmp_path_factory)


@pytest.fixture(scope="session")
def servable(run):
    """The run's export, run by the loader that TF Serving uses."""
    from mmkeras.export.saved_model_session import loaded

    folder = run[0] / "export" / "1"
    with loaded(folder) as call:
        yield stands.exported(folder, call)


@pytest.fixture(scope="session")
def offline(run, tmp_path_factory):
    """Returns what mmkeras.predict writes of a table; the model is loaded once."""
    from mmkeras.export import inference
    from mmkeras.predict import predict

    trained_model = inference.load_trained(run[0])
    predictor = inference.Predictor(trained_model)
    output = tmp_path_factory.mktemp("offline") / "out.csv"

    def written(table):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inference, "load_trained", lambda _: trained_model)
            patch.setattr(inference, "Predictor", lambda _: predictor)
            predict(run[0], table, output)
        return output.read_bytes().decode()

    return written


@pytest.fixture
def stand(servable):
    """A server of the trained model, as version 3."""
    return stands.Stand(servable)


@pytest.fixture
def plain():
    """A server of a model of text with classes a and b, as version 3."""
    return stands.Stand(stands.made_up())


@pytest.fixture(params=["grpc", "rest"])
def door(request):
    """Opens the server that it is called with, and gives the target."""
    opened = []

    def open_door(stand):
        kind = stands.grpc_door if request.param == "grpc" else stands.rest_door
        context = kind(stand)
        port = context.__enter__()
        opened.append(context)
        prefix = "" if request.param == "grpc" else "http://"
        return f"{prefix}{stands.LOCAL}:{port}"

    open_door.kind = request.param
    yield open_door
    for context in opened:
        context.__exit__(None, None, None)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """PEM files: ca, other (an authority of its own), and localhost's and a client's.

    Returns name -> path: "ca", "other", "server", "server_key", "client", "client_key".
    """
    from tests.serving.client.certificates import make

    return make(tmp_path_factory.mktemp("certificates"))
