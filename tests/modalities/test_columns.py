import re
from dataclasses import replace

import pytest

from mmkeras.config import (
    Config,
    ImageConfig,
    TableConfig,
    TextConfig,
    VectorConfig,
)
from mmkeras.config.presets import PRESETS
from mmkeras.errors import UserError
from mmkeras.modalities.columns import (
    branch_types,
    build_branches,
    build_columns,
    column_entry,
)
from mmkeras.schema import MODALITIES


def build(**columns):
    return build_columns(Config(columns=columns))


def keys(*names):
    return [column.key for column in build(**dict.fromkeys(names, "text"))]


def test_settings_without_columns_are_those_of_text_image_and_audio():
    columns = build_columns(Config())
    assert [(c.name, c.type, c.key) for c in columns] == [(m, m, m) for m in MODALITIES]


def test_columns_are_in_the_order_of_types_and_else_as_declared():
    columns = build(sound="audio", b="text", v="vector", photo="image", a="text")
    assert [column.name for column in columns] == ["b", "a", "photo", "sound", "v"]


def test_a_column_has_the_settings_of_its_type_or_its_own():
    config = Config(
        text=TextConfig(vocab_size=7),
        columns={
            "title": "text",
            "body": {"type": "text", "encoder": "lstm", "max_tokens": "9"},
        },
    )
    title, body = build_columns(config)
    assert title.settings == config.text
    assert body.settings == TextConfig(vocab_size=7, encoder="lstm", max_tokens=9)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("txt", "columns.title has the type 'txt'.*Did you mean 'text'"),
        ({"encoder": "lstm"}, "columns.title has the type 'None'"),
        ({"type": "text", "encodr": "lstm"}, "no setting 'encodr'.*mean 'encoder'"),
        ({"type": "text", "encoder": "lsmt"}, "text.encoder must be one of.*'lstm'"),
        ({"type": "text", "vocab_size": 0}, "text.vocab_size=0"),
        (
            {"type": ["text"]},
            r"title has the type '\['text'\]'.*none of text, ",
        ),
        ({"type": "image", "items": "x"}, "columns.title.items.*'x'"),
        ({"type": "image", "items": 0}, "columns.title.items=0.*at least 1"),
        ({"type": "image", "items": 1.5}, "columns.title.items.*1.5"),
        ({"type": "vector", "vector_width": True}, "columns.title.vector_width"),
        ({"type": "vector", "vector_width": -1}, "columns.title.vector_width=-1"),
        ({"type": "text", "key": "a b"}, "columns.title.key=a b .*end with '_column'"),
        ({"type": "text", "key": "9_column"}, "columns.title.key=9_column"),
        ({"type": "text", "key": 5}, "columns.title.key=5"),
        ({"type": "text", "key": "fused"}, "columns.title.key=fused"),
        ({"type": "numeric", "units": 64}, "title.units=64.*set tabular.units"),
        ({"type": "date", "encoder": "mlp"}, "title.encoder=mlp.*set tabular.encoder"),
        ({"type": "numeric", "encoder": "vector"}, "tabular.encoder must be one of"),
        (
            {"type": "image", "encoder": "vector", "size_px": 64},
            "title.size_px=64 has no effect on vectors.*dropout and units",
        ),
        ({"type": "text", "encoder": "vector", "heads": 2}, "title.heads=2 has no"),
        ({"type": "image", "encoder": "vector", "units": -1}, "vector.units=-1"),
    ],
)
def test_an_impossible_column_is_refused(entry, message):
    with pytest.raises(UserError, match=message):
        build(title=entry)


def test_a_column_of_a_linear_model_has_no_weights_either():
    columns = {"photo": {"type": "image", "encoder": "small_cnn"}}
    with pytest.raises(UserError, match="without image.encoder=small_cnn"):
        build_columns(replace(PRESETS["linear"](), columns=columns))


def test_an_entry_is_a_type_or_a_mapping_with_a_type():
    assert column_entry("title", "text") == {"type": "text"}
    entry = {"type": "text", "encoder": "gru"}
    assert column_entry("title", entry) == entry is not column_entry("title", entry)


def test_a_key_has_letters_digits_and_underscores_and_begins_with_a_letter():
    names = ("Titre n°1", "заголовок", "1", "_x", "a.b/c")
    assert all(re.fullmatch("[A-Za-z][A-Za-z0-9_]*", key) for key in keys(*names))


def test_names_that_become_the_same_have_different_keys():
    names = ("a b", "a-b", "a_b", "A_b", "犬", "猫", "present", "target", "weight")
    distinct = {*map(str.lower, keys(*names)), "present", "target", "weight"}
    assert len(distinct) == len(names) + 3  # TensorFlow knows no case


def test_the_keys_of_other_columns_do_not_change_that_of_a_modality():
    assert keys("text_", "text", "image") == ["text__column", "text", "image"]


def test_a_key_in_the_settings_is_kept():
    (column,) = build(title={"type": "text", "key": "headline_column"})
    assert column.key == "headline_column"
    assert column.settings == Config().text


@pytest.mark.parametrize("kind", ["text", "image", "audio", "vector"])
def test_a_column_of_vectors_keeps_the_name_of_its_type(kind):
    encoder = {} if kind == "vector" else {"encoder": "vector"}
    (column,) = build(x={"type": kind, "vector_width": 5, **encoder})
    assert (column.type, column.width, column.has_files) == (kind, 5, True)
    assert column.input({}) == ((5,), "float32")
    assert column.settings.units == (Config().audio.units if kind == "audio" else 256)


def test_a_column_of_vectors_has_settings_of_its_own():
    values = {"encoder": "vector", "units": "50", "dropout": 0.1}
    for kind in ("image", "text", "audio"):
        (column,) = build(x={"type": kind, **values})
        assert (column.settings.units, column.settings.dropout) == (50, 0.1)
    config = Config(image=ImageConfig(encoder="vector"), vector=VectorConfig(units=7))
    config = replace(config, columns={"x": {"type": "image", "dropout": 0.3}})
    (column,) = build_columns(config)
    assert column.settings == VectorConfig(units=7, dropout=0.3)


def test_numbers_keep_the_settings_that_are_their_own():
    (column,) = build(price={"type": "numeric", "scale": "quantile"})
    assert column.settings.scale == "quantile"


def test_columns_that_share_an_encoder_have_the_same_settings():
    shared = {"type": "image", "share": True}
    assert len(build(a=shared, b=shared, c={"type": "image", "size_px": 64})) == 3
    with pytest.raises(UserError, match="columns.a and columns.b.*size_px is 224 and"):
        build(a=shared, b={**shared, "size_px": 64})


def test_each_branch_has_its_type():
    columns = build(title="text", body="text", photo="image")
    branches = build_branches(columns, Config())
    types = {"title": "text", "body": "text", "photo": "image"}
    assert branch_types(branches, Config()) == types
    assert [branch.columns for branch in branches] == [(c,) for c in columns]


def test_the_label_of_a_generator_is_a_text_after_the_branches():
    config = Config(
        task="generate",
        columns={"photo": "image", "title": "text"},
        table=TableConfig(label="caption"),
    )
    branches = build_branches(build_columns(config), config)
    types = branch_types(branches, config)
    assert list(types.items())[-1] == ("caption", "text")
    assert set(types) == {"photo", "title", "caption"}


def test_numbers_and_categories_are_one_branch_whose_name_is_reserved():
    config = Config(columns={"price": "numeric", "photo": "image", "breed": "category"})
    branches = build_branches(build_columns(config), config)
    names = {b.name: [c.name for c in b.columns] for b in branches}
    assert names == {"photo": ["photo"], "tabular": ["price", "breed"]}
    config = Config(columns={"price": "numeric", "tabular": "text"})
    with pytest.raises(UserError, match="'tabular' has the name of the branch.*Rename"):
        build_branches(build_columns(config), config)
