import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow as tf
from filelock import FileLock

from mmkeras.data import ingest, shards
from mmkeras.data.dataset import with_detected_encoders
from mmkeras.data.example_reader import RowReader
from mmkeras.errors import UserError
from tests import table_factory


def texts(splits=table_factory.FORTY, **columns):
    """Rows of text only, which are read in no time."""
    rows = [
        {"id": f"r{i:02d}", "split": split, "label": "ab"[i % 2], "text": f"word {i}"}
        for i, split in enumerate(splits)
    ]
    for name, cells in columns.items():
        for row, cell in zip(rows, cells, strict=True):
            row[name] = cell
    return rows


@pytest.fixture
def taken(tmp_path):
    """Writes the rows to a table and ingests it."""

    def one(rows, only=None, **changes):
        table = table_factory.write_table(tmp_path / "data" / "data.csv", rows)
        config = table_factory.tiny_config(tmp_path / "cache", **changes)
        return ingest.ingest(table, config, only=only)

    return one


def examples(dataset, split):
    """The stored rows: {name: bytes or number} each."""
    for record in tf.data.TFRecordDataset(dataset.files(split)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        yield {
            name: getattr(f, f.WhichOneof("kind")).value[0]
            for name, f in features.items()
        }


def ids(dataset, split):
    return [row["id"].decode() for row in examples(dataset, split)]


def cached(cache):
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


# Bad rows ---------------------------------------------------------------------

# Id, what stands there instead, and what is said about it.
BAD = {
    "r02": ({"image": "gone.png"}, "image 'gone.png': file not found"),
    "r03": ({"image": table_factory.picture()[:60]}, "picture cannot be decoded"),
    "r05": ({"audio": table_factory.tone()[:3000]}, "truncated WAV"),
    "r06": ({"audio": b"\0\0\0\x20ftypM4A " + b"\0" * 90}, "unsupported format"),
    "r09": ({"image": b""}, "file is empty"),
    "r10": ({"image": table_factory.bomb()}, "200 megapixels"),
    "r13": ({"label": ""}, "label is missing"),
    "r14": ({"text": "caf\udce9"}, "column 'text' has bytes that are not UTF-8"),
    "r18": ({"id": "r01"}, "id 'r01' is already that of line 3"),
}
OF_MEDIA = [i for i, (change, _) in BAD.items() if {"image", "audio"} & set(change)]


@pytest.fixture(scope="module")
def bad_table(tmp_path_factory):
    rows = table_factory.make_rows()
    for i, (change, _) in BAD.items():
        rows[int(i[1:])].update(change)
    path = tmp_path_factory.mktemp("bad") / "data" / "data.csv"
    return table_factory.write_table(path, rows)


def line_of(row_id):
    return int(row_id[1:]) + 2


def test_bad_rows_of_every_kind_are_refused_in_one_message(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="fail")
    with pytest.raises(UserError) as refusal:
        ingest.ingest(bad_table, config)
    first, *lines, last = str(refusal.value).split("\n")
    assert first == f"{len(BAD)} of 40 rows cannot be used:"
    for line, (row_id, (change, said)) in zip(lines, BAD.items(), strict=True):
        shown = change.get("id", row_id)
        assert line.startswith(f"  line {line_of(row_id)} (id {shown}): ")
        assert said in line
    assert "--on-bad-row reject" in last and "--on-bad-row absent" in last
    assert cached(tmp_path / "cache") == []


def test_rejected_rows_are_left_out_and_listed(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="reject")
    dataset = ingest.ingest(bad_table, config)
    assert [bad.line for bad in dataset.rejected] == [line_of(i) for i in BAD]
    for bad, (_, said) in zip(dataset.rejected, BAD.values(), strict=True):
        assert said in bad.problem
    assert dataset.rows == {"train": 24 - len(BAD), "val": 8, "test": 8}
    left = set(ids(dataset, "train"))
    assert left == {f"r{i:02d}" for i in range(24)} - set(BAD)
    assert dataset.unreadable == ()
    assert sum(dataset.class_rows("train").values()) == 24 - len(BAD)


def test_an_unreadable_modality_counts_as_absent_in_its_row(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="absent")
    dataset = ingest.ingest(bad_table, config)
    assert [bad.id for bad in dataset.unreadable] == OF_MEDIA
    rejected = [i for i in BAD if i not in OF_MEDIA]  # nothing there to go on with
    assert [bad.line for bad in dataset.rejected] == [line_of(i) for i in rejected]
    assert dataset.absent == {"text": 0, "image": 4, "audio": 2}
    rows = {row["id"].decode(): row for row in examples(dataset, "train")}
    assert rows["r03"]["audio"] and rows["r03"]["text"]
    assert not [name for name in rows["r03"] if name.startswith("image")]
    assert rows["r03"]["status"] == b"image unreadable"
    assert rows["r05"]["status"] == b"audio unreadable"
    assert rows["r00"]["status"] == b""


def test_at_most_twenty_bad_rows_are_listed_and_the_others_counted(taken, tmp_path):
    labels = ["" if i % 8 < 5 else "ab"[i % 2] for i in range(40)]
    with pytest.raises(UserError) as refusal:
        taken(texts(label=labels))
    first, *lines, more, _ = str(refusal.value).split("\n")
    assert first.startswith("25 of 40 rows") and len(lines) == 20
    assert more == "  ... and 5 more"
    assert cached(tmp_path / "cache") == []


def test_a_row_with_nothing_readable_is_rejected_and_never_an_empty_one(taken):
    rows = texts(text=["", *["hi"] * 39], image=["gone.png", *[""] * 39])
    dataset = taken(rows, on_bad_row="absent")
    assert [bad.id for bad in dataset.rejected] == ["r00"]
    assert dataset.unreadable == ()


def test_a_vector_of_another_width_is_a_bad_row(taken):
    vectors = [table_factory.vector(np.arange(4) + i) for i in range(40)]
    vectors[7] = table_factory.vector(range(5))
    with pytest.raises(UserError, match="line 9 .*5 numbers where others have 4"):
        taken(texts(text=vectors))
    dataset = taken(texts(text=vectors), on_bad_row="reject")
    assert dataset.widths == {"text": 4} and len(dataset.rejected) == 1


def test_bad_rows_that_empty_a_split_or_leave_one_class_are_refused(taken, tmp_path):
    rows = table_factory.make_rows(["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    for row in rows:
        row["text"], row["audio"] = "", ""
    for row in rows[6:]:
        row["image"] = b"broken"
    with pytest.raises(UserError, match="No usable row is left in test"):
        taken(rows, on_bad_row="reject")
    for i in (1, 3):
        rows[i]["image"] = b"broken"
    rows[6]["image"] = table_factory.picture()
    with pytest.raises(UserError, match="training rows have one class only"):
        taken(rows, on_bad_row="reject")
    assert cached(tmp_path / "cache") == []


# What is stored ---------------------------------------------------------------


def test_a_bom_crlf_and_newlines_in_quotes_reach_the_record_unchanged(tmp_path):
    cells = ['"two\r\nlines, one cell"', '"a ""quoted"" word"', "Grüße", "plain"]
    lines = [f"{cell},{'ab'[i % 2]}" for i, cell in enumerate(cells * 3)]
    table = tmp_path / "data.csv"
    table.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["text,label", *lines]).encode())
    dataset = ingest.ingest(table, table_factory.tiny_config(tmp_path / "cache"))
    stored = [r["text"].decode() for s in dataset.rows for r in examples(dataset, s)]
    expected = ["two\r\nlines, one cell", 'a "quoted" word', "Grüße", "plain"] * 3
    assert sorted(stored) == sorted(expected)


def test_media_are_stored_as_the_graph_decodes_them(taken):
    rows = table_factory.make_rows()
    rows[0]["audio"] = table_factory.tone(kind="FLAC", rate_hz=44_100)
    rows[1]["image"] = table_factory.picture((9, 200, 30), kind="TIFF")
    dataset = taken(rows)
    stored = {row["id"].decode(): row for row in examples(dataset, "train")}
    assert stored["r02"]["image"] == rows[2]["image"]
    assert stored["r02"]["audio"] == rows[2]["audio"]
    assert stored["r00"]["audio"][:4] == b"RIFF"
    with tf.io.gfile.GFile(dataset.folder / "x.wav", "wb") as file:
        file.write(stored["r00"]["audio"])
    assert soundfile.info(str(dataset.folder / "x.wav")).samplerate == 16_000
    assert stored["r01"]["image"].startswith(b"\x89PNG")


def test_training_rows_are_shuffled_and_the_others_as_in_the_table(taken):
    rows = texts(label=["a"] * 12 + ["b"] * 12 + ["a", "b"] * 8)
    dataset = taken(rows)
    train = ids(dataset, "train")
    assert sorted(train) == [f"r{i:02d}" for i in range(24)] and train != sorted(train)
    labels = "".join(row["label"].decode() for row in examples(dataset, "train"))
    assert "a" * 12 not in labels  # a table sorted by label makes mixed batches
    assert ids(dataset, "val") == [f"r{i:02d}" for i in range(24, 32)]
    assert ids(dataset, "test") == [f"r{i:02d}" for i in range(32, 40)]


def test_a_shard_holds_at_most_the_rows_it_may(taken):
    dataset = taken(texts(), table={"rows_per_shard": 10})
    sizes = {
        split: [
            sum(1 for _ in tf.data.TFRecordDataset(str(dataset.folder / name)))
            for name in names
        ]
        for split, names in dataset.shards.items()
    }
    assert sizes == {"train": [10, 10, 4], "val": [8], "test": [8]}


def test_a_column_of_npy_files_is_taken_for_vectors(taken, tmp_path):
    rows = texts(audio=[table_factory.vector([i, 1, 2]) for i in range(40)])
    rows[3]["audio"] = ""
    dataset = taken(rows)
    assert dataset.encoders == {"audio": "vector"}
    assert dataset.widths == {"audio": 3} and dataset.absent["audio"] == 1
    assert (
        with_detected_encoders(
            table_factory.tiny_config(tmp_path), dataset
        ).audio.encoder
        == "vector"
    )
    rows[5]["audio"] = (
        table_factory.tone()
    )  # one sound among them: they are sounds, badly
    with pytest.raises(UserError, match="39 of 40|38 of 40"):
        taken(rows)


def test_labels_are_counted_by_split_and_by_class(taken):
    dataset = taken(texts(label=["a|b", "b"] * 20))
    assert dataset.labels["train"] == {"a|b": 12, "b": 12}
    assert dataset.class_rows("val") == Counter(a=4, b=8)


# Twins ------------------------------------------------------------------------


def test_the_same_picture_in_train_and_test_is_warned_of_with_its_lines(taken):
    rows = table_factory.make_rows()
    rows[35]["image"], rows[36]["audio"] = rows[4]["image"], rows[26]["audio"]
    rows[7]["image"] = rows[8]["image"]  # both for training: no harm
    rows[9]["text"] = rows[37]["text"]  # a word beside another picture is no twin
    (warning,) = taken(rows).warnings
    assert "image of line 6 (train) and of line 37 (test)" in warning
    assert "audio of line 28 (val) and of line 38 (test)" in warning
    assert warning.count(" and of line ") == 2


def test_where_text_is_all_there_is_the_same_text_is_a_twin(taken):
    rows = texts()
    rows[34]["text"] = rows[3]["text"]
    (warning,) = taken(rows).warnings
    assert "text of line 5 (train) and of line 36 (test)" in warning


# The cache --------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch):
    """Counts the rows whose media are read."""
    count = []
    read = RowReader.read

    def counted(self, row):
        count.append(row.line)
        return read(self, row)

    monkeypatch.setattr(RowReader, "read", counted)
    return count


def test_the_second_ingest_reads_nothing_and_finds_the_same(taken, reads):
    first = taken(texts())
    assert len(reads) == 40
    second = taken(texts(), table={"workers": 1}, train={"batch_size": 3})
    assert len(reads) == 40 and asdict(second) == asdict(first)


def test_a_changed_table_or_setting_is_ingested_anew(taken, reads):
    rows = texts()
    folders = {taken(rows).folder}
    rows[3]["text"] = "another word"
    folders.add(taken(rows).folder)
    folders.add(taken(rows, on_bad_row="reject").folder)
    folders.add(taken(rows, table={"rows_per_shard": 7}).folder)
    assert len(folders) == 4 and len(reads) == 160


def test_a_changed_file_is_ingested_anew(taken, reads, tmp_path):
    rows = texts(audio=[table_factory.vector([i, 1]) for i in range(40)])
    first = taken(rows)
    table = tmp_path / "data" / "data.csv"
    config = table_factory.tiny_config(tmp_path / "cache")
    assert ingest.ingest(table, config).folder == first.folder and len(reads) == 40
    file = tmp_path / "data" / "003-audio.npy"
    before = file.stat()
    file.write_bytes(table_factory.vector([9, 9]))  # as many bytes, and the old time
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ingest.ingest(table, config).folder != first.folder and len(reads) == 80


def test_another_seed_divides_the_rows_anew(taken):
    rows = [{k: v for k, v in row.items() if k != "split"} for row in texts()]
    one, again, other = (taken(rows, seed=seed) for seed in (1, 1, 2))
    assert one.split_fingerprint == again.split_fingerprint != other.split_fingerprint


KILLED = """
import os, signal, sys
from pathlib import Path
from mmkeras.data import ingest, shards
from tests import table_factory

make = shards.make_example
def one(read, split):
    if read.row.id == "r30":  # when the training rows are through
        os.kill(os.getpid(), signal.SIGKILL)
    return make(read, split)
shards.make_example = one
base = Path(sys.argv[1])
ingest.ingest(base / "data" / "data.csv", table_factory.tiny_config(base / "cache"))
"""


def test_a_killed_ingest_leaves_nothing_that_is_taken_for_whole(tmp_path, taken):
    table_factory.write_table(tmp_path / "data" / "data.csv", texts())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    left_over, lock = sorted(cached(tmp_path / "cache"))
    assert left_over.startswith(".partial-") and lock == f"{left_over}.lock"
    assert list((tmp_path / "cache" / left_over).glob("Split-train/*"))

    dataset = taken(texts())

    assert dataset.rows == {"train": 24, "val": 8, "test": 8}
    assert cached(tmp_path / "cache") == [dataset.folder.name]


def test_what_a_living_process_is_writing_is_left_alone(taken, tmp_path):
    other = tmp_path / "cache" / ".partial-x"
    other.mkdir(parents=True)
    with FileLock(other.with_name(".partial-x.lock")):
        taken(texts())
        assert other.is_dir()
    other_texts = texts() + [{**texts()[0], "id": "more"}]
    taken(other_texts)
    assert not other.exists()  # nobody holds it any more


def test_what_another_user_left_behind_is_no_error(taken, tmp_path, monkeypatch):
    locks = ingest.FileLock

    def refuse(path):
        if path.name == ".partial-theirs.lock":
            raise PermissionError(13, "Permission denied", str(path))
        return locks(path)

    monkeypatch.setattr(ingest, "FileLock", refuse)
    theirs = tmp_path / "cache" / ".partial-theirs"
    theirs.mkdir(parents=True)
    dataset = taken(texts())
    assert theirs.is_dir()
    assert dataset.folder.stat().st_mode & 0o077 == 0  # training data is private


def test_the_lock_of_a_run_killed_before_its_first_shard_is_removed(taken, tmp_path):
    lock = tmp_path / "cache" / ".partial-x.lock"
    lock.parent.mkdir()
    lock.touch()
    folder = taken(texts()).folder
    assert cached(tmp_path / "cache") == [folder.name]


def test_an_error_in_the_middle_leaves_nothing(taken, tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(shards, "make_example", full)
    with pytest.raises(OSError, match="No space"):
        taken(texts())
    assert cached(tmp_path / "cache") == []


# Evaluation -------------------------------------------------------------------


def test_to_evaluate_only_the_rows_of_the_split_are_taken(taken):
    dataset = taken(texts(), only="val")
    assert dataset.rows == {"train": 0, "val": 0, "test": 8}
    assert ids(dataset, "test") == [f"r{i:02d}" for i in range(24, 32)]


def test_to_evaluate_a_table_without_splits_all_rows_are_taken(taken):
    rows = [{"text": "hi", "label": "a"} for _ in range(3)]  # of one class even
    assert taken(rows, only="test").rows["test"] == 3


def test_to_evaluate_a_split_without_rows_is_refused(taken):
    with pytest.raises(UserError, match="no row of the split test"):
        taken(texts(["train"] * 30 + ["val"] * 10), only="test")


def test_runs_with_different_encoders_share_records_and_keep_their_encoders(tmp_path):
    table = table_factory.write_table(tmp_path / "data.csv", texts())
    found = []
    for encoder in ("tfidf", "lstm"):
        config = table_factory.tiny_config(tmp_path, text={"encoder": encoder})
        dataset = ingest.ingest(table, config)
        assert with_detected_encoders(config, dataset).text.encoder == encoder
        found.append(dataset.folder)
    assert found[0] == found[1]


def test_other_rows_of_one_table_are_other_records(tmp_path):
    table = table_factory.write_table(tmp_path / "data.csv", texts())
    config = table_factory.tiny_config(tmp_path)
    found = {s: ingest.ingest(table, config, only=s) for s in ("val", "test")}
    assert found["val"].folder != found["test"].folder
    assert found["val"].content != found["test"].content


def test_rows_that_leave_one_class_are_listed_with_the_refusal(tmp_path):
    rows = [{**row, "label": "red"} for row in texts()]
    rows[3]["label"] = ""
    table = table_factory.write_table(tmp_path / "data.csv", rows)
    with pytest.raises(UserError, match=r"(?s)two classes.*1 of 40 rows.*line 5 "):
        ingest.ingest(table, table_factory.tiny_config(tmp_path / "cache"))
