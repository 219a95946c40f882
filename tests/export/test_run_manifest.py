import json

import keras
import pytest

from mmkeras.errors import UserError
from mmkeras.export.run_manifest import check_keras, read_manifest, write_manifest


def write_keras_version(folder, version):
    content = {"versions": {"keras": version}}
    (folder / "manifest.json").write_text(json.dumps(content))


def test_the_manifest_keeps_its_content_and_has_versions(tmp_path):
    assert read_manifest(tmp_path) == {}
    write_manifest(tmp_path, seed=1, rows={"train": 3})
    write_manifest(tmp_path, finished=True)
    manifest = read_manifest(tmp_path)
    assert (manifest["seed"], manifest["finished"]) == (1, True)
    assert manifest["versions"]["keras"] == keras.__version__


def test_a_run_of_a_later_keras_is_refused(tmp_path):
    write_keras_version(tmp_path, "99.1.0")
    with pytest.raises(UserError) as error:
        check_keras(tmp_path)
    message = str(error.value)
    assert "Keras 99.1.0" in message and f"Keras {keras.__version__}" in message
    assert "Python 3.11 to 3.13" in message and "\n" not in message


@pytest.mark.parametrize("version", ["3.9.0", keras.__version__, "not installed"])
def test_a_run_of_this_or_an_earlier_keras_is_read(tmp_path, version):
    write_keras_version(tmp_path, version)
    check_keras(tmp_path)
