import ctypes
import os
import sys
import threading

from mmkeras.modalities.audio.c_stderr import no_c_stderr


def print_in_c(text):
    libc = ctypes.CDLL(None)
    libc.fputs(text, ctypes.c_void_p.in_dll(libc, "stderr"))
    libc.fflush(None)


def test_lines_of_c_code_are_dropped_and_others_are_not(capfd):
    with no_c_stderr():
        print_in_c(b"c")
        print("python", file=sys.stderr)
        os.write(2, b"descriptor\n")
    print_in_c(b"later\n")
    assert capfd.readouterr().err == "python\ndescriptor\nlater\n"


def test_the_stream_returns_after_the_last_of_several_threads(capfd):
    inside, leave = threading.Barrier(2), threading.Event()

    def hold():
        with no_c_stderr():
            inside.wait()
            leave.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with no_c_stderr():
        pass
    print_in_c(b"dropped\n")
    leave.set()
    thread.join()
    print_in_c(b"printed\n")
    assert capfd.readouterr().err == "printed\n"
