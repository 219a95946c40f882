"""TF Serving's stand-in for the client's tests: real answers, and faults on demand."""

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
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

LOCAL = "127.0.0.1"
_HTTP = {3: 400, 5: 404, 8: 429, 9: 400, 12: 501, 13: 500, 14: 503, 4: 504}


class Fault(Exception):
    """An error that a server answers with."""

    def __init__(self, code: grpc.StatusCode, text: str, headers=()):
        super().__init__(text)
        self.code, self.text, self.headers = code, text, dict(headers)


@dataclass(frozen=True)
class Servable:
    """A loaded version: its signatures, and the call that runs them."""

    signatures: dict[str, meta_graph_pb2.SignatureDef]
    run: Callable


def exported(folder: Path, run: Callable) -> Servable:
    """The servable of an export that `mmkeras.export.saved_model_session.loaded` runs."""
    saved = saved_model_pb2.SavedModel.FromString(
        (folder / "saved_model.pb").read_bytes()
    )
    found = saved.meta_graphs[0].signature_def
    return Servable({k: found[k] for k in found if not k.startswith("__")}, run)


def made_up(classes=("a", "b"), modalities=("text",), top=0, label=None) -> Servable:
    """A model that says `classes[top]` to everything, in no time."""
    width = len(classes)
    probabilities = [0.9 if i == top else 0.1 / max(width - 1, 1) for i in range(width)]

    def run(signature, feeds):
        rows = len(next(iter(feeds.values())))
        scores = np.tile(np.float32(probabilities), (rows, 1))
        if signature == "classify":
            names = np.array([[c.encode() for c in classes]] * rows, object)
            return {"classes": names, "scores": scores}
        lacking = [
            "; ".join(f"{m} absent" for m in modalities if not feeds[m][i]) or "ok"
            for i in range(rows)
        ]
        name = classes[top] if label is None else label
        return {
            "probabilities": scores,
            "label": np.array([name.encode()] * rows, object),
            "score": scores[:, top],
            "status": np.array([s.encode() for s in lacking], object),
        }

    signature = meta_graph_pb2.SignatureDef()
    for m in modalities:
        signature.inputs[m].dtype = tf.string.as_datatype_enum
    for name in ("probabilities", "label", "score", "status"):
        signature.outputs[name].name = name
    classify = meta_graph_pb2.SignatureDef()
    classify.inputs["inputs"].dtype = tf.string.as_datatype_enum
    return Servable({"serving_default": signature, "classify": classify}, run)


class Stand:
    """One model by its versions.

    Attributes:
        versions: Version -> servable; the highest is the one that is asked.
        calls: Method -> how often it was called.
        batches: Rows of each Predict, in the order in which they came.
        faults: What the next Predicts end with.
        delay_s: How long a Predict takes.
        most: The most Predicts that were under way at a time.
        before: Called with each Predict's request.
    """

    def __init__(self, servable: Servable, name: str = "mmkeras", version: int = 3):
        self.name, self.versions = name, {version: servable}
        self.calls, self.batches, self.faults = Counter(), [], deque()
        self.delay_s, self.most, self._now = 0.0, 0, 0
        self.labels, self.before = {}, lambda request: None
        self._lock = threading.Lock()

    def _servable(self, spec):
        wanted = f"Latest({spec.name})"
        version = max(self.versions)
        if spec.HasField("version"):
            version = spec.version.value
            wanted = f"Specific({spec.name}, {version})"
        if spec.version_label:
            if spec.version_label not in self.labels:
                text = f"Unrecognized servable version label: {spec.version_label}"
                raise Fault(grpc.StatusCode.INVALID_ARGUMENT, text)
            version = self.labels[spec.version_label]
        if spec.name != self.name or version not in self.versions:
            text = f"Servable not found for request: {wanted}"
            raise Fault(grpc.StatusCode.NOT_FOUND, text)
        return version, self.versions[version]

    def _spec(self, version, signature=""):
        return {
            "name": self.name,
            "version": {"value": version},
            "signature_name": signature,
        }

    def predict(self, request):
        with self._lock:
            self.calls["Predict"] += 1
            self._now += 1
            self.most = max(self.most, self._now)
            fault = self.faults.popleft() if self.faults else None
        try:
            self.before(request)
            time.sleep(self.delay_s)
            if fault:
                raise fault
            return self._predict(request)
        finally:
            with self._lock:
                self._now -= 1

    def _predict(self, request):
        version, servable = self._servable(request.model_spec)
        signature = servable.signatures[request.model_spec.signature_name]
        given, wanted = set(request.inputs), set(signature.inputs)
        if given != wanted:
            text = f"input size does not match signature: {len(given)}!={len(wanted)}"
            raise Fault(grpc.StatusCode.INVALID_ARGUMENT, text)
        feeds = {k: list(t.string_val) for k, t in request.inputs.items()}
        self.batches.append(len(next(iter(feeds.values()))))
        outputs = _run(servable, request.model_spec.signature_name, feeds)
        response = predict_pb2.PredictResponse(
            model_spec=self._spec(version, request.model_spec.signature_name)
        )
        for name in request.output_filter or outputs:
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    def classify(self, request):
        self.calls["Classify"] += 1
        version, servable = self._servable(request.model_spec)
        examples = request.input.example_list.examples
        feeds = {"inputs": [e.SerializeToString() for e in examples]}
        outputs = _run(servable, "classify", feeds)
        response = classification_pb2.ClassificationResponse(
            model_spec=self._spec(version, "classify")
        )
        pairs = zip(outputs["classes"], outputs["scores"], strict=True)
        for names, scores in pairs:
            row = response.result.classifications.add()
            for label, score in zip(names, scores, strict=True):
                row.classes.add(label=label, score=score)
        return response

    def metadata(self, request):
        self.calls["GetModelMetadata"] += 1
        version, servable = self._servable(request.model_spec)
        found = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in servable.signatures.items():
            found.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse(
            model_spec=self._spec(version)
        )
        response.metadata["signature_def"].Pack(found)
        return response

    def status(self, request):
        self.calls["GetModelStatus"] += 1
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


def _answered(method):
    def answer(self, request, context):
        try:
            return method(self.stand, request)
        except Fault as fault:
            context.abort(fault.code, fault.text)

    return answer


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, stand):
        self.stand = stand

    Predict = _answered(Stand.predict)
    Classify = _answered(Stand.classify)
    GetModelMetadata = _answered(Stand.metadata)


class _Models(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, stand):
        self.stand = stand

    GetModelStatus = _answered(Stand.status)


@contextmanager
def grpc_door(stand: Stand, credentials=None, workers=32, port=0):
    """Serves by gRPC and yields the port; 0 is a free one."""
    largest = 256 * 2**20
    server = grpc.server(
        ThreadPoolExecutor(workers),
        options=[("grpc.max_receive_message_length", largest)],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Prediction(stand), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Models(stand), server)
    if credentials:
        port = server.add_secure_port(f"{LOCAL}:{port}", credentials)
    else:
        port = server.add_insecure_port(f"{LOCAL}:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


@contextmanager
def rest_door(stand: Stand, context=None):
    """Serves by REST and yields the port; `context` is of TLS."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):  # clients that go away are part of the tests
            pass

    class Handler(_Handler):
        pass

    Handler.stand = stand
    server = Server((LOCAL, 0), Handler)
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path, _, metadata = self.path.partition("/metadata")
        if metadata or self.path.endswith("/metadata"):
            request = get_model_metadata_pb2.GetModelMetadataRequest()
            _fill(request.model_spec, path)
            self._answer(lambda: _metadata_json(self.stand.metadata(request)))
        else:
            request = get_model_status_pb2.GetModelStatusRequest()
            _fill(request.model_spec, path)
            self._answer(lambda: _json(self.stand.status(request)))

    def do_POST(self):
        content = self.rfile.read(int(self.headers["content-length"]))
        body, (path, _, verb) = json.loads(content), self.path.rpartition(":")
        if verb == "predict":
            request = predict_pb2.PredictRequest()
            _fill(request.model_spec, path, body["signature_name"])
            for name, column in body["inputs"].items():
                strings = [base64.b64decode(cell["b64"]) for cell in column]
                request.inputs[name].CopyFrom(tf.make_tensor_proto(strings))
            self._answer(lambda: _outputs_json(self.stand.predict(request)))
        else:
            request = classification_pb2.ClassificationRequest()
            _fill(request.model_spec, path, body["signature_name"])
            for row in body["examples"]:
                example = request.input.example_list.examples.add()
                for name, text in row.items():
                    values = example.features.feature[name].bytes_list.value
                    values.append(text.encode())
            self._answer(lambda: _classes_json(self.stand.classify(request)))

    def _answer(self, make):
        try:
            status, headers, body = 200, {}, make()
        except Fault as fault:
            status, headers = _HTTP[fault.code.value[0]], fault.headers
            body = {"error": fault.text}
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": len(content)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)


def _fill(spec, path, signature=""):
    _, _, _, spec.name, *rest = path.split("/")
    spec.signature_name = signature
    if rest and rest[0] == "versions":
        spec.version.value = int(rest[1])
    elif rest:
        spec.version_label = rest[1]


def _json(response):
    return json_format.MessageToDict(response, preserving_proto_field_name=True)


def _metadata_json(response):
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    spec = {"name": response.model_spec.name, "signature_name": ""}
    spec["version"] = str(response.model_spec.version.value)
    return {"model_spec": spec, "metadata": {"signature_def": _json(found)}}


def _classes_json(response):
    rows = response.result.classifications
    return {"results": [[[c.label, c.score] for c in row.classes] for row in rows]}


def _outputs_json(response):
    arrays = {name: tf.make_ndarray(t) for name, t in response.outputs.items()}
    texts = {
        name: [s.decode() for s in a] if a.dtype == object else a.tolist()
        for name, a in arrays.items()
    }
    return {"outputs": texts}
