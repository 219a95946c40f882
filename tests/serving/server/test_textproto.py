import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from mmkeras.errors import UserError
from serving.server.textproto import messages, read

FIELDS = {
    "Inner": {"flag": "bool", "words": "repeated string"},
    "Outer": {"inner": "Inner", "count": "google.protobuf.Int64Value"},
}


def parse(tmp_path, text, kind=ModelServerConfig, **kwargs):
    path = tmp_path / "file.config"
    path.write_text(text)
    return read(path, kind, "an example", **kwargs)


def test_messages_nest_repeat_and_know_what_is_absent(tmp_path):
    outer = messages(FIELDS)["Outer"]
    read_one = parse(tmp_path, 'inner { words: "a" words: "b" flag: true }', outer)
    assert list(read_one.inner.words) == ["a", "b"] and read_one.inner.flag
    assert not read_one.HasField("count")
    assert parse(tmp_path, "count { value: 0 }", outer).HasField("count")


def test_an_unknown_field_is_named_with_its_line_and_a_near_one(tmp_path):
    with pytest.raises(UserError) as caught:
        parse(tmp_path, 'model_config_list {\n config { base_pth: "/m" }\n}')
    assert str(caught.value).endswith(
        "file.config', line 2: there is no field 'base_pth' in ModelConfig. Did you "
        "mean 'base_path'? It holds a ModelServerConfig in text form, as in: an example"
    )


def test_an_unknown_field_far_from_any_is_answered_by_all_there_are(tmp_path):
    with pytest.raises(UserError, match="Known: config"):
        parse(tmp_path, "model_config_list { zzz {} }")


@pytest.mark.parametrize(
    "text, reason",
    [
        ("model_config_list {", 'line 1: Expected "}".'),
        ("\n\nmodel_config_list { config { name: 3 } }", "line 3: Expected string"),
        ("custom_model_config { [type.googleapis.com/x.Y] {} }", "Type x.Y not found"),
    ],
)
def test_broken_text_says_where_and_why(tmp_path, text, reason):
    with pytest.raises(UserError) as caught:
        parse(tmp_path, text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_secret_is_not_repeated(tmp_path):
    kind = messages(FIELDS)["Inner"]
    with pytest.raises(UserError) as caught:
        parse(tmp_path, "words: hunter2 \n", kind, secret=True)
    assert "hunter2" not in str(caught.value) and "line 1" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere.config' cannot be read: No such file"):
        read(tmp_path / "nowhere.config", ModelServerConfig, "")
    (tmp_path / "latin.config").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="latin.config' is not text in UTF-8"):
        read(tmp_path / "latin.config", ModelServerConfig, "")
