import configparser
from importlib.util import find_spec
from pathlib import Path

import pytest

from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig
from mmkeras.environment import extras
from mmkeras.environment.extras import EXTRAS, check_extras, import_extra
from mmkeras.errors import UserError

NEEDING = {
    "keras_hub": [
        Config(image=ImageConfig(encoder="kerashub_vit", weights="none")),
        Config(audio=AudioConfig(encoder="kerashub", weights="a")),
    ],
    "tensorflow_text": [Config(text=TextConfig(encoder="lstm", tokens="wordpiece"))],
    "tensorflow_hub": [
        Config(text=TextConfig(encoder="hub", hub_handle="a")),
        Config(audio=AudioConfig(encoder="hub", hub_handle="a")),
    ],
}
CASES = [(module, config) for module in NEEDING for config in NEEDING[module]]


@pytest.fixture
def missing(monkeypatch):
    """Simulates that modules are not installed."""

    def hide(*modules):
        def find(name):
            return None if name in modules else find_spec(name)

        monkeypatch.setattr(extras, "find_spec", find)

    return hide


def test_the_default_settings_need_no_extra(missing):
    missing(*EXTRAS)
    check_extras(Config())


@pytest.mark.parametrize(("module", "config"), CASES)
def test_settings_that_need_a_missing_extra_are_refused(module, config, missing):
    check_extras(config)
    missing(module)
    message = rf"^(text|image|audio)\..*{module}.*\[{EXTRAS[module]}\]"
    with pytest.raises(UserError, match=message) as error:
        check_extras(config)
    assert len(str(error.value).splitlines()) == 1


def test_a_vocabulary_file_needs_no_learner(missing):
    missing("tensorflow_text")
    text = TextConfig(encoder="lstm", tokens="wordpiece", vocab_file="vocab.txt")
    check_extras(Config(text=text))


def test_the_import_of_a_missing_module_names_its_extra(missing):
    missing("tensorflow_hub")
    with pytest.raises(UserError, match=r"^text.encoder=hub needs .*\[hub\]"):
        import_extra("tensorflow_hub", "text.encoder=hub")


def test_a_version_that_does_not_import_is_one_line(monkeypatch):
    def old(module):  # tensorflow-hub 0.15, which TFX installs
        raise AttributeError("module 'tensorflow' has no attribute 'estimator'")

    monkeypatch.setattr(extras, "import_module", old)
    with pytest.raises(UserError, match=r"audio.encoder=hub .*estimator.*\[hub\]"):
        import_extra("tensorflow_hub", "audio.encoder=hub")


def test_every_extra_is_declared():
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[2] / "setup.cfg")
    assert set(EXTRAS.values()) <= set(parser["options.extras_require"])
