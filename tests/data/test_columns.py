import numpy as np
import pytest

from mmkeras.config import Config, TableConfig
from mmkeras.data.columns import Role, describe_roles, find_columns
from mmkeras.data.tables import Embedded
from mmkeras.errors import UserError
from mmkeras.modalities.vector.npy import npy_bytes
from tests.table_factory import image, tone, vector

LABELS = ("a", "b")


@pytest.fixture
def find(tmp_path):
    """Writes columns of cells, and finds their roles by settings of the table."""
    (tmp_path / "a.png").write_bytes(image())
    (tmp_path / "a.wav").write_bytes(tone())
    (tmp_path / "a.npy").write_bytes(vector(range(5)))

    def find(columns, **settings):
        rows = zip(*columns.values(), strict=True)
        lines = [columns, *rows]
        text = "".join(",".join(map(str, line)) + "\n" for line in lines)
        (tmp_path / "data.csv").write_text(text)
        entries = settings.pop("entries", {})
        config = Config(columns=entries, table=TableConfig(**settings))
        config, roles = find_columns(tmp_path / "data.csv", config)
        types = {name: entry["type"] for name, entry in config.columns.items()}
        return types, {role.column: role for role in roles}, config

    return find


def repeat(*cells, rows=20):
    return [cells[i % len(cells)] for i in range(rows)]


LABEL = {"label": repeat(*LABELS)}


def test_columns_with_the_names_of_types_need_no_declaration(find):
    types, roles, _ = find({"audio": repeat(""), "text": repeat("x"), **LABEL})
    assert list(types.items()) == [("text", "text"), ("audio", "audio")]
    assert roles["text"] == Role(column="text", use="text", reason="by its name")
    assert roles["label"].use == "label"


def test_declared_columns_have_their_types_in_the_order_of_the_branches(find):
    table = {"photo": repeat("a.png"), "body": repeat("x y"), "head": repeat("z")}
    types, roles, _ = find({**table, **LABEL}, text="head, body", image="photo")
    assert list(types.items()) == [
        ("head", "text"),
        ("body", "text"),
        ("photo", "image"),
    ]
    assert roles["head"].reason == "declared"


def test_settings_of_a_column_stay_with_it(find):
    entry = {"type": "text", "encoder": "lstm"}
    _, _, config = find({"head": repeat("x"), **LABEL}, entries={"head": entry})
    assert config.columns == {"head": entry}


def test_other_columns_are_recognised_by_their_content(find):
    table = {
        "picture": repeat("a.png"),
        "sound": repeat("a.wav"),
        "embedding": repeat("a.npy"),
        "prose": [f"some words, {i}".replace(",", "") for i in range(20)],
        "nothing": repeat(""),
        "uid": [f"r{i}" for i in range(20)],
        "row": list(range(7, 27)),
    }
    types, roles, config = find({**table, **LABEL})
    expected = {"prose": "text", "picture": "image", "sound": "audio"}
    assert types == {**expected, "embedding": "vector"}
    assert config.columns["embedding"]["vector_width"] == 5
    assert roles["picture"].reason == "paths of images"
    assert roles["nothing"] == Role(column="nothing", use="", reason="empty")
    assert "id" in roles["uid"].reason and not roles["uid"].use
    assert roles["row"].reason == "counts the rows"


@pytest.mark.parametrize("name", ["customer_id", "customerId", "UUID", "owner ids"])
def test_ids_that_repeat_are_known_by_their_name(find, name):
    for cells in ([i % 20 for i in range(60)], [f"C{i % 20}" for i in range(60)]):
        table = {name: cells, "text": repeat("x y", rows=60)}
        types, roles, _ = find({**table, "label": repeat(*LABELS, rows=60)})
        assert types == {"text": "text"}
        assert roles[name].reason == "an id, by its name"


def test_files_are_used_whatever_the_name_of_their_column(find):
    table = {"photo_id": repeat("a.png"), "paid": repeat("yes", "no"), **LABEL}
    assert find(table)[0] == {"photo_id": "image", "paid": "category"}


def test_keys_are_ids_only_if_all_values_differ(find):
    table = {"key": repeat("C", "D", "E"), "index": [f"r{i}" for i in range(20)]}
    types, roles, _ = find({**table, **LABEL})
    assert types == {"key": "category"} and "all values differ" in roles["index"].reason


def test_integers_are_numbers_or_categories_or_ids(find):
    ages = [3, 1, 9, 2, 7, 7, 4, 5, 8, 6, 1, 2, 3, 9, 5]
    table = {
        "age": ages,
        "rooms": [age % 3 for age in ages],
        "rank": sorted(range(15), key=lambda i: i % 4),
        "year": [2024] * 15,
        "area": [f"{age} 000" for age in ages],
    }
    types, roles, _ = find({**table, "label": repeat(*LABELS, rows=15)})
    assert types == {"age": "numeric", "area": "numeric", "rooms": "category"}
    assert roles["rank"].reason == "all values differ"
    assert roles["year"].reason == "all values are equal"


def test_a_label_with_another_name_is_no_input(find):
    table = {"text": repeat("x y"), "adopted": repeat("yes", "no")}
    types, roles, _ = find(table, label="adopted")
    assert types == {"text": "text"} and roles["adopted"].use == "label"


def test_a_column_of_files_without_a_role_is_refused_if_others_are_declared(find):
    table = {"photo": repeat("a.png"), "second": repeat("a.png"), **LABEL}
    with pytest.raises(UserError, match="'second'.*--table.image photo,second") as e:
        find(table, image="photo")
    assert "--table.ignore second" in str(e.value)
    types, roles, _ = find(table, image="photo", ignore="second")
    assert types == {"photo": "image"} and roles["second"].use == ""


def test_a_column_that_is_not_declared_is_left_out_if_others_are(find):
    table = {"head": repeat("x"), "note": repeat("some words"), **LABEL}
    types, roles, _ = find(table, text="head")
    assert types == {"head": "text"} and not roles["note"].use


def test_table_modalities_chooses_types_or_columns(find):
    table = {"text": repeat("x"), "image": repeat("a.png"), **LABEL}
    assert find(table, modalities="image")[0] == {"image": "image"}
    _, roles, _ = find(table, modalities="text")
    assert roles["image"] == Role(column="image", use="", reason="table.modalities")


def test_a_declared_column_that_is_missing_is_refused(find):
    with pytest.raises(UserError, match="no column 'titel'.*Did you mean 'title'"):
        find({"title": repeat("x"), **LABEL}, text="titel")
    with pytest.raises(UserError, match="type 'txt'.*Did you mean 'text'"):
        find({"title": repeat("x"), **LABEL}, entries={"title": "txt"})


def test_the_remedy_for_a_missing_column_is_the_setting_that_names_it(find):
    table = {"title": repeat("x"), **LABEL}
    with pytest.raises(UserError, match="set table.date"):
        find(table, date="day")
    with pytest.raises(UserError, match="set columns"):
        find(table, entries={"place": "geo"})


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"label": "y"}, "table.label"),
        ({"split_column": "y"}, "table.split_column"),
        ({"ignore": "y"}, "table.ignore"),
    ],
)
def test_an_input_has_no_other_use(find, settings, setting):
    table = {"y": repeat("a", "b"), "text": repeat("x"), **LABEL}
    message = f"'y' is declared as category, and {setting} names it"
    with pytest.raises(UserError, match=message):
        find(table, category="y", **settings)


def test_a_name_that_would_split_the_status_of_rows_is_refused(find):
    with pytest.raises(UserError, match="'a; b' has '; ' in its name.*Rename"):
        find({"a; b": repeat("x"), **LABEL}, text="a; b")


def test_an_ignored_column_that_is_missing_is_refused(find):
    with pytest.raises(UserError, match="'pricee'.*Did you mean 'price'.*table.ignore"):
        find({"text": repeat("x"), "price": repeat("1"), **LABEL}, ignore="pricee")


def test_a_table_without_an_input_is_refused(find):
    with pytest.raises(UserError, match="model can use.*x: not used \\(empty\\)"):
        find({"x": repeat(""), **LABEL})


@pytest.mark.parametrize("name", ["text", "image", "audio"])
def test_paths_of_vectors_make_a_column_of_any_type_one_of_vectors(find, name):
    _, _, config = find({name: repeat("a.npy", ""), **LABEL})
    entry = {"type": name, "encoder": "vector", "vector_width": 5}
    assert config.columns == {name: entry}


def test_the_width_is_that_of_most_readable_vectors(find, tmp_path):
    for name, width in (("c", 5), ("d", 6), ("e", 6)):
        np.save(tmp_path / f"{name}.npy", np.zeros(width, "float32"))
    cells = ["gone.npy", "c.npy", "d.npy", "e.npy"]
    table = {"text": cells, "label": repeat(*LABELS, rows=4)}
    assert find(table)[2].columns["text"]["vector_width"] == 6
    table = {"text": ["gone.npy"] * 2, "label": LABELS}
    with pytest.raises(UserError, match="text column.*first 2 .*gone.npy.*paths"):
        find(table)


def test_found_columns_are_found_again(find):
    table = {"picture": repeat("a.png"), "embedding": repeat("a.npy"), **LABEL}
    _, _, config = find(table)
    assert find(table, entries=config.columns)[2].columns == config.columns


def test_the_line_of_roles_names_every_column_and_the_reason(find):
    _, roles, _ = find({"text": repeat("x y"), "empty": repeat(""), **LABEL})
    assert describe_roles(list(roles.values())) == (
        "Columns: text: text (by its name); empty: not used (empty); label: label."
    )


def test_an_unknown_name_of_table_modalities_is_refused(find):
    with pytest.raises(UserError, match="names 'txet'.*Did you mean 'text'"):
        find({"text": repeat("x y"), **LABEL}, modalities="txet")


def test_several_files_per_cell_are_counted(find):
    photos = repeat("a.png", "a.png; a.png;a.png")
    _, roles, config = find({"photos": photos, **LABEL})
    assert config.columns["photos"] == {"type": "image", "items": 3}
    assert roles["photos"].reason == "paths of images"


def test_prices_with_a_decimal_comma_are_numbers(find):
    table = {"price": [f'"{i % 9},50"' for i in range(20)], "text": repeat("x y")}
    assert find({**table, **LABEL})[0] == {"text": "text", "price": "numeric"}


def test_numbers_categories_dates_and_places_are_recognised(find):
    table = {
        "price": [f"{i}.5" for i in range(20)],
        "breed": repeat("cat", "dog", "cow"),
        "born": [f"2024-05-{i:02d}" for i in range(1, 21)],
        "place": [f"{i}.5;13.4" for i in range(20)],
    }
    types, roles, _ = find({**table, **LABEL})
    expected = {"price": "numeric", "breed": "category", "born": "date"}
    assert types == {**expected, "place": "geo"}
    assert roles["breed"].reason == "3 distinct values"


def test_a_word_among_numbers_is_no_category(find):
    numbers = ["?", *(str(i // 2) for i in range(39))]
    words = ["?", "-", "x", *numbers[3:]]
    sizes = ["XL", "XL", *(str(36 + i % 15) for i in range(38))]
    others = {"label": repeat(*LABELS, rows=40), "text": repeat("x y", rows=40)}
    text = {"text": "text"}
    assert find({"age": numbers, **others})[0] == {**text, "age": "numeric"}
    assert find({"age": words, **others})[0] == text
    assert find({"size": sizes, **others})[0] == {**text, "size": "category"}


def test_cells_that_are_lists_are_files_texts_or_vectors():
    vectors = [npy_bytes([0.5] * 3)] * 20
    values = {
        "tags": repeat(("red", "blue"), ("red",), ("green", "red")),
        "notes": [(f"note {i}", "other") for i in range(20)],
        "vectors": [*vectors[:15], *(npy_bytes([0.5] * i) for i in range(1, 6))],
        "boxes": [npy_bytes([0.5] * (1 + i % 5)) for i in range(20)],
        "written": repeat("[0.5, 1, 2]", "[0.5, 2, 1e-3]"),
        **LABEL,
    }
    rows = [
        dict(zip(values, row, strict=True))
        for row in zip(*values.values(), strict=True)
    ]
    config, _ = find_columns(rows, Config())
    types = {name: entry["type"] for name, entry in config.columns.items()}
    expected = {"tags": "text", "notes": "text"}
    assert types == {**expected, "vectors": "vector", "written": "vector"}


def test_values_of_an_unknown_type_are_a_matter_of_their_column():
    rows = [
        {"title": f"some words {i}", "price": i + 0.5, "meta": {"a": i}, "label": "a"}
        for i in range(20)
    ]
    rows[3]["price"] = {"a": 1}
    rows[4]["gone"] = Embedded(file="no.arrow", column="gone", row=0)
    config, roles = find_columns(rows, Config())
    reasons = {role.column: role.reason for role in roles if not role.use}
    assert list(config.columns) == ["title", "price"]
    assert reasons == {
        "meta": "a cell is a dictionary with the keys a",
        "gone": "a cell no.arrow cannot be read: No such file or directory",
    }
