from serving.server.deadline import Deadline


def test_a_deadline_without_seconds_never_expires():
    assert Deadline().remaining_s() is None and not Deadline().is_over


def test_the_remaining_time_is_at_least_zero():
    assert 99 < Deadline(100).remaining_s() <= 100
    assert Deadline(-5).remaining_s() == 0 and Deadline(-5).is_over


def test_a_cancelled_deadline_is_over():
    deadline = Deadline(100)
    deadline.cancel()
    assert deadline.is_over and deadline.cancelled
