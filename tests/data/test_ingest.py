import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import tensorflow as tf

from mmkeras.data import ingest, shards
from mmkeras.data.dataset import with_columns
from mmkeras.data.example_reader import RowReader
from mmkeras.data.ingest_plan import Shard
from mmkeras.data.table import Row
from mmkeras.errors import UserError
from tests import table_factory
from tests.table_factory import texts


@pytest.fixture
def reads(monkeypatch):
    """Counts the rows whose media are read."""
    lines, read = [], RowReader.read

    def count(self, row):
        lines.append(row.line)
        return read(self, row)

    monkeypatch.setattr(RowReader, "read", count)
    return lines


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
    """Names in the cache; a lock file may stay, as the version of filelock does."""
    paths = cache.iterdir() if cache.exists() else []
    return sorted(path.name for path in paths if path.suffix != ".lock")


# Id -> the changed cell, and the problem.
BAD = {
    "r02": ({"image": "gone.png"}, "image 'gone.png': file not found"),
    "r03": ({"image": table_factory.image()[:60]}, "cannot be decoded"),
    "r05": ({"audio": table_factory.tone()[:3000]}, "truncated WAV"),
    "r06": ({"audio": b"\0\0\0\x20ftypM4A " + b"\0" * 90}, "M4A"),
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
    assert first.startswith(f"{len(BAD)} of 40 rows")
    for line, (row_id, (change, problem)) in zip(lines, BAD.items(), strict=True):
        shown = change.get("id", row_id)
        assert line.startswith(f"  line {line_of(row_id)} (id {shown}): ")
        assert problem in line
    assert "--on-bad-row reject" in last and "--on-bad-row absent" in last
    assert cached(tmp_path / "cache") == []


def test_rejected_rows_are_left_out_and_listed(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="reject")
    dataset = ingest.ingest(bad_table, config)
    assert [bad.line for bad in dataset.rejected] == [line_of(i) for i in BAD]
    for bad, (_, problem) in zip(dataset.rejected, BAD.values(), strict=True):
        assert problem in bad.problem
    assert dataset.rows == {"train": 24 - len(BAD), "val": 8, "test": 8}
    usable = {f"r{i:02d}" for i in range(24)} - set(BAD)
    assert set(ids(dataset, "train")) == usable
    assert dataset.unreadable == ()
    assert sum(dataset.class_rows("train").values()) == 24 - len(BAD)


def test_an_unreadable_modality_counts_as_absent_in_its_row(bad_table, tmp_path):
    config = table_factory.tiny_config(tmp_path / "cache", on_bad_row="absent")
    dataset = ingest.ingest(bad_table, config)
    assert [bad.id for bad in dataset.unreadable] == OF_MEDIA
    rejected = [i for i in BAD if i not in OF_MEDIA]  # their other cells do not help
    assert [bad.line for bad in dataset.rejected] == [line_of(i) for i in rejected]
    assert dataset.absent == {"text": 0, "image": 4, "audio": 2}
    rows = {row["id"].decode(): row for row in examples(dataset, "train")}
    assert rows["r03"]["audio"] and rows["r03"]["text"]
    assert not [name for name in rows["r03"] if name.startswith("image")]
    statuses = [rows[i]["status"] for i in ("r03", "r05", "r00")]
    assert statuses == [b"image unreadable", b"audio unreadable", b""]


def test_at_most_twenty_bad_rows_are_listed_and_the_others_counted(ingest_rows):
    labels = ["" if i % 8 < 5 else "ab"[i % 2] for i in range(40)]
    with pytest.raises(UserError) as refusal:
        ingest_rows(texts(label=labels))
    first, *lines, more, _ = str(refusal.value).split("\n")
    assert first.startswith("25 of 40 rows") and len(lines) == 20
    assert more.endswith("5 more")


def test_a_row_with_nothing_readable_is_rejected_and_never_an_empty_one(ingest_rows):
    rows = texts(text=["", *["hi"] * 39], image=["gone.png", *[""] * 39])
    dataset = ingest_rows(rows, on_bad_row="absent")
    assert [bad.id for bad in dataset.rejected] == ["r00"]
    assert dataset.unreadable == ()


def test_bad_rows_that_empty_a_split_or_class_are_refused(ingest_rows, tmp_path):
    rows = texts(["train"] * 4 + ["val"] * 2 + ["test"] * 2, image=[""] * 8)
    for row in rows[6:]:
        row["text"], row["image"] = "", "gone.png"
    with pytest.raises(UserError, match=r"(?s)No usable row .* test.*line 8 "):
        ingest_rows(rows, on_bad_row="reject")
    for row in (rows[1], rows[3]):
        row["image"] = "gone.png"
    rows[6]["text"], rows[6]["image"] = "hi", ""
    with pytest.raises(UserError, match=r"(?s)one class only.*line 3 .*gone.png"):
        ingest_rows(rows, on_bad_row="reject")
    assert cached(tmp_path / "cache") == []


def test_rows_are_stored_and_their_labels_counted_by_split_and_by_class(ingest_rows):
    dataset = ingest_rows(texts(label=["a|b", "b"] * 20))
    assert ids(dataset, "test") == [f"r{i:02d}" for i in range(32, 40)]
    assert sorted(ids(dataset, "train")) == [f"r{i:02d}" for i in range(24)]
    assert dataset.labels["train"] == {"a|b": 12, "b": 12}
    assert dataset.class_rows("val") == Counter(a=4, b=8)


@pytest.mark.parametrize("scheme", ["", "ram://"])
def test_a_shard_without_usable_rows_has_no_file(scheme, tmp_path):
    folder = scheme + str(tmp_path / "shards")
    reader = RowReader(tmp_path, table_factory.tiny_config(tmp_path))
    rows = [Row(line=i, id=str(i), cells={"image": "gone.png"}) for i in range(2)]
    shard = Shard(name="Split-train/00000.tfrecord", split="train", rows=tuple(rows))
    summary = shards.write_shard(shard, folder, reader)
    assert summary.rows == 0 and len(summary.rejected) == 2
    assert tf.io.gfile.glob(f"{folder}/Split-train/*") == []

    good = replace(shard, rows=(Row(line=2, id="0", cells={"text": "hi"}),))
    assert shards.write_shard(good, folder, reader).rows == 1
    (path,) = tf.io.gfile.glob(f"{folder}/Split-train/*")
    assert len(list(tf.data.TFRecordDataset(path))) == 1


def test_a_column_of_npy_files_has_vectors(ingest_rows, tmp_path):
    rows = texts(audio=[table_factory.vector([i, 1, 2]) for i in range(40)])
    rows[3]["audio"] = ""
    dataset = ingest_rows(rows)
    entry = {"type": "audio", "encoder": "vector", "vector_width": 3}
    assert dataset.columns["audio"] == entry and dataset.absent["audio"] == 1
    config = with_columns(table_factory.tiny_config(tmp_path), dataset)
    assert config.columns == dataset.columns
    rows[5]["audio"] = table_factory.tone()  # audio files now, of which 38 are bad
    with pytest.raises(UserError, match="38 of 40"):
        ingest_rows(rows)


def test_the_second_ingest_reads_nothing_and_gives_the_same(ingest_rows, reads):
    first = ingest_rows(texts())
    assert len(reads) == 40
    second = ingest_rows(texts(), table={"workers": 1}, train={"batch_size": 3})
    assert len(reads) == 40 and asdict(second) == asdict(first)


def test_a_changed_table_or_setting_is_ingested_again(ingest_rows, reads):
    first = ingest_rows(texts())
    second = ingest_rows(texts(text=["another word"] * 40))
    third = ingest_rows(texts(), only="test")
    assert len({data.folder for data in (first, second, third)}) == 3
    assert len({data.content for data in (first, second, third)}) == 3
    assert len(reads) == 40 + 40 + 8


def test_two_processes_ingest_the_same_table_once(tmp_path, reads):
    table = table_factory.write_table(tmp_path / "data" / "data.csv", texts())
    config = table_factory.tiny_config(tmp_path / "cache")
    # Locks of threads exclude each other as those of processes do.
    with ThreadPoolExecutor(3) as pool:
        datasets = list(pool.map(lambda _: ingest.ingest(table, config), range(3)))
    first, *others = map(asdict, datasets)
    assert others == [first, first] and len(reads) == 40
    assert cached(tmp_path / "cache") == [datasets[0].folder.name]
    assert datasets[0].folder.stat().st_mode & 0o077 == 0  # training data is private


KILLED = """
import os, signal, sys
from pathlib import Path
from mmkeras.data import ingest, shards
from tests import table_factory

make = shards.make_example
def kill(row, split):
    if row.row.id == "r30":  # after the training rows
        os.kill(os.getpid(), signal.SIGKILL)
    return make(row, split)
shards.make_example = kill
base = Path(sys.argv[1])
ingest.ingest(base / "data" / "data.csv", table_factory.tiny_config(base / "cache"))
"""


def test_a_killed_ingest_leaves_nothing_that_counts_as_complete(ingest_rows, tmp_path):
    table_factory.write_table(tmp_path / "data" / "data.csv", texts())
    process = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    (name,) = cached(tmp_path / "cache")
    assert list((tmp_path / "cache" / name).glob("Split-train/*"))

    dataset = ingest_rows(texts())

    assert dataset.rows == {"train": 24, "val": 8, "test": 8}
    assert cached(tmp_path / "cache") == [dataset.folder.name]


def test_a_folder_of_another_process_is_kept(ingest_rows, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    folders = [cache / f".0123abcd.table-{name}" for name in ("living", "theirs")]
    for folder in folders:
        folder.mkdir(parents=True)
    make_lock = ingest.FileLock

    def refuse(path):
        if "theirs" in path.name:
            raise PermissionError(13, "Permission denied", str(path))
        return make_lock(path)

    monkeypatch.setattr(ingest, "FileLock", refuse)
    with make_lock(cache / ".table-living.lock"):
        first = ingest_rows(texts())
        assert all(folder.is_dir() for folder in folders)
    second = ingest_rows(texts(), on_bad_row="reject")
    remaining = [folders[1].name, first.folder.name, second.folder.name]
    assert cached(cache) == sorted(remaining)
