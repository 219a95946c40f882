import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.server.textproto import build_messages, read_text_proto

MESSAGES = build_messages(
    {
        "Inner": {"flag": "bool", "words": "repeated string"},
        "Outer": {"inner": "Inner", "count": "google.protobuf.Int64Value"},
    }
)


@pytest.fixture
def parse(tmp_path):
    def parse(content, kind=ModelServerConfig, **kwargs):
        path = tmp_path / "file.config"
        path.write_bytes(content)
        return read_text_proto(path, kind, "an example", **kwargs)

    return parse


def test_messages_nest_repeat_and_distinguish_absent_fields(parse):
    message = parse(b'inner { words: "a" words: "b" flag: true }', MESSAGES["Outer"])
    assert list(message.inner.words) == ["a", "b"] and message.inner.flag
    assert not message.HasField("count")
    assert parse(b"count { value: 0 }", MESSAGES["Outer"]).HasField("count")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b'model_config_list {\n config { base_pth: "/m" }\n}',
            "line 2: .*'base_pth' in ModelConfig.*'base_path'.*as in: an example",
        ),
        (b"model_config_list { zzz {} }", "Known: config"),
        (b"model_config_list {", 'line 1: Expected "}".'),
        (b"\n\nmodel_config_list { config { name: 3 } }", "line 3: Expected string"),
        (b"custom_model_config { [type.googleapis.com/x.Y] {} }", "Type x.Y not found"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_an_error_names_the_line_and_what_is_allowed(parse, content, reason):
    with pytest.raises(UserError, match=f"file.config.*{reason}") as caught:
        parse(content)
    assert "\n" not in str(caught.value)


def test_an_error_does_not_quote_a_secret(parse):
    with pytest.raises(UserError, match="line 1") as caught:
        parse(b"words: hunter2 \n", MESSAGES["Inner"], secret=True)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.config' cannot be read: No such file"):
        read_text_proto(tmp_path / "nowhere.config", ModelServerConfig, "")
