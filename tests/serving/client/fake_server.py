"""Fake TensorFlow Serving with real models, and faults on demand, by gRPC and REST."""

import base64
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
)

from tests.serving.client.network import LOCAL

_HTTP = {3: 400, 5: 404, 8: 429, 9: 400, 12: 501, 13: 500, 14: 503, 4: 504}
_REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
}


class Fault(Exception):
    """Error that the server returns."""

    def __init__(self, code: grpc.StatusCode, text: str, headers=()):
        super().__init__(text)
        self.code, self.text, self.headers = code, text, dict(headers)


@dataclass(frozen=True)
class Servable:
    """A model version: its signatures, and run(signature, feeds) -> outputs."""

    signatures: dict[str, meta_graph_pb2.SignatureDef]
    run: Callable


def export_servable(folder: Path, run: Callable) -> Servable:
    """Returns an export; `run` is the call of `load_saved_model`."""
    content = (folder / "saved_model.pb").read_bytes()
    saved = saved_model_pb2.SavedModel.FromString(content)
    signatures = dict(saved.meta_graphs[0].signature_def)
    public = {k: v for k, v in signatures.items() if not k.startswith("__")}
    return Servable(public, run)


def make_model(classes=("a", "b"), columns=("text",), top=0) -> Servable:
    """Returns a model that predicts class number `top`, or top(text) for each row.

    With `columns` as column -> type it has the signature `columns`; without types it is
    an export of an earlier version. Columns of type "numeric" are float32.
    """
    names = np.array([name.encode() for name in classes], object)
    types = dict(columns) if isinstance(columns, dict) else {}

    def run(signature, feeds):
        rows = len(next(iter(feeds.values())))
        if signature == "columns":
            pairs = {"name": types.keys(), "type": types.values()}
            return {k: tf.constant([[*v]] * rows).numpy() for k, v in pairs.items()}
        indices = [top] * rows
        if callable(top):
            indices = [top(text) for text in feeds.get("text", [b"0"] * rows)]
        low = 0.1 / max(len(classes) - 1, 1)
        scores = np.full((rows, len(classes)), low, np.float32)
        scores[range(rows), indices] = 0.9
        if signature == "classify":
            return {"classes": np.tile(names, (rows, 1)), "scores": scores}
        statuses = [
            "; ".join(f"{c} absent" for c in columns if _is_absent(feeds[c][i])) or "ok"
            for i in range(rows)
        ]
        return {
            "probabilities": scores,
            "label": names[indices],
            "score": scores.max(1),
            "status": np.array([s.encode() for s in statuses], object),
        }

    predict, classify = meta_graph_pb2.SignatureDef(), meta_graph_pb2.SignatureDef()
    for name in columns:
        dtype = tf.float32 if types.get(name) == "numeric" else tf.string
        predict.inputs[name].dtype = dtype.as_datatype_enum
    for name in ("probabilities", "label", "score", "status"):
        predict.outputs[name].name = name
    classify.inputs["inputs"].dtype = tf.string.as_datatype_enum
    signatures = {"serving_default": predict, "classify": classify}
    if types:
        signatures["columns"] = classify
    return Servable(signatures, run)


def _is_absent(cell) -> bool:
    return not cell or cell != cell


def make_regression() -> Servable:
    """Returns a model of text that predicts the number which the text is."""

    def run(signature, feeds):
        texts = feeds["text"]
        statuses = [b"ok" if text else b"text absent" for text in texts]
        values = np.array([float(text or 0) for text in texts], np.float32)
        return {"value": values, "status": np.array(statuses, object)}

    predict = meta_graph_pb2.SignatureDef()
    predict.inputs["text"].dtype = tf.string.as_datatype_enum
    for name in ("value", "status"):
        predict.outputs[name].name = name
    return Servable({"serving_default": predict}, run)


def make_generator(n_best=2) -> Servable:
    """Returns a model of text that writes each text twice, and `n_best` with dots.

    Its signature `classify` fails, as its classes would be texts of the row.
    """

    def run(signature, feeds):
        assert signature == "serving_default"
        texts = [f"{text.decode()} {text.decode()}" for text in feeds["text"]]
        numbers = -np.arange(1, n_best + 1, dtype=np.float32)
        best = [[(text + "." * i).encode() for i in range(n_best)] for text in texts]
        outputs = {
            "text": np.array([text.encode() for text in texts], object),
            "score": np.full(len(texts), -1, np.float32),
            "status": np.array([b"ok"] * len(texts), object),
            "n_best": np.array(best, object),
            "n_best_score": np.tile(numbers, (len(texts), 1)),
        }
        return {name: outputs[name] for name in predict.outputs}

    predict, classify = meta_graph_pb2.SignatureDef(), meta_graph_pb2.SignatureDef()
    predict.inputs["text"].dtype = tf.string.as_datatype_enum
    classify.inputs["inputs"].dtype = tf.string.as_datatype_enum
    names = ("n_best", "n_best_score") if n_best else ()
    for name in ("text", "score", "status", *names):
        predict.outputs[name].name = name
    return Servable({"serving_default": predict, "classify": classify}, run)


class FakeServer:
    """State of a server of one model.

    Attributes:
        versions: Version -> servable; the highest one is the default.
        labels: Label -> version.
        calls: Method -> number of calls; "Columns" is Predict of that signature.
        batch_sizes: Rows of each Predict, in order.
        faults: Errors of the next Predicts.
        delay_s: Duration of a Predict.
        max_concurrent: Highest number of concurrent Predicts.
        before: Called with each Predict's request.
        before_metadata: Called before each GetModelMetadata.
    """

    def __init__(self, servable: Servable, name: str = "mmkeras", version: int = 3):
        self.name, self.versions, self.labels = name, {version: servable}, {}
        self.calls, self.batch_sizes, self.faults = Counter(), [], deque()
        self.delay_s, self.max_concurrent, self._concurrent = 0.0, 0, 0
        self.before, self.before_metadata = lambda request: None, lambda: None
        self._lock = threading.Lock()

    def call(self, method, request):
        """Returns the response; raises a Fault."""
        if request.model_spec.signature_name == "columns":
            method = "Columns"
        with self._lock:
            self.calls[method] += 1
        return getattr(self, f"_{method}")(request)

    def _servable(self, spec):
        version, text = max(self.versions), f"Latest({spec.name})"
        if spec.HasField("version"):
            version = spec.version.value
            text = f"Specific({spec.name}, {version})"
        if spec.version_label:
            if spec.version_label not in self.labels:
                text = f"Unrecognized servable version label: {spec.version_label}"
                raise Fault(grpc.StatusCode.INVALID_ARGUMENT, text)
            version = self.labels[spec.version_label]
        if spec.name != self.name or version not in self.versions:
            text = f"Servable not found for request: {text}"
            raise Fault(grpc.StatusCode.NOT_FOUND, text)
        return version, self.versions[version]

    def _spec(self, version, signature=""):
        number = {"value": version}
        return {"name": self.name, "version": number, "signature_name": signature}

    def _Predict(self, request):
        with self._lock:
            self._concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self._concurrent)
            fault = self.faults.popleft() if self.faults else None
        try:
            self.before(request)
            time.sleep(self.delay_s)
            if fault:
                raise fault
            for tensor in list(request.inputs.values())[:1]:
                self.batch_sizes.append(tensor.tensor_shape.dim[0].size)
            return self._Columns(request)
        finally:
            with self._lock:
                self._concurrent -= 1

    def _Columns(self, request):
        version, servable = self._servable(request.model_spec)
        signature = request.model_spec.signature_name
        names, expected = (
            set(request.inputs),
            set(servable.signatures[signature].inputs),
        )
        if names != expected:
            text = f"input size does not match signature: {len(names)}!={len(expected)}"
            raise Fault(grpc.StatusCode.INVALID_ARGUMENT, text)
        signature_inputs = servable.signatures[signature].inputs
        for name, tensor in request.inputs.items():
            if tensor.dtype != signature_inputs[name].dtype:
                raise Fault(grpc.StatusCode.INVALID_ARGUMENT, "Expects another type")
        feeds = {k: tf.make_ndarray(t).tolist() for k, t in request.inputs.items()}
        outputs = _run(servable, signature, feeds)
        response = predict_pb2.PredictResponse(
            model_spec=self._spec(version, signature)
        )
        for name in request.output_filter or outputs:
            if name not in outputs:
                text = f"output tensor alias not found in signature: {name}"
                raise Fault(grpc.StatusCode.INVALID_ARGUMENT, text)
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    def _Classify(self, request):
        version, servable = self._servable(request.model_spec)
        examples = request.input.example_list.examples
        feeds = {"inputs": [e.SerializeToString() for e in examples]}
        outputs = _run(servable, "classify", feeds)
        response = classification_pb2.ClassificationResponse(
            model_spec=self._spec(version, "classify")
        )
        rows = zip(outputs["classes"], outputs["scores"], strict=True)
        for labels, scores in rows:
            row = response.result.classifications.add()
            for label, score in zip(labels, scores, strict=True):
                row.classes.add(label=label, score=score)
        return response

    def _GetModelMetadata(self, request):
        self.before_metadata()
        version, servable = self._servable(request.model_spec)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=self._spec(version)
        )
        response.metadata["signature_def"].Pack(signatures)
        return response

    def _GetModelStatus(self, request):
        if request.model_spec.name != self.name:
            text = f"Could not find any versions of model {request.model_spec.name}"
            raise Fault(grpc.StatusCode.NOT_FOUND, text)
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in self.versions:
            response.model_version_status.add(version=version, state=30)
        return response


def _run(servable, signature, feeds):
    try:
        return servable.run(signature, feeds)
    except tf.errors.OpError as error:
        codes = {code.value[0]: code for code in grpc.StatusCode}
        raise Fault(codes[error.error_code], error.message) from None


@contextmanager
def serve_grpc(fake: FakeServer, credentials=None, port=0):
    """Serves by gRPC; yields the port."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            method = details.method.rpartition("/")[2]

            def call(request, context):
                try:
                    return fake.call(method, request).SerializeToString()
                except Fault as fault:
                    context.abort(fault.code, fault.text)

            parse = _REQUESTS[method].FromString
            return grpc.unary_unary_rpc_method_handler(call, parse)

    options = [("grpc.max_receive_message_length", 256 * 2**20)]
    server = grpc.server(ThreadPoolExecutor(32), [Handler()], options=options)
    address = f"{LOCAL}:{port}"
    if credentials:
        port = server.add_secure_port(address, credentials)
    else:
        port = server.add_insecure_port(address)
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def serve_rest(fake: FakeServer, context=None):
    """Serves by REST; yields the port. `context` is the TLS context."""
    handler = type("Handler", (_RestHandler,), {"fake": fake})
    server = ThreadingHTTPServer((LOCAL, 0), handler)
    server.handle_error = lambda *_: None  # tests close connections
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _RestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path, metadata, _ = self.path.partition("/metadata")
        method = "GetModelMetadata" if metadata else "GetModelStatus"
        self._respond(method, path, {})

    def do_POST(self):
        content = self.rfile.read(int(self.headers["content-length"]))
        path, _, verb = self.path.rpartition(":")
        self._respond(verb.capitalize(), path, json.loads(content))

    def _respond(self, method, path, body):
        request = _request(method, path, body)
        try:
            status, headers = 200, {}
            body = _body(method, self.fake.call(method, request))
        except Fault as fault:
            status, headers = _HTTP[fault.code.value[0]], fault.headers
            body = {"error": fault.text}
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


def _request(method, path, body):
    request = _REQUESTS[method]()
    spec = request.model_spec
    _, _, _, spec.name, *rest = path.split("/")
    spec.signature_name = body.get("signature_name", "")
    if rest and rest[0] == "versions":
        spec.version.value = int(rest[1])
    elif rest:
        spec.version_label = rest[1]
    for name, column in body.get("inputs", {}).items():
        cells = list(map(_cell, column))
        dtype = tf.float32 if isinstance(cells[0], float) else tf.string
        request.inputs[name].CopyFrom(tf.make_tensor_proto(cells, dtype))
    for row in body.get("examples", []):
        example = request.input.example_list.examples.add()
        for name, value in row.items():
            feature, cell = example.features.feature[name], _cell(value)
            is_number = isinstance(cell, float)
            values = feature.float_list if is_number else feature.bytes_list
            values.value.append(cell)
    return request


def _cell(value):
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode() if isinstance(value, str) else value


def _body(method, response):
    if method == "Predict":
        arrays = {name: tf.make_ndarray(t) for name, t in response.outputs.items()}
        outputs = {
            name: (np.char.decode(a.astype(bytes)) if a.dtype == object else a).tolist()
            for name, a in arrays.items()
        }
        return {"outputs": outputs}
    if method == "Classify":
        rows = response.result.classifications
        return {"results": [[[c.label, c.score] for c in row.classes] for row in rows]}
    if method == "GetModelStatus":
        return _json(response)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    version = str(response.model_spec.version.value)
    spec = {"name": response.model_spec.name, "signature_name": "", "version": version}
    return {"model_spec": spec, "metadata": {"signature_def": _json(signatures)}}


def _json(message):
    return json_format.MessageToDict(message, preserving_proto_field_name=True)
