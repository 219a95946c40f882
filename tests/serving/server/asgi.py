"""Calls of an ASGI application without a socket."""

import asyncio

from tests.serving.server.assertions import WAIT_S


def call_asgi(app, method, target, body=b"", **headers):
    """Returns the status, the headers and the body of a response.

    Args:
        app: ASGI application.
        method: HTTP method.
        target: Path and query, in Latin-1.
        body: Bytes, or an iterable of chunks.
        headers: Headers, with _ for -.
    """
    path, _, query = target.encode("latin-1").partition(b"?")
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(k.encode(), v.encode("latin-1")) for k, v in names.items()],
    }
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages = [
        {"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks
    ]
    messages[-1]["more_body"] = False
    return asyncio.run(run_asgi(app, scope, messages))


async def run_asgi(app, scope, messages):
    """Sends messages, and then none; returns the status, the headers and the body."""
    waiting, sent = list(messages), []

    async def receive():
        if not waiting:
            await asyncio.sleep(WAIT_S)
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(m["body"] for m in sent[1:])
