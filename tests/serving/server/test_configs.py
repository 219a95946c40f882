import dataclasses
import os
import re

import pytest
from google.protobuf import text_format
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.server import configs
from serving.server.configs import Batching, SslConfig, check_models, read_model_config
from tests.serving.server.assertions import serving_error

GOOD = 'model_platform: "tensorflow"'
PEM = r"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEYS = f'server_key: "{PEM}" server_cert: "{PEM}"'
READERS = [
    read_model_config,
    configs.read_batching,
    configs.read_monitoring,
    configs.read_ssl,
]
# Words of such files, so that random text is parsed beyond its first word.
WORDS = (
    r"""model_config_list config name base_path max_batch_size value allowed_batch_sizes
prometheus_config enable path server_key custom_model_config version_labels key all
model_version_policy specific versions enable_large_batch_splitting num_batch_threads
{ } : : "a" '/m' "\377" "\ud800" 1 -1 true 9223372036854775808 0x7f 1e9 nan [ ] , ; # é
[type.googleapis.com/google.protobuf.Struct] 😀""".split()
    + ["\n", "\x00"]
)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "file.config"
        path.write_text(text)
        return path

    return write


def config(*models):
    inner = " ".join(f"config {{ {model} }}" for model in models)
    return text_format.Parse(f"model_config_list {{ {inner} }}", ModelServerConfig())


def refusal(*args):
    error = serving_error(check_models, *args)
    return error.code, error.message


def test_all_fields_of_a_model_list_are_read(write):
    path = write(
        f"""model_config_list {{ config {{  # two versions of one model
          name: "m" base_path: "/models/m" {GOOD}
          model_version_policy {{ specific {{ versions: 1 versions: 3 }} }}
          version_labels {{ key: "stable" value: 1 }}
        }} config {{ name: "n" base_path: "gs://bucket/n" {GOOD} }} }}"""
    )
    first, second = read_model_config(path).model_config_list.config
    assert list(first.model_version_policy.specific.versions) == [1, 3]
    assert dict(first.version_labels) == {"stable": 1}
    assert second.base_path == "gs://bucket/n"


MODEL = f'name: "m" base_path: "/m" {GOOD}'


@pytest.mark.parametrize(
    "models, message",
    [
        ([MODEL] * 2, "list model m multiple times"),
        ([MODEL.replace("/m", "m")], "absolute path or URI; got base_path()=m"),
        ([f'name: "m" {GOOD}'], "absolute path or URI; got base_path()="),
        ([MODEL.replace(GOOD, "")], "Illegal setting neither ModelServerConfig"),
        (
            [f"{MODEL} model_type: TENSORFLOW"],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and",
        ),
        (['name: "m" base_path: "/m" model_type: OTHER'], "model_type choice 2 not"),
        (
            [MODEL.replace("tensorflow", "caffe")],
            "Model m requests unsupported platform caffe",
        ),
        ([f'base_path: "/m" {GOOD}'], "every model in config list to have a name"),
    ],
)
def test_a_model_list_that_tf_serving_refuses_is_refused(write, models, message):
    code, text = refusal(config(*models))
    assert code == StatusCode.INVALID_ARGUMENT and message in text
    path = write(text_format.MessageToString(config(*models)))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        read_model_config(path)
    assert str(path) in str(caught.value)


def test_the_deprecated_model_type_and_an_empty_list_are_accepted():
    check_models(config('name: "m" base_path: "file:///m" model_type: TENSORFLOW'))
    check_models(config())
    check_models(ModelServerConfig())


def test_a_model_list_can_only_be_replaced_by_a_model_list():
    custom = text_format.Parse("custom_model_config {}", ModelServerConfig())
    code, text = refusal(custom)
    assert code == StatusCode.INVALID_ARGUMENT and "custom_model_config_loader" in text
    for other in (custom, ModelServerConfig()):
        code, text = refusal(other, config())
        assert code == StatusCode.FAILED_PRECONDITION
        assert text.startswith("Cannot transition to requested config.")


def test_batching_has_the_defaults_of_tf_serving(write):
    threads = os.cpu_count()
    defaults = (1000, 0, 10, threads, "batch_threads", (), False, False, 1000)
    assert dataclasses.astuple(configs.read_batching(write(""))) == defaults


def test_a_batching_file_sets_each_parameter(write):
    path = write(
        """max_batch_size { value: 64 } batch_timeout_micros { value: 500 }
        max_enqueued_batches { value: 7 } num_batch_threads { value: 3 }
        thread_pool_name { value: "p" } allowed_batch_sizes: [8, 64]
        pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 16 }"""
    )
    expected = (64, 500, 7, 3, "p", (8, 64), True, True, 16)
    assert dataclasses.astuple(configs.read_batching(path)) == expected


def test_defaults_depend_on_splitting():
    assert Batching(max_execution_batch_size=5).max_execution_batch_size == 1000
    split = Batching(max_batch_size=9, enable_large_batch_splitting=True)
    assert split.max_execution_batch_size == 9
    assert Batching(max_enqueued_batches=0).max_enqueued_batches == 1
    with pytest.raises(UserError, match="max_enqueued_batches must be 1 or more"):
        Batching(max_enqueued_batches=0, enable_large_batch_splitting=True)


SPLIT = "enable_large_batch_splitting { value: true }"


@pytest.mark.parametrize(
    "text, message",
    [
        ("allowed_batch_sizes: 4", "must match max_batch_size.* was 4; expected 1000"),
        ("allowed_batch_sizes: [4, 2, 1000]", "must be positive and ascend"),
        ("allowed_batch_sizes: [4, 4, 1000]", "must be positive and ascend"),
        ("allowed_batch_sizes: [0, 1000]", "must be positive and ascend"),
        ("max_batch_size { value: 0 }", "max_batch_size must be 1 or more, received 0"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be 1 or more"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be 0 or mo"),
        (
            f"{SPLIT} max_execution_batch_size {{ value: 1001 }}",
            "max_execution_batch_size must be at most max_batch_size, 1000, "
            "received 1001",
        ),
        ("max_batchsize { value: 1 }", "Did you mean 'max_batch_size'?"),
        ("max_batch_size: 32", "as in: max_batch_size { value: 32 }"),
    ],
)
def test_impossible_batching_is_refused_with_what_is_allowed(write, text, message):
    with pytest.raises(UserError, match=f"file.config.*{message}"):
        configs.read_batching(write(text))


def test_a_monitoring_file_sets_the_path_of_the_page(write):
    for text, path in (
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
        ("", None),
    ):
        assert configs.read_monitoring(write(text)) == path
    with pytest.raises(UserError, match="path must begin with '/', received 'm'"):
        configs.read_monitoring(write('prometheus_config { enable: true path: "m" }'))


def test_an_ssl_file_contains_the_texts_of_pem_files(write):
    pem = PEM.replace(r"\n", "\n")
    expected = SslConfig(server_key=pem, server_cert=pem, client_verify=True)
    assert configs.read_ssl(write(f"{KEYS} client_verify: true")) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        (f'server_cert: "{PEM}"', "server_key must be the text of a PEM file"),
        (f'server_key: "{PEM}" server_cert: "/c.pem"', "not the file's path"),
        (f'{KEYS} custom_ca: "x"', "custom_ca must be the text of a PEM file"),
    ],
)
def test_an_ssl_file_with_a_path_or_without_a_key_is_refused(write, text, message):
    with pytest.raises(UserError, match=message):
        configs.read_ssl(write(text))


def test_the_key_is_in_no_message(write):
    for text in ("server_key: hunter2", 'server_key: "hunter2"'):
        with pytest.raises(UserError) as caught:
            configs.read_ssl(write(text))
        assert "hunter2" not in str(caught.value)
    ssl = SslConfig(server_key="-----BEGIN hunter2", server_cert="-----BEGIN ")
    assert "hunter2" not in repr(ssl)


@settings(max_examples=400, deadline=None)
@given(
    text=st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
    | st.text(max_size=40)
)
@pytest.mark.parametrize("reader", READERS)
def test_random_text_is_read_or_refused_in_one_line(tmp_path_factory, reader, text):
    path = tmp_path_factory.getbasetemp() / "random.config"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        reader(path)
    except UserError as error:
        assert "\n" not in str(error)
