import threading

from mmkeras.console import output, progress, say


def test_output_is_turned_off_in_one_thread_and_on_again(capsys):
    with output(verbose=False):
        say("hidden")
        thread = threading.Thread(target=say, args=("of another thread",))
        thread.start()
        thread.join()
        with output(verbose=True):
            say("inner")
        assert progress(range(3), "rows").disable
        assert list(progress(range(3))) == [0, 1, 2]
    say("shown", end="!")
    assert capsys.readouterr().out == "of another thread\ninner\nshown!"
