"""Oracle of the fuzzer: checks of responses, and a report of all results."""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

MAX_TEXT = 1024 + len("...TRUNCATED")  # bytes
CODES = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE"}
CODES |= {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"}
_RELOAD_CODES = {"UNKNOWN", "ABORTED"}  # a model does not load; a later list
_NO_MESSAGE = "The request is no "
HTTP_STATUSES = {200, 400, 404, 413, 429, 501, 503, 504}
_FIELDS = [f.name for f in tensor_pb2.TensorProto.DESCRIPTOR.fields]
_FIELDS = [name for name in _FIELDS if name.endswith("_val")]


class Report:
    """Results of all phases.

    Attributes:
        inputs: Number of inputs.
        findings: One line per problem: phase, problem and input.
    """

    def __init__(self):
        self.inputs, self.findings = 0, []
        self._phase, self._results = "", Counter()

    @contextmanager
    def phase(self, name: str, pid: int) -> Iterator[None]:
        """Measures a phase; `pid` is the server's process."""
        self._phase, self._results = name, Counter()
        start_s = time.monotonic()
        try:
            yield
        finally:
            seconds, count = time.monotonic() - start_s, self._results.total()
            self.inputs += count
            listed = ", ".join(f"{n} {c}" for n, c in self._results.most_common())
            cells = f"{count} | {seconds:.0f} | {rss_mib(pid):.0f} | {listed}"
            print(f"| {name} | {cells} |", flush=True)

    def record(self, result: str, problem: str | None, shown: object) -> None:
        """Counts a result and stores its problem."""
        self._results[result] += 1
        if problem and len(self.findings) < 200:
            self.findings.append(f"{self._phase}: {problem} <- {repr(shown)[:600]}")
            print(self.findings[-1], file=sys.stderr, flush=True)


def rss_mib(pid: int) -> float:
    """Returns the resident memory of a process, 0.0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            kib = next(line.split()[1] for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0
    return int(kib) / 1024


def check_error(method: str, code: grpc.StatusCode, text: str) -> str | None:
    """Returns the problem of a gRPC error, or None."""
    allowed = CODES | (_RELOAD_CODES if method.endswith("ConfigRequest") else set())
    broken = code.name == "INTERNAL" and text.startswith(_NO_MESSAGE)
    if (code.name in allowed or broken) and _is_valid_text(text):
        return None
    return f"{code.name} with {len(text)} characters: {text[:300]}"


def _is_valid_text(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text.encode()) <= MAX_TEXT


def check_response(method: str, request, response) -> str | None:
    """Returns the problem of a gRPC response, or None."""
    if method == "Predict":
        expected = set(request.output_filter) or set(response.outputs)
        if not response.outputs or expected != set(response.outputs):
            return f"outputs {sorted(response.outputs)}"
        faults = map(_check_tensor, response.outputs.values())
        return next(filter(None, faults), None)
    if method in ("Classify", "Regress"):
        kind = request.input.WhichOneof("kind")
        examples = len(getattr(request.input, kind).examples)
        field = {"Classify": "classifications", "Regress": "regressions"}[method]
        results = len(getattr(response.result, field))
        return None if results == examples else f"{results} results of {examples}"
    if method == "MultiInference" and len(response.results) != len(request.tasks):
        return f"{len(response.results)} results of {len(request.tasks)} tasks"
    if method == "GetModelStatus" and not response.model_version_status:
        return "no status"
    if method == "GetModelMetadata" and "signature_def" not in response.metadata:
        return "no metadata"
    return None


def _check_tensor(proto: tensor_pb2.TensorProto) -> str | None:
    size = math.prod(dim.size for dim in proto.tensor_shape.dim)
    size *= 2 if tf.as_dtype(proto.dtype).is_complex else 1
    values = sum(len(getattr(proto, name)) for name in _FIELDS)
    if proto.tensor_content or values != size:
        return f"{values} values for {size} elements"
    return None


def check_http(status: int, headers: dict[str, str], body: bytes) -> str | None:
    """Returns the problem of an HTTP response, or None."""
    problem = f"status {status}, {headers.get('content-type')}: {body[:300]!r}"
    if status not in HTTP_STATUSES or headers.get("content-type") != "application/json":
        return problem
    try:
        document = json.loads(body)
    except ValueError as error:
        return f"no JSON, {error}: {problem}"
    if status == 200:
        return None if "error" not in document else problem
    is_error = list(document) == ["error"] and _is_valid_text(document["error"])
    return None if is_error else problem
