import pytest

import mmkeras
from tests.program_harness import run_python

NAMES = """
MultimodalClassifier MultimodalGenerator MultimodalRegressor Config UserError
build_model cross_validate export_saved_model fuse layers load presets shapley
verify_export __version__
""".split()


def test_all_public_names_can_be_imported_and_are_listed():
    assert sorted(NAMES) == sorted(mmkeras.__all__)
    assert set(NAMES) <= set(dir(mmkeras))
    for name in NAMES:
        assert getattr(mmkeras, name) is getattr(mmkeras, name)
    with pytest.raises(AttributeError, match="no attribute 'Multimodel'"):
        mmkeras.Multimodel  # noqa: B018
    assert mmkeras.presets["small-concat"]().preset == "small-concat"
    assert mmkeras.layers.ModalityDropout(0.5).rate == 0.5
    with pytest.raises(AttributeError):
        mmkeras.layers.NoSuchLayer  # noqa: B018


def test_the_import_is_fast_and_programs_remain_modules():
    result = run_python("""
import sys, time
start = time.process_time()
import mmkeras
seconds = time.process_time() - start
heavy = {"tensorflow", "keras", "numpy", "pandas", "sklearn"} & set(sys.modules)
mmkeras.Config, mmkeras.presets, mmkeras.UserError
import mmkeras.train, mmkeras.predict
assert callable(mmkeras.train.main) and callable(mmkeras.predict.main)
assert not {"tensorflow", "keras"} & set(sys.modules)
print(seconds < 0.1, sorted(heavy))
""")
    assert result.stdout == "True []\n", result


@pytest.mark.parametrize("first", ["keras, mmkeras", "mmkeras, keras", "mmkeras.cli"])
def test_keras_loads_a_model_after_the_import(fitted_run, first):
    result = run_python(f"""
import {first}
import keras
print(keras.models.load_model({str(fitted_run)!r}).name)
""")
    assert result.stdout == "mmkeras\n", result


def test_keras_knows_every_registered_class_after_the_import():
    result = run_python("""
import mmkeras, keras
from importlib import import_module
from pathlib import Path
known = set(keras.saving.get_custom_objects())
root = Path(mmkeras.__file__).parent
for file in root.rglob("*.py"):
    source = file.read_text()
    if "@saved_as(" in source or "@keras.saving.register_keras_ser" in source:
        import_module(".".join(file.relative_to(root.parent).with_suffix("").parts))
print(len(known) > 20, sorted(set(keras.saving.get_custom_objects()) - known))
""")
    assert result.stdout == "True []\n", result


@pytest.mark.slow
def test_any_layer_module_can_be_the_first_import():
    layers = [getattr(mmkeras.layers, name) for name in mmkeras.layers.__all__]
    modules = sorted({layer.__module__ for layer in layers} | {"mmkeras.models.model"})
    result = run_python(f"""
import os, sys
from importlib import import_module
from mmkeras.environment.tensorflow_import import import_tensorflow
import_tensorflow()
import keras
for module in {modules}:
    if os.fork() == 0:
        import_module(module)
        os._exit(0)
    assert os.wait()[1] == 0, module
""")
    assert result.returncode == 0, result


@pytest.fixture
def fitted_run(tmp_path):
    """A saved model with layers from several modules."""
    from tests import table_factory

    trained_model = table_factory.text_model(tmp_path)
    trained_model.model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"
