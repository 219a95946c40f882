"""Oracle of the fuzzer: checks of responses, and a report of all results."""

import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

MAX_TEXT = 1024 + len("...TRUNCATED")  # bytes
_Code = grpc.StatusCode
CODES = {
    _Code.INVALID_ARGUMENT,
    _Code.NOT_FOUND,
    _Code.FAILED_PRECONDITION,
    _Code.OUT_OF_RANGE,
    _Code.RESOURCE_EXHAUSTED,
    _Code.UNAVAILABLE,
    _Code.UNIMPLEMENTED,
    _Code.DEADLINE_EXCEEDED,
}
_RELOAD_CODES = {_Code.UNKNOWN, _Code.ABORTED}  # a model does not load; a later list
_NO_MESSAGE = "The request is no "
HTTP_STATUSES = {200, 400, 404, 413, 429, 501, 503, 504}
_FIELDS = ("float_val", "double_val", "int_val", "string_val", "int64_val", "bool_val")
_FIELDS += ("uint32_val", "uint64_val", "half_val", "scomplex_val", "dcomplex_val")


@dataclass
class Phase:
    """Results of one kind of input."""

    name: str
    results: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    rss_mib: float = 0.0

    @property
    def inputs(self) -> int:
        return self.results.total()


class Report:
    """Results of all phases.

    Attributes:
        findings: One line per problem: phase, problem and input.
    """

    def __init__(self):
        self.phases: list[Phase] = []
        self.findings: list[str] = []

    @contextmanager
    def phase(self, name: str, pid: int) -> Iterator[Phase]:
        """Measures a phase; `pid` is the server's process."""
        phase, start_s = Phase(name), time.monotonic()
        self.phases.append(phase)
        try:
            yield phase
        finally:
            phase.seconds = time.monotonic() - start_s
            phase.rss_mib = rss_mib(pid)
            print(row(phase), flush=True)

    def record(self, result: str, problem: str | None, shown: object) -> None:
        """Counts a result and stores its problem."""
        phase = self.phases[-1]
        phase.results[result] += 1
        if problem:
            text = f"{phase.name}: {problem} <- {repr(shown)[:600]}"
            if len(self.findings) < 200:
                self.findings.append(text)
                print(text, file=sys.stderr, flush=True)


def rss_mib(pid: int) -> float:
    """Returns the resident memory of a process, 0.0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            kib = next(line.split()[1] for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return 0.0
    return int(kib) / 1024


def row(phase: Phase) -> str:
    """Returns a phase as a row of a Markdown table."""
    results = ", ".join(f"{name} {n}" for name, n in phase.results.most_common())
    return (
        f"| {phase.name} | {phase.inputs} | {phase.seconds:.0f} | "
        f"{phase.rss_mib:.0f} | {results} |"
    )


def check_error(method: str, code: grpc.StatusCode, text: str) -> str | None:
    """Returns the problem of a gRPC error, or None."""
    allowed = CODES | (_RELOAD_CODES if method.endswith("ConfigRequest") else set())
    broken = code is _Code.INTERNAL and text.startswith(_NO_MESSAGE)
    if code not in allowed and not broken:
        return f"{code.name}: {text[:300]}"
    if not text:
        return f"{code.name} without a text"
    if len(text.encode()) > MAX_TEXT:
        return f"{code.name} with a text of {len(text.encode())} bytes"
    return None


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
        classes = getattr(response.result, "classifications", None)
        results = len(response.result.regressions if classes is None else classes)
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
    if status not in HTTP_STATUSES:
        return f"status {status}: {body[:300]!r}"
    if headers.get("content-type") != "application/json":
        return f"Content-Type {headers.get('content-type')}"
    try:
        document = json.loads(body)
    except ValueError as error:
        return f"no JSON, {error}: {body[:300]!r}"
    if status == 200:
        return None if "error" not in document else f"200 and {body[:300]!r}"
    error = document.get("error")
    if list(document) != ["error"] or not isinstance(error, str) or not error:
        return f"status {status}: {body[:300]!r}"
    if len(error.encode()) > MAX_TEXT:
        return f"status {status} with a text of {len(error.encode())} bytes"
    return None
