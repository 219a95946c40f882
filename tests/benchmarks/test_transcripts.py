import csv

from benchmarks.transcripts import list_digits, list_words, write_table


def test_the_speaker_of_the_test_is_in_no_other_split(tmp_path):
    for name in ("3_george_0", "3_george_7", "0_yweweler_1", "0_yweweler_9"):
        (tmp_path / f"{name}.wav").write_bytes(b"RIFF")
    rows = {path.rpartition("/")[2]: rest for path, *rest in list_digits(tmp_path)}
    assert rows == {
        "3_george_0.wav": ["three", "val"],
        "3_george_7.wav": ["three", "train"],
        "0_yweweler_1.wav": ["zero", "test"],
        "0_yweweler_9.wav": ["zero", "test"],
    }


def test_words_without_the_column_are_left_out(tmp_path):
    table = tmp_path / "data.csv"
    cells = [("text", "audio", "split"), ("moo", "a.ogg", "train"), ("oink", "", "val")]
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(cells)
    rows = list_words(table, "audio")
    assert rows == [(str((tmp_path / "a.ogg").resolve()), "moo", "train")]
    write_table(tmp_path / "new.csv", "audio", rows)
    text = (tmp_path / "new.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == "audio,label,split" and ",moo,train" in text
