import re
from pathlib import Path

import pytest

from mmkeras.cli import Parser, add_settings, choose_preset, settings
from mmkeras.config import Config, from_dict, to_dict
from mmkeras.errors import UserError
from pipeline.settings import KubeflowConfig, PipelineConfig

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


def test_a_mapping_comes_from_a_file(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "kubeflow:\n  service_account: trainer\n  retries: 0\n"
        "  memory_gb: {default: 3, Trainer: 16}\n  gpu: {Trainer: 1}\n"
    )
    config = parsed("--config", str(path)).kubeflow
    assert (config.service_account, config.retries) == ("trainer", 0)
    assert config.memory_gb == {"default": 3.0, "Trainer": 16.0}
    assert config.gpu == {"Trainer": 1}


def test_the_example_of_the_documentation_is_possible(tmp_path):
    text = (ROOT / "docs" / "kubeflow.md").read_text()
    (example,) = re.findall(r"```yaml\n(# cluster.yaml\n.*?)```", text, re.DOTALL)
    path = tmp_path / "cluster.yaml"
    path.write_text(example)
    config = parsed("--config", str(path)).kubeflow
    assert config.gpu == {"Trainer": 1}
    assert len(config.beam_args["ExampleGen"].split()) == 4


def test_settings_of_a_cluster_are_no_part_of_the_model():
    config = parsed("--kubeflow.gpu.Trainer", "1")
    assert config.plain == Config()
    assert from_dict(to_dict(config.plain)) == config.plain
    assert from_dict(to_dict(config), PipelineConfig) == config


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"gpu": {"Trianer": 1}}, "'Trianer', and there is no such component. Did you"),
        ({"cpu_cores": {"zzz": 1}}, "no such component. Known: default, ExampleGen,"),
        (
            {"beam_args": {"Trainer": "-a"}},
            "'Trainer', which does not run in Beam. Kno",
        ),
        ({"beam_args": {"Transform": "'"}}, "beam_args.Transform=' cannot be split"),
        ({"cpu_cores": {"Pusher": 0}}, "kubeflow.cpu_cores.Pusher=0 is not possible"),
        ({"memory_gb": {"default": -1}}, "kubeflow.memory_gb.default=-1 is not poss"),
        ({"gpu": {"Trainer": -1}}, "kubeflow.gpu.Trainer=-1 is not possible"),
        ({"retries": -1}, "kubeflow.retries=-1 is not possible"),
    ],
)
def test_an_impossible_setting_is_refused_by_its_name(given, said):
    with pytest.raises(UserError, match="^kubeflow") as refused:
        KubeflowConfig(**given)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
