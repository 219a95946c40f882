import tensorflow as tf

from pipeline.components import media_statistics_accumulator
from pipeline.components.media_statistics_accumulator import (
    MediaTotals,
    RowFacts,
    class_counts,
    read_row,
    summarize,
)

MODALITIES = ["text", "image", "audio"]


def record(**features):
    """A serialized tf.Example."""
    kinds = {bytes: ("bytes_list", tf.train.BytesList)}
    kinds[int] = ("int64_list", tf.train.Int64List)
    kinds[float] = ("float_list", tf.train.FloatList)
    made = {}
    for name, value in features.items():
        kind, values = kinds[type(value)]
        made[name] = tf.train.Feature(**{kind: values(value=[value])})
    whole = tf.train.Features(feature=made)
    return tf.train.Example(features=whole).SerializeToString()


SOUND = {
    "audio": b"RIFF",
    "audio_seconds": 2.0,
    "audio_rate_hz": 16_000,
    "audio_channels": 1,
    "audio_clipped": 0.0,
    "audio_silent": 0.25,
}


def rounded(found):
    """Statistics whose sums do not show in which order they were added."""
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    if isinstance(found, list):
        return [rounded(value) for value in found]
    return round(found, 6) if isinstance(found, float) else found


def totals_of(*records):
    totals = MediaTotals()
    for one in records:
        totals.add(read_row(one, MODALITIES))
    return totals


def test_a_row_tells_what_it_has_and_what_is_absent_or_unreadable():
    row = read_row(
        record(text=b"hi", text_characters=2, label=b"b|a", status=b"audio unreadable"),
        MODALITIES,
    )
    assert row.states == {"text": "present", "image": "absent", "audio": "unreadable"}
    assert row.facts == {"text_characters": 2}
    assert row.classes == ("b", "a")
    assert class_counts(row) == (1, 0, 1, 1)


def test_two_broken_files_of_a_row_are_both_unreadable():
    status = b"image unreadable; audio unreadable"
    assert read_row(record(status=status), MODALITIES).states == {
        "text": "absent",
        "image": "unreadable",
        "audio": "unreadable",
    }


def test_an_empty_medium_and_a_feature_without_a_value_are_absent():
    empty = tf.train.Example()
    empty.features.feature["image"].bytes_list.SetInParent()
    empty.features.feature["image_width_px"].SetInParent()
    row = read_row(empty.SerializeToString(), MODALITIES)
    assert row == RowFacts(
        states=dict.fromkeys(MODALITIES, "absent"), facts={}, classes=()
    )
    assert read_row(record(image=b""), ["image"]).states == {"image": "absent"}


def test_only_modalities_in_use_are_counted():
    assert read_row(record(text=b"hi"), ["image"]).states == {"image": "absent"}


def test_a_sound_is_silent_throughout_or_clipped_or_neither():
    totals = totals_of(
        record(**SOUND),
        record(**SOUND | {"audio_silent": 1.0}),
        record(**SOUND | {"audio_silent": 0.999}),
        record(**SOUND | {"audio_clipped": 0.0009}),
        record(**SOUND | {"audio_clipped": 0.0011}),
        record(text=b"hi"),
    )
    found = summarize({"train": totals}, {"train": (0, [])}, MODALITIES)
    assert found["splits"]["train"]["sounds"] == {
        "measured": 5,
        "silent_share": 0.2,
        "clipped_share": 0.2,
    }


def test_a_split_is_summed_up():
    totals = totals_of(
        *(record(image=b"x", image_width_px=w, image_channels=3) for w in (10, 20, 60)),
        record(image=b"x", image_width_px=10, image_channels=4, text=b"hi"),
        record(status=b"image unreadable"),
    )
    classes = [("cat", (3, 2, 1, 3)), ("dog", (2, 2, 0, 2))]

    (found,) = summarize({"val": totals}, {"val": (7, classes)}, MODALITIES)[
        "splits"
    ].values()

    assert found["rows"] == 5
    assert found["modalities"]["image"] == {
        "present": 4,
        "absent": 0,
        "unreadable": 1,
    }
    assert found["modalities"]["text"] == {"present": 1, "absent": 4, "unreadable": 0}
    width = found["numbers"]["image_width_px"]
    assert width.pop("histogram") == {
        "edges": [float(e) for e in range(10, 66, 5)],
        "rows": [2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        "is_log": False,
    }
    assert rounded(width) == {
        "rows": 4,
        "min": 10,
        "max": 60,
        "mean": 25.0,
        "deviation": 20.615528,
        "median": 10,
        "p05": 10,
        "p95": 20,
    }
    assert set(found["numbers"]) == {"image_width_px"}
    assert found["values"] == {"image_channels": {"3": 3, "4": 1}}
    assert found["sounds"] == {}
    assert found["classes"] == {
        "number": 7,
        "largest": [
            {"name": "cat", "rows": 3, "missing": {"text": 2, "image": 1, "audio": 3}},
            {"name": "dog", "rows": 2, "missing": {"text": 2, "image": 0, "audio": 2}},
        ],
    }


def test_splits_have_the_same_bars():
    train = totals_of(record(**SOUND), record(**SOUND | {"audio_seconds": 3.0}))
    test = totals_of(record(**SOUND | {"audio_seconds": 9.0}))
    none = dict.fromkeys(("train", "test"), (0, []))
    splits = summarize({"train": train, "test": test}, none, MODALITIES)["splits"]
    bars = [s["numbers"]["audio_seconds"]["histogram"] for s in splits.values()]
    assert bars[0]["edges"] == bars[1]["edges"]
    assert bars[1]["rows"][-1] == 1 and bars[0]["rows"][-1] == 0


def test_shares_have_no_log_scale():
    rows = [record(**SOUND | {"audio_silent": s}) for s in (0.001, 1.0)]
    found = summarize({"train": totals_of(*rows)}, {"train": (0, [])}, MODALITIES)
    silent = found["splits"]["train"]["numbers"]["audio_silent"]["histogram"]
    assert not silent["is_log"] and len(silent["edges"]) == 21


def test_values_are_bounded_in_number(monkeypatch):
    monkeypatch.setattr(media_statistics_accumulator, "MAX_VALUES", 2)
    rates = (8_000, 44_100, 48_000, 8_000, 96_000)
    rows = [record(**SOUND | {"audio_rate_hz": rate}) for rate in rates]
    whole = totals_of(*rows)
    parts = totals_of(*rows[:2])
    parts.merge(totals_of(*rows[2:]))
    assert whole.values["audio_rate_hz"] == {8_000: 2, 44_100: 1, "other": 2}
    assert parts.values["audio_rate_hz"].total() == 5
    found = summarize({"train": whole}, {"train": (0, [])}, MODALITIES)["splits"]
    counts = found["train"]["values"]["audio_rate_hz"]
    assert counts == {"8000": 2, "44100": 1, "other": 2}
    assert list(counts)[-1] == "other"


def test_totals_of_parts_merge_to_those_of_the_whole():
    rows = [record(**SOUND | {"audio_seconds": float(i)}) for i in range(20)]
    rows += [record(**SOUND | {"audio_silent": 1.0, "audio_clipped": 0.5})]
    rows += [record(text=b"x", text_characters=4, status=b"audio unreadable")]
    merged = MediaTotals()
    for at in range(0, len(rows), 5):
        merged.merge(totals_of(*rows[at : at + 5]))
    none = {"train": (0, [])}
    whole = summarize({"train": totals_of(*rows)}, none, MODALITIES)
    again = summarize({"train": merged}, none, MODALITIES)
    assert rounded(again) == rounded(whole)
