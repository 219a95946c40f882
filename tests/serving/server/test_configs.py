import os

import pytest
from google.protobuf import text_format
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.server.configs import (
    Batching,
    SslConfig,
    check_models,
    read_batching,
    read_model_config,
    read_monitoring,
    read_ssl,
)
from serving.server.errors import ServingError

GOOD = 'model_platform: "tensorflow"'
PEM = r"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
READERS = [read_model_config, read_batching, read_monitoring, read_ssl]
# Words that such files are made of, so that random text gets past the first one.
WORDS = ["model_config_list", "config", "name", "base_path", "max_batch_size", "value"]
WORDS += ["allowed_batch_sizes", "prometheus_config", "enable", "path", "server_key"]
WORDS += ["custom_model_config", "version_labels", "key", "model_version_policy", "all"]
WORDS += ["specific", "versions", "enable_large_batch_splitting", "num_batch_threads"]
WORDS += ["{", "}", ":", ":", '"a"', "'/m'", r'"\377"', r'"\ud800"', "1", "-1", "true"]
WORDS += ["9223372036854775808", "0x7f", "1e9", "nan", "[", "]", ",", ";", "#", "\n"]
WORDS += ["[type.googleapis.com/google.protobuf.Struct]", "\x00", "é", "😀"]


def write(tmp_path, text):
    path = tmp_path / "file.config"
    path.write_text(text)
    return path


def config(*models):
    inner = " ".join(f"config {{ {model} }}" for model in models)
    return text_format.Parse(f"model_config_list {{ {inner} }}", ModelServerConfig())


def refusal(*args):
    with pytest.raises(ServingError) as caught:
        check_models(*args)
    return caught.value.code, caught.value.message


def test_a_model_list_is_read_whole(tmp_path):
    path = write(
        tmp_path,
        f"""model_config_list {{ config {{  # two versions of one model
          name: "m" base_path: "/models/m" {GOOD}
          model_version_policy {{ specific {{ versions: 1 versions: 3 }} }}
          version_labels {{ key: "stable" value: 1 }}
        }} config {{ name: "n" base_path: "gs://bucket/n" {GOOD} }} }}""",
    )
    first, second = read_model_config(path).model_config_list.config
    assert list(first.model_version_policy.specific.versions) == [1, 3]
    assert dict(first.version_labels) == {"stable": 1}
    assert second.base_path == "gs://bucket/n"


@pytest.mark.parametrize(
    "models, message",
    [
        (
            [f'name: "m" base_path: "/m" {GOOD}'] * 2,
            "Illegal to list model m multiple times in config list",
        ),
        (
            [f'name: "m" base_path: "m" {GOOD}'],
            "Expected model m to have an absolute path or URI; got base_path()=m",
        ),
        (
            [f'name: "m" {GOOD}'],
            "Expected model m to have an absolute path or URI; got base_path()=",
        ),
        (
            ['name: "m" base_path: "/m"'],
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform.",
        ),
        (
            [f'name: "m" base_path: "/m" model_type: TENSORFLOW {GOOD}'],
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform.",
        ),
        (
            ['name: "m" base_path: "/m" model_type: OTHER'],
            "ModelServerConfig::model_type choice 2 not supported.",
        ),
        (
            ['name: "m" base_path: "/m" model_platform: "caffe"'],
            "Model m requests unsupported platform caffe",
        ),
        (
            [f'base_path: "/m" {GOOD}'],
            "Expected every model in config list to have a name",
        ),
    ],
)
def test_a_list_that_tf_serving_refuses_is_refused_in_its_words(
    tmp_path, models, message
):
    assert refusal(config(*models)) == (StatusCode.INVALID_ARGUMENT, message)
    path = write(tmp_path, text_format.MessageToString(config(*models)))
    with pytest.raises(UserError) as caught:
        read_model_config(path)
    assert message in str(caught.value) and str(path) in str(caught.value)


def test_the_deprecated_model_type_and_an_empty_list_are_taken():
    check_models(config('name: "m" base_path: "file:///m" model_type: TENSORFLOW'))
    check_models(config())
    check_models(ModelServerConfig())


def test_a_list_of_models_can_become_nothing_else():
    custom = text_format.Parse("custom_model_config {}", ModelServerConfig())
    assert refusal(custom) == (
        StatusCode.INVALID_ARGUMENT,
        "Missing custom_model_config_loader in ServerCore Options",
    )
    for other in (custom, ModelServerConfig()):
        code, message = refusal(other, config())
        assert code == StatusCode.FAILED_PRECONDITION
        assert message.startswith("Cannot transition to requested config.")


def test_batching_has_the_defaults_of_tf_serving(tmp_path):
    assert read_batching(write(tmp_path, "")) == Batching(
        max_batch_size=1000,
        batch_timeout_micros=0,
        max_enqueued_batches=10,
        num_batch_threads=os.cpu_count(),
        thread_pool_name="batch_threads",
        allowed_batch_sizes=(),
        pad_variable_length_inputs=False,
        enable_large_batch_splitting=False,
        max_execution_batch_size=1000,
    )


def test_a_batching_file_sets_each_parameter(tmp_path):
    path = write(
        tmp_path,
        """max_batch_size { value: 64 } batch_timeout_micros { value: 500 }
        max_enqueued_batches { value: 7 } num_batch_threads { value: 3 }
        thread_pool_name { value: "p" } allowed_batch_sizes: [8, 64]
        pad_variable_length_inputs: true enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 16 }""",
    )
    assert read_batching(path) == Batching(
        max_batch_size=64,
        batch_timeout_micros=500,
        max_enqueued_batches=7,
        num_batch_threads=3,
        thread_pool_name="p",
        allowed_batch_sizes=(8, 64),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=16,
    )


def test_without_splitting_a_batch_is_as_large_as_a_task():
    assert Batching(max_execution_batch_size=5).max_execution_batch_size == 1000
    split = Batching(max_batch_size=9, enable_large_batch_splitting=True)
    assert split.max_execution_batch_size == 9


def test_a_queue_of_no_batches_is_one_of_one_as_in_tf_serving():
    assert Batching(max_enqueued_batches=0).max_enqueued_batches == 1
    with pytest.raises(UserError, match="max_enqueued_batches must be 1 or more"):
        Batching(max_enqueued_batches=0, enable_large_batch_splitting=True)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: 4",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry "
            "was 4; expected 8",
        ),
        ("allowed_batch_sizes: [4, 2, 1000]", "must be positive and ascend"),
        ("allowed_batch_sizes: [4, 4, 1000]", "must be positive and ascend"),
        ("allowed_batch_sizes: [0, 1000]", "must be positive and ascend"),
        ("max_batch_size { value: 0 }", "max_batch_size must be 1 or more, received 0"),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be 1 or more"),
        (
            "batch_timeout_micros { value: -1 }",
            "batch_timeout_micros must be 0 or more",
        ),
        (
            "enable_large_batch_splitting { value: true } max_batch_size { value: 8 } "
            "max_execution_batch_size { value: 9 }",
            "max_execution_batch_size must be at most max_batch_size, 8, received 9",
        ),
        ("max_batchsize { value: 1 }", "Did you mean 'max_batch_size'?"),
        ("max_batch_size: 32", "max_batch_size { value: 32 }"),  # the example
    ],
)
def test_impossible_batching_says_what_is_allowed(tmp_path, text, message):
    with pytest.raises(UserError) as caught:
        read_batching(write(tmp_path, text))
    assert message in str(caught.value) and "file.config" in str(caught.value)


def test_a_monitoring_file_names_the_page(tmp_path):
    def read(text):
        return read_monitoring(write(tmp_path, text))

    assert (
        read("prometheus_config { enable: true }") == "/monitoring/prometheus/metrics"
    )
    assert read('prometheus_config { enable: true path: "/m" }') == "/m"
    assert read('prometheus_config { path: "/m" }') is None
    assert read("") is None
    with pytest.raises(UserError, match="path must begin with '/', received 'm'"):
        read('prometheus_config { enable: true path: "m" }')


def test_an_ssl_file_holds_the_texts_of_pem_files(tmp_path):
    text = f'server_key: "{PEM}" server_cert: "{PEM}" client_verify: true'
    pem = PEM.replace(r"\n", "\n")
    assert read_ssl(write(tmp_path, text)) == SslConfig(
        server_key=pem, server_cert=pem, custom_ca="", client_verify=True
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (f'server_cert: "{PEM}"', "server_key must be the text of a PEM file"),
        (f'server_key: "{PEM}" server_cert: "/c.pem"', "not the file's path"),
        (
            f'server_key: "{PEM}" server_cert: "{PEM}" custom_ca: "x"',
            "custom_ca must be the text of a PEM file",
        ),
    ],
)
def test_an_ssl_file_of_paths_or_without_a_key_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_ssl(write(tmp_path, text))


def test_the_key_is_in_no_message(tmp_path):
    for text in ("server_key: hunter2", 'server_key: "hunter2"'):
        with pytest.raises(UserError) as caught:
            read_ssl(write(tmp_path, text))
        assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(
        SslConfig(server_key="-----BEGIN hunter2", server_cert="-----BEGIN ")
    )


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
