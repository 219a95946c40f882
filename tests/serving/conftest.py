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
    from serving.server.room import Room
    from serving.server.servable import Servable

    found = Servable("halves", 1, halves / "1", room=Room(100, "rows"))
    yield found
    found.close()
