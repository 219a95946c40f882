"""Sans-IO client protocol: which calls are sent to a server, in which order.

A flow is a generator that yields calls and receives their replies or errors. `Client`
and `AsyncClient` drive the same flows, one with blocking calls, one with `await`.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import replace
from types import ModuleType
from typing import TypeVar

from mmkeras.errors import UserError
from mmkeras.schema import CLASSIFY, COLUMNS
from serving.client.errors import PredictError, client_error, response_error
from serving.client.model_info import (
    ModelInfo,
    check_columns,
    kinds_match,
    labels_match,
    make_predictions,
    read_columns,
)
from serving.client.prediction import Prediction
from serving.client.requests import (
    Call,
    Cell,
    ClassNamesCall,
    ColumnsCall,
    MetadataCall,
    ModelMetadata,
    ModelSpec,
    Outputs,
    PredictCall,
    PreparedRow,
    Reply,
    VersionsCall,
)
from serving.client.settings import Settings

T = TypeVar("T")
Flow = Generator[Call, Reply, T]

_MAX_ATTEMPTS = 3  # for a request whose model changes on the server meanwhile
_RETRIES_BEFORE_CONTACT = 2
_FIXED_BYTES = 2048  # upper bound of a request without its inputs
_INPUT_BYTES = 64  # upper bound of an input without its name and its values
_NAME_BYTES = 6  # upper bound of one byte of a name: an escape in JSON
_MAX_MODELS = 4  # two servers may respond in turn while one is replaced
_UNKNOWN_MODEL = "Could not find any versions of model"  # text of TensorFlow Serving
# Codes of a server for a request that does not match the model's signature.
_MISMATCH_CODES = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


class ClientProtocol:
    """Flows of calls about one model; keeps the descriptions of its versions."""

    def __init__(self, settings: Settings, codec: ModuleType):
        """`codec` is `grpc_codec` or `rest_codec`, which computes the size of a row."""
        self._settings, self._codec = settings, codec
        self._spec = ModelSpec(
            model=settings.model, version=settings.version, label=settings.label
        )
        self._models: dict[int | None, ModelInfo] = {}
        self._model: ModelInfo | None = None  # the latest

    @property
    def max_retries(self) -> int:
        """Limit of retries per call.

        It is low until the first response, because a wrong host or port should be
        reported soon.
        """
        retries = self._settings.retries
        return retries if self._models else min(retries, _RETRIES_BEFORE_CONTACT)

    def describe(self, columns: Collection[str] = ()) -> Flow[ModelInfo]:
        """Returns the description of the model, from the server if it is not cached.

        A column that the known version does not have may be one of a newer version, so
        the server is called again.
        """
        if self._model is None or not set(columns) <= self._model.columns.keys():
            self._model = yield from self._describe(self._spec)
        return self._model

    def predict(self, rows: Sequence[PreparedRow]) -> Flow[list[Prediction]]:
        """Returns one prediction per row, by as many requests as their size needs.

        Raises:
            UserError: A row is too large, or has a column that the model lacks.
            PredictError: The server refuses a call, or cannot be reached.
        """
        predictions = []
        for batch in self._split(rows):
            predictions += yield from self._predict(batch)
        return predictions

    def size_problem(self, row: PreparedRow) -> str:
        """Returns why a row does not fit into one request, or ""."""
        size = self._row_bytes(row)
        if size <= self._max_row_bytes:
            return ""
        text = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size} bytes"
        return (
            f"{text} to send, more than a message may have "
            f"(max_message_bytes={self._settings.max_message_bytes})"
        )

    def _row_bytes(self, row: PreparedRow) -> int:
        return self._codec.row_bytes(self._absent | row.data)

    @property
    def _absent(self) -> dict[str, Cell]:
        model = self._model  # another thread may replace it
        return model.absent if model else {}

    @property
    def _max_row_bytes(self) -> int:
        names = (_INPUT_BYTES + _NAME_BYTES * len(n.encode()) for n in self._absent)
        return self._settings.max_message_bytes - _FIXED_BYTES - sum(names)

    def _split(self, rows: Sequence[PreparedRow]) -> Iterator[list[PreparedRow]]:
        batch, used, budget = [], 0, self._max_row_bytes
        for row in rows:
            if problem := self.size_problem(row):
                raise UserError(f"A row is too large: {problem}.")
            size = self._row_bytes(row)
            if batch and used + size > budget:
                yield batch
                batch, used = [], 0
            batch.append(row)
            used += size
        if batch:
            yield batch

    def _predict(self, rows: list[PreparedRow]) -> Flow[list[Prediction]]:
        for _ in range(_MAX_ATTEMPTS):
            model = yield from self.describe()
            check_columns(rows, model, self._spec.model)
            columns = {
                name: [row.data.get(name, absent) for row in rows]
                for name, absent in model.absent.items()
            }
            try:
                outputs = yield PredictCall(
                    spec=self._spec, columns=columns, outputs=model.outputs
                )
            except PredictError as error:
                if not (yield from self._is_changed(error, model)):
                    raise (yield from self._add_hint(error)) from None
                continue
            self._check_row_count(outputs, len(rows))
            model = yield from self._model_of(outputs, model)
            if model is not None:
                self._model = model
                return make_predictions(outputs, rows, model)
        message = "changes its model faster than it can be described. Set one version."
        raise client_error("ABORTED", message, self._settings.target)

    def _check_row_count(self, outputs: Outputs, rows: int) -> None:
        if outputs.values:
            columns = [outputs.values]
        elif outputs.texts:
            columns = [outputs.texts, outputs.scores]
            if outputs.n_best:
                columns += [outputs.n_best, outputs.n_best_scores]
        else:
            columns = [outputs.probabilities, outputs.labels, outputs.scores]
        lengths = set(map(len, [outputs.statuses, *columns]))
        if lengths != {rows}:
            counts = ", ".join(map(str, sorted(lengths)))
            reason = f"{counts} rows of outputs for {rows} rows"
            raise response_error(self._settings.target, reason)

    def _is_changed(self, error: PredictError, model: ModelInfo) -> Flow[bool]:
        """Returns whether a refused request was made for an older signature."""
        if error.code not in _MISMATCH_CODES or not error.is_from_server:
            return False
        self._model = yield from self._describe(self._spec)
        new = self._model
        before = model.columns, model.absent, model.outputs
        return (new.columns, new.absent, new.outputs) != before

    def _model_of(self, outputs: Outputs, model: ModelInfo) -> Flow[ModelInfo | None]:
        """Returns the model that computed the outputs; None if its version is gone.

        A gRPC response has the version. A REST response has not; there, and for a
        version that was replaced under the same number, the labels do not match the
        highest probabilities.
        """
        version = outputs.version
        cached = model if version is None else self._models.get(version)
        if cached is not None and labels_match(outputs, cached):
            return cached
        self._models.pop(version if cached is None else cached.version, None)
        try:
            self._model = yield from self._describe(self._spec.at(version))
        except PredictError as error:
            if error.code != "NOT_FOUND":
                raise
            self._model = None
            return None
        if not kinds_match(outputs, self._model):
            return None
        widths = {len(row) for row in outputs.probabilities}
        is_match = not widths or widths == {len(self._model.classes) or max(widths)}
        return self._model if is_match else None

    def _describe(self, spec: ModelSpec) -> Flow[ModelInfo]:
        for attempt in range(_MAX_ATTEMPTS):
            try:
                metadata = yield MetadataCall(spec=spec)
            except PredictError as error:
                raise (yield from self._add_hint(error)) from None
            try:
                model = yield from self._read_model(spec, metadata)
            except PredictError as error:
                if error.code == "NOT_FOUND" and attempt + 1 < _MAX_ATTEMPTS:
                    continue  # the version was unloaded between the calls
                raise
            self._models[model.version] = model
            if len(self._models) > _MAX_MODELS:
                self._models.pop(next(iter(self._models)), None)
            return model
        raise AssertionError("the last attempt returns or raises")

    def _read_model(self, spec: ModelSpec, metadata: ModelMetadata) -> Flow[ModelInfo]:
        """Returns the description of the version that has the metadata."""
        spec, types = spec.at(metadata.version), None
        if COLUMNS in metadata.inputs:
            types = yield ColumnsCall(spec=spec)
        model = read_columns(metadata, types, spec.model)
        cached = self._models.get(model.version)
        if cached is not None and replace(cached, classes=()) == model:
            return cached
        if CLASSIFY not in metadata.inputs or model.is_generator:
            return model  # the classes of a generator are texts of the row
        name, absent = next(iter(model.absent.items()))
        classes = yield ClassNamesCall(spec=spec, row={name: absent})
        return replace(model, classes=classes)

    def _add_hint(self, error: PredictError) -> Flow[PredictError]:
        """Adds the available versions to the error of an unknown one."""
        is_label = "servable version label" in error.message.lower()
        if error.hint or not (error.code == "NOT_FOUND" or is_label):
            return error
        try:
            states = yield VersionsCall(model=self._spec.model)
        except PredictError as other:
            if other.code == "NOT_FOUND" and _UNKNOWN_MODEL in other.message:
                error.hint = "Check the model name; a server does not list its models."
            return error
        available = [str(v) for v, state in states.items() if state == "AVAILABLE"]
        others = ", ".join(f"{v} is {state}" for v, state in states.items())
        error.hint = (
            f"Available versions: {', '.join(available)}."
            if available
            else f"No version is available: {others or 'there is none'}."
        )
        if is_label:
            error.hint = f"A server does not list its labels. {error.hint}"
        return error
