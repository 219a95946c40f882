"""One small model, saved once per session, and servers of it."""

import pytest


@pytest.fixture(scope="session")
def halves(tmp_path_factory):
    """Base path with version 1 of y = x / 2 + 2."""
    from tests.serving.models import save_halves

    return save_halves(tmp_path_factory.mktemp("halves"))


@pytest.fixture(scope="session")
def servable(halves):
    """`halves`, loaded without batching."""
    from serving.server.engine.admission import WeightedSemaphore
    from serving.server.engine.servable import Servable

    semaphore = WeightedSemaphore(100, "rows")
    servable = Servable("halves", 1, halves / "1", semaphore=semaphore)
    yield servable
    servable.close()


@pytest.fixture(scope="session")
def data_plane(halves):
    """Data plane of the model `halves`; version 1 has the label `stable`."""
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving.server.engine.admission import WeightedSemaphore
    from serving.server.engine.data_plane import DataPlane, Limits
    from serving.server.engine.servable import Servable
    from serving.server.metrics import Metrics
    from serving.server.models.manager import Manager

    semaphore = WeightedSemaphore(1000, "rows")
    manager = Manager(
        lambda name, version, path: Servable(name, version, path, semaphore=semaphore),
        log=lambda line: None,
    )
    config = ModelServerConfig()
    model = config.model_config_list.config.add(
        name="halves", base_path=str(halves), model_platform="tensorflow"
    )
    manager.apply(config)
    model.version_labels["stable"] = 1
    manager.apply(config)
    yield DataPlane(manager, Metrics(), Limits(message_bytes=2**22))
    manager.close()
