import configparser
from pathlib import Path

import pytest

from mmkeras import cli
from mmkeras.config import AudioConfig, Config, ImageConfig, TextConfig
from mmkeras.environment import extras
from mmkeras.environment.extras import EXTRAS, check_extras, import_extra
from mmkeras.errors import UserError

NEEDING = {
    "keras_hub": [
        Config(text=TextConfig(encoder="bert")),
        Config(image=ImageConfig(encoder="kerashub_vit", weights="none")),
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
    """Makes modules look as if they were not installed."""

    def hide(*modules):
        find_spec = extras.find_spec
        monkeypatch.setattr(
            extras, "find_spec", lambda n: None if n in modules else find_spec(n)
        )

    return hide


def test_the_default_settings_need_no_extra(missing):
    missing(*EXTRAS)
    check_extras(Config())


@pytest.mark.parametrize(("module", "config"), CASES)
def test_settings_that_need_a_missing_extra_are_refused(module, config, missing):
    check_extras(config)
    missing(module)
    with pytest.raises(UserError) as caught:
        check_extras(config)
    (line,) = str(caught.value).splitlines()
    assert module in line and f"[{EXTRAS[module]}]" in line
    assert line.startswith(("text.", "image.", "audio."))


def test_a_vocabulary_of_ones_own_needs_no_learner(missing):
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


def test_every_extra_named_here_is_declared():
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[2] / "setup.cfg")
    assert set(EXTRAS.values()) <= set(parser["options.extras_require"])


def test_a_program_without_its_extra_is_one_line(monkeypatch, capsys):
    def main(argv):
        raise ModuleNotFoundError("No module named 'kfp.dsl'", name="kfp.dsl")

    monkeypatch.setattr(cli, "find_spec", lambda module: None)
    with pytest.raises(SystemExit) as exit:
        cli.run_program(main)
    (line,) = capsys.readouterr().err.splitlines()
    assert exit.value.code == 2 and "kfp" in line and "[tfx]" in line


def test_another_missing_module_is_not_hidden():
    def main(argv):
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    with pytest.raises(ModuleNotFoundError):
        cli.run_program(main)
