from benchmarks.tables import prepare_batches
from mmkeras.config.presets import small_concat


def test_default_settings_have_a_batch_size(tmp_path):
    batches = prepare_batches(tmp_path, small_concat(), rows=60)
    assert batches.config.train.batch_size == 32 and batches.steps == 2
