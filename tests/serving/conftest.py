"""What the tests of serving share: one small model, saved once a session."""

import pytest


@pytest.fixture(scope="session")
def halves(tmp_path_factory):
    """Base path with version 1 of y = x / 2 + 2."""
    from tests.serving.models import save_halves

    return save_halves(tmp_path_factory.mktemp("halves"))


@pytest.fixture(scope="session")
def servable(halves):
    """The same, loaded, without batches."""
    from serving.server.engine.admission import WeightedSemaphore
    from serving.server.engine.servable import Servable

    found = Servable("halves", 1, halves / "1", room=WeightedSemaphore(100, "rows"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def core(halves):
    """A core that serves it as `halves`, where version 1 is labelled `stable`."""
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

    from serving.server.engine.admission import WeightedSemaphore
    from serving.server.engine.data_plane import DataPlane, Limits
    from serving.server.engine.servable import Servable
    from serving.server.metrics import Metrics
    from serving.server.models.manager import Manager

    room = WeightedSemaphore(1000, "rows")
    manager = Manager(
        lambda name, version, path: Servable(name, version, path, room=room),
        say=lambda line: None,
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


@pytest.fixture(scope="session")
def grpc_door(core):
    """The same behind gRPC."""
    from serving.server.grpc.server import GrpcServer

    door = GrpcServer(core, "127.0.0.1", 0, threads=8, message_bytes=2**22)
    door.start()
    yield door
    door.stop(5)


@pytest.fixture(scope="session")
def channel(grpc_door):
    """A channel to it."""
    import grpc

    with grpc.insecure_channel(f"127.0.0.1:{grpc_door.port}") as channel:
        yield channel
