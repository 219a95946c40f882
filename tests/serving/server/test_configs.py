import os
import re
from dataclasses import astuple

import pytest
from google.protobuf import text_format
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.server import configs
from serving.server.configs import SslConfig, check_models, read_model_config
from tests.serving.server.assertions import serving_error

PEM = r"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
KEYS = f'server_key: "{PEM}" server_cert: "{PEM}"'
MODEL = 'name: "m" base_path: "/m" model_platform: "tensorflow"'
TYPE = 'name: "m" base_path: "file:///m" model_type:'
CUSTOM = "custom_model_config {}"
SPLIT = "enable_large_batch_splitting { value: true }"
LARGE = "max_execution_batch_size { value: 1001 }"
BATCHING, PAGE, SSL = configs.read_batching, configs.read_monitoring, configs.read_ssl
# Words of such files, so that random text is parsed beyond its first word.
WORDS = (
    r"""model_config_list config name base_path max_batch_size value prometheus_config
allowed_batch_sizes enable path server_key custom_model_config version_labels key all
model_version_policy specific versions enable_large_batch_splitting num_batch_threads
{ } : : "a" '/m' "\377" "\ud800" 1 -1 true 9223372036854775808 0x7f 1e9 nan [ ] , ; # é
[type.googleapis.com/google.protobuf.Struct] 😀""".split()
    + ["\n", "\x00"]
)


@pytest.fixture
def read(tmp_path):
    def read(reader, text):
        (tmp_path / "file.config").write_text(text)
        return reader(tmp_path / "file.config")

    return read


def model_list(*models):
    return f"model_config_list {{ {' '.join(f'config {{ {m} }}' for m in models)} }}"


def parse(text):
    return text_format.Parse(text, ModelServerConfig())


def test_all_fields_of_a_model_list_are_read(read):
    policy = "model_version_policy { specific { versions: 1 versions: 3 } }"
    labels = 'version_labels { key: "stable" value: 1 }  # a comment\n'
    other = 'name: "n" base_path: "gs://b/n" model_platform: "tensorflow"'
    models = model_list(f"{MODEL} {policy} {labels}", other)
    first, second = read(read_model_config, models).model_config_list.config
    assert list(first.model_version_policy.specific.versions) == [1, 3]
    assert dict(first.version_labels) == {"stable": 1}
    assert second.base_path == "gs://b/n"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([MODEL] * 2, "list model m multiple times"),
        ([MODEL.replace("/m", "m")], "absolute path or URI; got base_path()=m"),
        ([MODEL.replace("/m", "")], "absolute path or URI; got base_path()="),
        ([f"{TYPE} 0"], "Illegal setting neither ModelServerConfig"),
        ([f"{MODEL} model_type: TENSORFLOW"], "both ModelServerConfig::model_type ("),
        ([f"{TYPE} OTHER"], "model_type choice 2 not"),
        ([MODEL.replace("tensorflow", "caffe")], "m requests unsupported platform caf"),
        ([MODEL.replace('"m"', '""')], "every model in config list to have a name"),
    ],
)
def test_a_model_list_that_tf_serving_refuses_is_refused(read, models, message):
    error = serving_error(check_models, parse(model_list(*models)))
    assert error.code is StatusCode.INVALID_ARGUMENT and message in error.message
    with pytest.raises(UserError, match=f"file.config.*{re.escape(message)}"):
        read(read_model_config, model_list(*models))


@pytest.mark.parametrize("text", ["", model_list(), model_list(f"{TYPE} TENSORFLOW")])
def test_the_deprecated_model_type_and_an_empty_list_are_accepted(text):
    check_models(parse(text))


@pytest.mark.parametrize(
    ("text", "current", "code", "message"),
    [
        ("", [model_list()], StatusCode.FAILED_PRECONDITION, "Cannot transition to"),
        (CUSTOM, [model_list()], StatusCode.FAILED_PRECONDITION, "Cannot transition"),
        (CUSTOM, [], StatusCode.INVALID_ARGUMENT, "Missing custom_model_config_loade"),
    ],
)
def test_only_a_model_list_replaces_a_model_list(text, current, code, message):
    error = serving_error(check_models, *map(parse, [text, *current]))
    assert error.code is code and error.message.startswith(message)


DEFAULTS = (1000, 0, 10, os.cpu_count(), "batch_threads", (), False, False, 1000)
ALL = f"""max_batch_size {{ value: 64 }} batch_timeout_micros {{ value: 500 }}
max_enqueued_batches {{ value: 7 }} num_batch_threads {{ value: 3 }}
thread_pool_name {{ value: "p" }} allowed_batch_sizes: [8, 64]
pad_variable_length_inputs: true {SPLIT} max_execution_batch_size {{ value: 16 }}"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", DEFAULTS),
        (ALL, (64, 500, 7, 3, "p", (8, 64), True, True, 16)),
        ("max_execution_batch_size { value: 5 }", DEFAULTS),  # without splitting
        (SPLIT, (*DEFAULTS[:7], True, 1000)),
        ("max_enqueued_batches { value: 0 }", (1000, 0, 1, *DEFAULTS[3:])),
    ],
)
def test_a_batching_file_has_the_defaults_of_tf_serving(read, text, expected):
    assert astuple(read(BATCHING, text)) == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
        ("", None),
    ],
)
def test_a_monitoring_file_sets_the_path_of_the_page(read, text, path):
    assert read(PAGE, text) == path


def test_an_ssl_file_contains_the_texts_of_pem_files(read):
    pem = PEM.replace(r"\n", "\n")
    expected = SslConfig(server_key=pem, server_cert=pem, client_verify=True)
    ssl = read(SSL, f"{KEYS} client_verify: true")
    assert ssl == expected and "server_key" not in repr(ssl)


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (BATCHING, "allowed_batch_sizes: 4", "max_batch_size.* was 4; expected 1000"),
        (BATCHING, "allowed_batch_sizes: [4, 4, 1000]", "be positive and ascend"),
        (BATCHING, "allowed_batch_sizes: [0, 1000]", "be positive and ascend"),
        (BATCHING, "max_batch_size { }", "_batch_size must be 1 or more, received 0"),
        (BATCHING, "num_batch_threads { }", "num_batch_threads must be 1 or more"),
        (BATCHING, "batch_timeout_micros { value: -1 }", "must be 0 or more"),
        (BATCHING, f"{SPLIT} max_enqueued_batches {{ }}", "must be 1 or more"),
        (BATCHING, f"{SPLIT} {LARGE}", "most max_batch_size, 1000, received 1001"),
        (BATCHING, "max_batchsize { value: 1 }", "Did you mean 'max_batch_size'?"),
        (BATCHING, "max_batch_size: 32", "Example: max_batch_size { value: 32 }"),
        (PAGE, 'prometheus_config { path: "m" }', "must begin with '/', received 'm'"),
        (SSL, f'server_cert: "{PEM}"', "server_key must be .*received nothing"),
        (SSL, f'server_key: "{PEM}" server_cert: "/c.pem"', "not the file's path"),
        (SSL, f'{KEYS} custom_ca: "x"', "custom_ca must be the text of a PEM file"),
        (SSL, "server_key: hunter2", "not text protobuf"),
        (SSL, 'server_key: "hunter2"', "server_key must be .*received other text"),
    ],
)
def test_an_invalid_file_is_refused_with_what_is_allowed(read, reader, text, message):
    with pytest.raises(UserError, match=f"file.config.*{message}") as caught:
        read(reader, text)
    assert "hunter2" not in str(caught.value)  # the key


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join) | st.text())
@pytest.mark.parametrize("reader", [read_model_config, BATCHING, PAGE, SSL])
def test_random_text_is_read_or_refused_in_one_line(tmp_path_factory, reader, text):
    path = tmp_path_factory.getbasetemp() / "random.config"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        reader(path)
    except UserError as error:
        assert "\n" not in str(error)
