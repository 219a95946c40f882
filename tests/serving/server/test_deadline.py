from serving.server.deadline import Deadline


def test_a_deadline_without_seconds_never_expires():
    deadline = Deadline()
    assert deadline.remaining_s() is None and not deadline.is_over


def test_the_remaining_time_is_at_least_zero():
    assert 99 < Deadline(100).remaining_s() <= 100
    expired = Deadline(-5)
    assert expired.remaining_s() == 0 and expired.is_over


def test_a_cancelled_deadline_is_over():
    deadline = Deadline(100)
    deadline.cancel()
    assert deadline.is_over and deadline.cancelled
