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
