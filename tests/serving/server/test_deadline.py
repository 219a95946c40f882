from serving.server.deadline import Deadline


def test_without_a_number_of_seconds_it_is_never_over():
    deadline = Deadline()
    assert deadline.remaining_s() is None and not deadline.is_over


def test_what_is_left_shrinks_to_nothing_and_no_further():
    assert 99 < Deadline(100).remaining_s() <= 100
    late = Deadline(-5)
    assert late.remaining_s() == 0 and late.is_over


def test_a_client_that_goes_away_ends_it():
    deadline = Deadline(100)
    deadline.cancel()
    assert deadline.is_over and deadline.cancelled
