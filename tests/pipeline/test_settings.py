import re
from pathlib import Path

import pytest

from mmkeras.cli import Parser, add_settings, choose_preset, settings
from mmkeras.config import Config, GenerateConfig, from_dict, to_dict
from mmkeras.errors import UserError
from pipeline.settings import (
    GateConfig,
    KubeflowConfig,
    PipelineConfig,
    ingest_settings,
    transform_settings,
)

ROOT = Path(__file__).parents[2]


def parsed(*argv):
    parser = Parser()
    add_settings(parser, choose_preset(argv), PipelineConfig)
    return settings(parser, parser.parse_args(argv), PipelineConfig)


def test_a_mapping_comes_from_a_flag_as_json_or_entry_by_entry():
    config = parsed(
        *("--kubeflow.gpu", '{"Trainer": 1, "Tuner": 2}'),
        *("--kubeflow.cpu_cores.Trainer", "7.5"),
        *("--kubeflow.beam_args", '{"Transform": "--runner=FlinkRunner --a=b"}'),
    ).kubeflow
    assert config.gpu == {"Trainer": 1, "Tuner": 2}
    assert config.cpu_cores == {"default": 2.0, "Trainer": 7.5}
    assert config.beam_args == {"Transform": "--runner=FlinkRunner --a=b"}


def test_the_example_of_the_documentation_is_valid(tmp_path):
    text = (ROOT / "docs" / "kubeflow.md").read_text()
    (example,) = re.findall(r"```yaml\n(# cluster.yaml\n.*?)```", text, re.DOTALL)
    path = tmp_path / "cluster.yaml"
    path.write_text(example)
    config = parsed("--config", str(path)).kubeflow
    assert config.gpu == {"Trainer": 1} and config.memory_gb["default"] == 4
    assert len(config.beam_args["ExampleGen"].split()) == 4


def test_settings_of_a_cluster_do_not_belong_to_the_model():
    config = parsed("--kubeflow.gpu.Trainer", "1")
    assert config.plain == Config()
    assert from_dict(to_dict(config.plain)) == config.plain
    assert from_dict(to_dict(config), PipelineConfig) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpu": {"Trianer": 1}}, "gpu.*'Trianer'.*Did you mean 'Trainer'"),
        ({"cpu_cores": {"zzz": 1}}, "cpu_cores.*'zzz'.*Known: default, ExampleGen,"),
        ({"beam_args": {"Trainer": "-a"}}, "beam_args.*'Trainer'.*Beam.*Known: "),
        ({"beam_args": {"Transform": "'"}}, "beam_args.Transform='.*quot"),
        ({"cpu_cores": {"Pusher": 0}}, "cpu_cores.Pusher=0.*above 0"),
        ({"memory_gb": {"default": -1}}, "memory_gb.default=-1.*above 0"),
        ({"gpu": {"Trainer": -1}}, "gpu.Trainer=-1.*0 or more"),
        ({"retries": -1}, "retries=-1.*at least 0"),
    ],
)
def test_an_invalid_setting_is_an_error_with_a_remedy(settings, message):
    with pytest.raises(UserError, match=rf"^kubeflow\.{message}") as error:
        KubeflowConfig(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("task", "setting"),
    [
        ("regression", "min_accuracy"),
        ("multilabel", "min_r2_hidden"),
        ("generate", "min_accuracy_hidden"),
        ("auto", "min_bleu_4"),
        ("regression", "max_word_error_rate"),
    ],
)
def test_the_gate_refuses_the_score_of_another_task(task, setting):
    with pytest.raises(UserError, match=f"gate.{setting}=0.5.*task={task}"):
        PipelineConfig(task=task, gate=GateConfig(**{setting: 0.5}))
    assert ingest_settings(PipelineConfig(task=task)).task == task


@pytest.mark.parametrize(
    ("limit", "value", "allowed"),
    [
        ("min_cider_d", 11, "at most 10"),
        ("min_exact_match", 1.5, "at most 1"),
        ("min_exact_match_hidden", -0.5, "at least 0"),
        ("max_word_error_rate", -1, "at least 0"),
    ],
)
def test_a_limit_of_the_gate_is_in_the_range_of_its_metric(limit, value, allowed):
    with pytest.raises(UserError, match=f"^gate.{limit}={value}.*{allowed}"):
        GateConfig(**{limit: value})
    assert getattr(GateConfig(**{limit: 1}), limit) == 1


def test_transform_has_the_settings_of_a_vocabulary_of_texts():
    generate = {"tokens": "character", "vocab_size": 9, "width": 16}
    config = Config(task="generate", generate=GenerateConfig(**generate))
    fitted = transform_settings(config)
    assert fitted.task == "generate"
    assert fitted.generate == GenerateConfig(tokens="character", vocab_size=9)
    assert ingest_settings(config).generate == GenerateConfig()


def test_the_settings_of_a_column_are_kept_where_results_depend_on_them():
    def columns(**photo):
        title = {"type": "text", "encoder": "lstm", "units": 3, "vocab_size": 9}
        photo = {"type": "image", "encoder": "small_cnn", "weights": "none"} | photo
        vector = {"type": "audio", "encoder": "vector", "units": 8}
        return Config(columns={"title": title, "photo": photo, "sound": vector})

    sound = {"type": "audio", "encoder": "vector"}
    text, image = {"type": "text"}, {"type": "image", "size_px": 32}
    assert ingest_settings(columns()).columns["photo"] == {"type": "image"}
    ingested = ingest_settings(columns(size_px=32, width=4)).columns
    assert ingested == {"title": text, "photo": image, "sound": sound}
    text |= {"encoder": "lstm", "vocab_size": 9}
    fitted = transform_settings(columns(size_px=32, width=4)).columns
    assert fitted == {"title": text, "photo": image, "sound": sound}


def test_a_pipeline_refuses_zero_shot_classification_as_it_trains_nothing():
    with pytest.raises(UserError, match="python -m mmkeras.train --preset zero-shot"):
        parsed("--preset", "zero-shot", "--classes", "cat,dog")
