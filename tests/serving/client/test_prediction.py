"""What an answer says of what could not be read or sent."""

import math

from serving.client.prediction import not_sent, with_unreadable


def test_what_could_not_be_read_was_sent_as_absent_and_is_said_to_be_unreadable():
    said = "text absent; image absent; audio absent"
    expected = "text absent; image unreadable; audio absent"
    assert with_unreadable(said, ["image"]) == expected
    assert with_unreadable("ok", []) == "ok"


def test_a_row_that_is_not_sent_has_no_label_and_says_why():
    answer = not_sent("70.0 MB")
    assert answer.label == "" and math.isnan(answer.score)
    assert answer.probabilities == {} and answer.version is None
    assert answer.status == "row unreadable: 70.0 MB"
    assert answer.problems == ("70.0 MB",)
