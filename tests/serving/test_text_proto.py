import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.text_proto import config_class, read_text_proto


@pytest.fixture
def parse(tmp_path):
    def parse(content, kind=ModelServerConfig, **kwargs):
        path = tmp_path / "file.config"
        path.write_bytes(content)
        return read_text_proto(path, kind, "an example", **kwargs)

    return parse


def test_messages_nest_repeat_and_distinguish_absent_fields(parse):
    kind = config_class("BatchingParameters")
    message = parse(b"allowed_batch_sizes: 1 allowed_batch_sizes: 2", kind)
    assert list(message.allowed_batch_sizes) == [1, 2]
    assert not message.HasField("max_batch_size")
    assert parse(b"max_batch_size { value: 0 }", kind).HasField("max_batch_size")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b'model_config_list {\n config { base_pth: "/m" }\n}',
            "text-format tensorflow.serving.ModelServerConfig: 2:11: Message type "
            '"tensorflow.serving.ModelConfig" has no field named "base_pth".*base_path',
        ),
        (b"model_config_list { zzz {} }", "Known: config"),
        (b"model_config_list {", '1:19 : .*Expected "}".'),
        (b"\n\nmodel_config_list { config { name: 3 } }", "3:36 : .*Expected string"),
        (b"custom_model_config { [type.googleapis.com/x.Y] {} }", "Type x.Y not found"),
    ],
)
def test_an_error_names_the_line_and_what_is_allowed(parse, content, reason):
    with pytest.raises(UserError, match=f"file.config': .*{reason}") as caught:
        parse(content)
    assert "\n" not in str(caught.value)


def test_an_error_does_not_quote_a_secret(parse):
    with pytest.raises(UserError, match="1:13: it is not text protobuf") as caught:
        parse(b"server_key: hunter2 \n", config_class("SSLConfig"), secret=True)
    assert "hunter2" not in str(caught.value)


def test_a_file_in_another_encoding_is_refused(parse):
    with pytest.raises(UserError, match="file.config' is not text in UTF-8"):
        parse(b"\xff\xfe")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.config' cannot be read: No such file"):
        read_text_proto(tmp_path / "nowhere.config", ModelServerConfig, "")
