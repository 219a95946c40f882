from serving.server.grpc import memory as module
from serving.server.grpc.memory import ProcessMemory, trim_memory


def test_the_growth_is_that_of_the_process():
    memory = ProcessMemory()
    memory.reset()
    before = memory.growth_bytes()
    block = b"x" * 2**26
    assert 2**26 <= memory.growth_bytes() - before + 2**22
    del block
    trim_memory()
    assert memory.growth_bytes() < before + 2**25


def test_a_system_without_proc_has_no_growth(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_USED_PAGES", str(tmp_path / "none"))
    memory = ProcessMemory()
    memory.reset()
    assert memory.growth_bytes() == 0
