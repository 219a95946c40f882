import pytest

from mmkeras.training.process_state import restored_state


@pytest.fixture(scope="module", autouse=True)
def restored_after_module():
    with restored_state():
        yield
