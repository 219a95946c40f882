"""A fake API of Kubeflow Pipelines on loopback."""

import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.pipeline.loopback import serve

RUNS = "/apis/v2beta1/runs"
REFUSAL = {"error": "Invalid", "message": "the spec\nis bad", "code": 3}


@contextmanager
def kfp_api(refuses=False):
    """Yields the URL and the requests received: (method, path, body)."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(("GET", self.path, None))
            is_list = "experiments" in self.path
            self.respond(200, {} if is_list else {"multi_user": False})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append(("POST", self.path, body))
            if "experiments" in self.path:
                self.respond(200, {"experiment_id": "e1", "display_name": "mmkeras"})
            elif refuses:
                self.respond(400, REFUSAL)
            else:
                self.respond(200, {"run_id": "r1"})

        def respond(self, status, content):
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with serve(Handler) as url:
        yield url, requests
