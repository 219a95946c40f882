"""Fake S3 server on loopback with the requests that boto3 needs."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.pipeline.loopback import serve

DENIED = "denied"  # bucket without read permission
_TIME = "2026-01-01T00:00:00.000Z"
_HTTP_TIME = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass
class Server:
    """Address and content of the server.

    Attributes:
        environment: Variables that point AWS's clients to it.
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
    """Starts a server with an empty store."""
    objects: dict[str, bytes] = {}
    state = {"objects": objects, "parts": {}}
    with serve(type("Handler", (_Handler,), state)) as url:
        environment = {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield Server(environment, objects)


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
            self._respond(403, b"<Error><Code>AccessDenied</Code></Error>")
        elif path not in self.objects:
            self._respond(404, b"<Error><Code>NoSuchKey</Code></Error>")
        elif wanted := self.headers["Range"]:
            first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted).groups()
            content = self.objects[path]
            end = int(last) + 1 if last else len(content)
            self._respond(206, content[int(first) : end])
        else:
            self._respond(200, self.objects[path])

    def do_PUT(self):
        path, query = self._target()
        content = self._body()
        if source := self.headers["x-amz-copy-source"]:
            self.objects[path] = self.objects[unquote(source).lstrip("/")]
            self._xml("CopyObjectResult", f"<LastModified>{_TIME}</LastModified>")
        elif "partNumber" in query:
            self.parts[path] = self.parts.get(path, b"") + content
            self._respond(200, b"")
        else:
            self.objects[path] = content
            self._respond(200, b"")

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
        self._respond(204, b"")

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
        self._respond(200, f"<{name}>{inner}</{name}>".encode())

    def _respond(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Last-Modified", _HTTP_TIME)
        self.send_header("ETag", '"1"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
