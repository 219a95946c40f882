import pytest

from tests import table_factory
from tests.table_factory import texts


def test_duplicates_in_train_and_test_are_warned_of_with_their_lines(ingest_rows):
    vectors = [table_factory.vector([i, 1]) for i in range(40)]
    rows = texts(image=[""] * 40, audio=vectors)
    rows[4]["image"] = rows[35]["image"] = table_factory.image()
    rows[5]["image"] = table_factory.image((0, 0, 0))
    rows[36]["audio"] = rows[26]["audio"]
    rows[7]["audio"] = rows[8]["audio"]  # both in train
    rows[9]["text"] = rows[37]["text"]  # a text with other audio
    dataset = ingest_rows(rows)
    (warning,) = dataset.warnings
    assert "image of line 6 (train) and of line 37 (test)" in warning
    assert "audio of line 28 (val) and of line 38 (test)" in warning
    assert warning.count(" and of line ") == 2
    first, second = dataset.suspicious
    assert (first.line, first.id) == (37, "r35") and first.problem in warning
    assert (second.line, second.id) == (38, "r36") and second.problem in warning


def test_a_warning_has_the_first_rows_and_the_data_set_all_of_them(ingest_rows):
    rows = texts()
    for i in range(32, 40):
        rows[i]["text"] = rows[i - 32]["text"]
    dataset = ingest_rows(rows)
    (warning,) = dataset.warnings
    assert warning.endswith(", and 6 more in warnings.csv.") and len(warning) < 200
    assert [row.id for row in dataset.suspicious] == [f"r{i}" for i in range(32, 40)]


def test_texts_without_a_token_are_counted_with_their_ids(ingest_rows):
    rows = texts()
    rows[3]["text"], rows[30]["text"], rows[9]["text"] = "?!", "--", "😀"
    rows[12]["text"] = ""
    rows[12]["image"] = table_factory.image()
    rows = [{"image": "", **row} for row in rows]
    dataset = ingest_rows(rows)
    (warning,) = dataset.warnings
    assert warning == (
        "Column 'text' has 2 cells without a word or emoji (no token with "
        "text.tokens=word or char): id 'r03', id 'r30' in warnings.csv."
    )
    assert [row.problem for row in dataset.suspicious] == [
        "text has no word or emoji"
    ] * 2


def test_silent_audio_is_named_with_its_id(ingest_rows):
    rows = texts(audio=[table_factory.tone(hz) for hz in range(400, 440)])
    rows[7]["audio"] = table_factory.tone(0)
    (warning,) = ingest_rows(rows).warnings
    assert "'audio' has one cell of silence" in warning and "id 'r07'" in warning


IMAGES = [table_factory.image((i, 0, 0)) for i in range(40)]


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        ([""] * 40, "is empty in all 40 rows"),
        ([""] * 24 + IMAGES[:16], "is empty in all 24 training rows"),
        ([IMAGES[0]] * 40, "has the same content in all 40 rows that have it"),
        (["", *IMAGES[:1] * 39], "has the same content in all 39 rows that have it"),
        (
            [*IMAGES[:1] * 24, *IMAGES[24:]],
            "has the same content in all 24 training rows that have it",
        ),
        (IMAGES, ""),
        ([*IMAGES[:1] * 23, *IMAGES[23:]], ""),
    ],
)
@pytest.mark.parametrize("rows_per_shard", [5, 1024])
def test_an_empty_or_constant_column_is_warned_of_by_name(
    images, problem, rows_per_shard, ingest_rows
):
    table = {"rows_per_shard": rows_per_shard, "image": "photo"}
    warnings = ingest_rows(texts(photo=images), table=table).warnings
    warnings = [warning for warning in warnings if "too easy" not in warning]
    hint = "; train with --table.modalities text to leave it out."
    assert warnings == ([f"Column 'photo' {problem}{hint}"] if problem else [])


def test_only_an_empty_column_is_warned_of_in_a_table_to_evaluate(ingest_rows):
    rows = texts(text=["same words"] * 40, image=[""] * 40)
    (warning,) = ingest_rows(rows, only="test").warnings
    assert warning == "Column 'image' is empty in all 8 rows."


@pytest.mark.parametrize(
    ("images", "problem"),
    [
        (["gone.png"] * 40, "has 40 cells in 40 rows"),
        (["", *["gone.png"] * 39], "has 39 cells in 40 rows"),
        (["gone.png"] * 24 + IMAGES[:16], "has 24 cells in 24 training rows"),
    ],
)
def test_a_column_of_unreadable_cells_is_not_called_empty(images, problem, ingest_rows):
    dataset = ingest_rows(texts(image=images), on_bad_row="absent")
    assert dataset.warnings == (f"Column 'image' {problem}, and none can be read.",)


def test_equal_texts_are_duplicates_in_a_table_of_text(ingest_rows):
    rows = texts()
    rows[34]["text"] = rows[3]["text"]
    (warning,) = ingest_rows(rows).warnings
    assert "text of line 5 (train) and of line 36 (test)" in warning


def test_a_faulty_file_that_is_read_whole_is_warned_of_with_its_line(ingest_rows):
    rows = table_factory.make_rows()
    rows[3]["audio"] = wav = table_factory.faulty_tone()
    (warning,) = ingest_rows(rows).warnings
    start = f"Files with faults were read whole: line 5: the WAV announces {len(wav)} b"
    assert warning.startswith(start) and warning.endswith(" in warnings.csv.")
