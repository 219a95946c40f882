"""A server of S3's protocol on loopback, with as much of it as boto3 needs."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

DENIED = "denied"  # bucket whose objects nobody may read
_TIME = "2026-01-01T00:00:00.000Z"
_HTTP_TIME = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass
class Server:
    """Where the server is, and what it has.

    Attributes:
        environment: Variables with which AWS's clients use it.
        objects: "bucket/key" -> content.
    """

    environment: dict[str, str]
    objects: dict[str, bytes]

    def client(self):
        """Returns a client of the server."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )


@contextmanager
def s3_server() -> Iterator[Server]:
    """Serves an empty store."""
    objects: dict[str, bytes] = {}
    state = {"objects": objects, "parts": {}}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), state))
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield Server(environment, objects)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    objects: dict[str, bytes]
    parts: dict[str, bytes]

    def log_message(self, *words):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path, query = self._target()
        if "list-type" in query:
            self._list(path, query.get("prefix", [""])[0])
        elif path.startswith(f"{DENIED}/"):
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif path not in self.objects:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif wanted := self.headers["Range"]:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
            content = self.objects[path]
            end = int(last) + 1 if last else len(content)
            self._answer(206, content[int(first) : end])
        else:
            self._answer(200, self.objects[path])

    def do_PUT(self):
        path, query = self._target()
        content = self._body()
        if source := self.headers["x-amz-copy-source"]:
            self.objects[path] = self.objects[unquote(source).lstrip("/")]
            self._xml("CopyObjectResult", f"<LastModified>{_TIME}</LastModified>")
        elif "partNumber" in query:
            self.parts[path] = self.parts.get(path, b"") + content
            self._answer(200, b"")
        else:
            self.objects[path] = content
            self._answer(200, b"")

    def do_POST(self):
        path, query = self._target()
        body = self._body().decode()
        if "uploads" in query:
            self.parts[path] = b""
            self._xml("InitiateMultipartUploadResult", "<UploadId>1</UploadId>")
        elif "uploadId" in query:
            self.objects[path] = self.parts.pop(path)
            self._xml("CompleteMultipartUploadResult", "")
        elif "delete" in query:
            keys = re.findall(r"<Key>(.*?)</Key>", body)
            for key in keys:
                self.objects.pop(f"{path}/{key}", None)
            deleted = (f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
            self._xml("DeleteResult", "".join(deleted))

    def do_DELETE(self):
        path, _ = self._target()
        self.objects.pop(path, None)
        self._answer(204, b"")

    def _target(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        return unquote(parts.path).strip("/"), query

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _list(self, bucket: str, prefix: str) -> None:
        names = (n.partition("/") for n in self.objects)
        keys = sorted(k for b, _, k in names if b == bucket and k.startswith(prefix))
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified>"
            f"<Size>{len(self.objects[f'{bucket}/{key}'])}</Size></Contents>"
            for key in keys
        )
        count = f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>false</IsTruncated>"
        self._xml("ListBucketResult", count + contents)

    def _xml(self, name: str, inner: str) -> None:
        self._answer(200, f"<{name}>{inner}</{name}>".encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Last-Modified", _HTTP_TIME)
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
