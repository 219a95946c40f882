"""One gRPC call, written as HTTP/2 frames.

gRPC's own client cannot stop within a message.
"""

import re
import select
import socket
import time
from collections.abc import Sequence

import grpc

# What a connection does: bytes to send, and pauses in seconds.
Script = Sequence[bytes | float]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_FIRST_WINDOW, _LARGEST_WINDOW = 2**16 - 1, 2**31 - 1
_WINDOW_SETTING, _FRAME_SETTING = 4, 5
_ACKNOWLEDGED = _END_STREAM = 1
_END_HEADERS = 4
# gRPC writes the first status of a connection without compression.
_STATUS = re.compile(rb"grpc-status[\x01\x02](\d+)")
_CODES = {str(code.value[0]): code.name for code in grpc.StatusCode}


class _Closed(Exception):
    """The call has ended; the argument is the outcome."""


class Stream:
    """One call on a connection of its own.

    It respects the windows of HTTP/2, so the server decides how much it receives.
    """

    def __init__(self, target: str, method: str, timeout_s: int, encoding: str):
        """Connects and sends the headers.

        Args:
            target: HOST:PORT.
            method: Path of the method, without the first slash.
            timeout_s: Deadline of the call, in whole seconds.
            encoding: Encoding of compressed messages.

        Raises:
            OSError: There is no connection.
        """
        self._start_s = time.monotonic()
        host, _, port = target.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self._initial = self._window = self._stream_window = _FIRST_WINDOW
        self._max_frame = 2**14
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": f"/{method}",
            ":authority": target,
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": f"{timeout_s}S",
            "grpc-encoding": encoding,
        }
        block = b"".join(
            b"\0" + b"".join(bytes([len(word)]) + word.encode() for word in header)
            for header in headers.items()
        )
        setting = _WINDOW_SETTING.to_bytes(2) + _LARGEST_WINDOW.to_bytes(4)
        window = (_LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4)
        self._socket.sendall(
            _PREFACE
            + _frame(_SETTINGS, setting, stream=0)
            + _frame(_WINDOW, window, stream=0)
            + _frame(_HEADERS, block, flags=_END_HEADERS)
        )

    def run(self, script: Script, send_s: float, receive_s: float) -> str:
        """Sends the script; returns the code of the call, or how it ended.

        Args:
            script: Bytes and pauses. A pause at the end leaves the call unfinished.
            send_s: Maximum time to send, after which the outcome is "stalled".
            receive_s: Maximum time to wait for the response after that.
        """
        end_s = self._start_s + send_s
        try:
            for step in script:
                if isinstance(step, float):
                    self._receive_until(time.monotonic() + step)
                else:
                    self._send(memoryview(step), end_s)
            if not isinstance(script[-1], float):
                self._socket.sendall(_frame(_DATA, b"", flags=_END_STREAM))
            self._receive_until(time.monotonic() + receive_s)
            return "no response"
        except _Closed as closed:
            return closed.args[0]
        except TimeoutError:
            return "stalled"
        except OSError:
            return "connection closed"
        finally:
            self._socket.close()

    def _send(self, data: memoryview, end_s: float) -> None:
        at = 0
        while at < len(data):
            self._socket.settimeout(max(0.1, end_s - time.monotonic()))
            size = min(self._window, self._stream_window, self._max_frame)
            if size > 0:
                part = data[at : at + size]
                self._socket.sendall(_frame(_DATA, part))
                at += len(part)
                self._window -= len(part)
                self._stream_window -= len(part)
            elif time.monotonic() > end_s:
                raise TimeoutError
            else:
                self._receive()

    def _receive_until(self, end_s: float) -> None:
        while (left_s := end_s - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left_s)[0]:
                self._receive()

    def _receive(self) -> None:
        """Handles one frame of the server."""
        head = self._read(9)
        payload, kind, flags = self._read(int.from_bytes(head[:3])), head[3], head[4]
        stream = int.from_bytes(head[5:])
        if kind == _SETTINGS and not flags & _ACKNOWLEDGED:
            self._apply(payload)
        elif kind == _WINDOW and stream:
            self._stream_window += int.from_bytes(payload)
        elif kind == _WINDOW:
            self._window += int.from_bytes(payload)
        elif kind == _PING and not flags & _ACKNOWLEDGED:
            self._socket.sendall(_frame(_PING, payload, flags=_ACKNOWLEDGED, stream=0))
        elif kind == _HEADERS and (status := _STATUS.search(payload)):
            raise _Closed(_CODES[status[1].decode()])
        elif kind in (_RESET, _GOAWAY):
            raise _Closed("stream reset" if kind == _RESET else "connection closed")

    def _apply(self, settings: bytes) -> None:
        for at in range(0, len(settings), 6):
            name = int.from_bytes(settings[at : at + 2])
            value = int.from_bytes(settings[at + 2 : at + 6])
            if name == _WINDOW_SETTING:
                self._stream_window += value - self._initial
                self._initial = value
            elif name == _FRAME_SETTING:
                self._max_frame = value
        acknowledgement = _frame(_SETTINGS, b"", flags=_ACKNOWLEDGED, stream=0)
        self._socket.sendall(acknowledgement)

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise _Closed("connection closed")
            data += part
        return bytes(data)


def _frame(kind: int, payload, *, flags: int = 0, stream: int = 1) -> bytes:
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload
