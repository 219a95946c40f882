"""What is said to a server and in which order; without any waiting.

A talk is a generator that yields calls and is sent their replies, or is thrown their
errors. `Client` waits for the replies and `AsyncClient` awaits them, and there is no
other difference between the two.
"""

from collections.abc import Collection, Generator, Iterator, Sequence
from types import ModuleType
from typing import TypeVar

from mmkeras.errors import UserError
from mmkeras.schema import CLASSIFY, MODALITIES
from serving.client.errors import PredictError, not_understood
from serving.client.inputs import PreparedRow
from serving.client.model_info import (
    ModelInfo,
    answers,
    check_taken,
    fits,
    modalities_of,
)
from serving.client.prediction import Prediction
from serving.client.requests import (
    Call,
    ClassNamesCall,
    MetadataCall,
    ModelSpec,
    Outputs,
    PredictCall,
    Reply,
    VersionsCall,
)
from serving.client.settings import Settings

T = TypeVar("T")
Talk = Generator[Call, Reply, T]

# How often a request is made anew since the model has changed under it.
_CHANGES = 3
_RETRIES_AT_FIRST = 2
_KEPT = 4  # models; two servers may answer in turn while one is replaced
# What a server answers where the request does not fit the model's signature.
_UNKNOWN_MODEL = "Could not find any versions of model"  # TensorFlow Serving's words
_MISFITS = ("INVALID_ARGUMENT", "FAILED_PRECONDITION")


class ClientProtocol:
    """What is known of one model, and the talks with its server."""

    def __init__(self, settings: Settings, wire: ModuleType):
        """`wire` says how large a row is: `grpc_wire` or `rest_wire`."""
        self._settings, self._wire = settings, wire
        self._spec = ModelSpec(
            model=settings.model, version=settings.version, label=settings.label
        )
        self._models: dict[int | None, ModelInfo] = {}
        self._model: ModelInfo | None = None  # the latest that was heard of

    @property
    def retries(self) -> int:
        """How often a call is sent again.

        A server that was never heard of may have another name or port, and whoever
        wrote it wants to know soon.
        """
        most = self._settings.retries
        return most if self._models else min(most, _RETRIES_AT_FIRST)

    def describe(self, given: Collection[str] = ()) -> Talk[ModelInfo]:
        """Learns what the model takes, and its classes, unless they are known.

        What it is `given` and is not known to take may be what a newer version takes,
        so the server is asked again.
        """
        if self._model is None or not set(given) <= set(self._model.modalities):
            self._model = yield from self._describe(self._spec)
        return self._model

    def ask(self, rows: Sequence[PreparedRow]) -> Talk[list[Prediction]]:
        """Has rows answered, in as many requests as their size takes.

        Raises:
            UserError: A row is too large, or has what the model does not take.
            PredictError: The server refuses, or cannot be reached.
        """
        found = []
        for part in self._parts(rows):
            found += yield from self._ask(part)
        return found

    def too_large(self, row: PreparedRow) -> str:
        """Returns why a row does not fit into a request by itself; "": it does."""
        largest = self._settings.max_message_bytes
        size = self._wire.row_bytes(row.data)
        if size <= self._wire.budget_bytes(largest):
            return ""
        words = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size} bytes"
        return (
            f"{words} to send, more than a message may have "
            f"(max_message_bytes={largest})"
        )

    def _parts(self, rows: Sequence[PreparedRow]) -> Iterator[list[PreparedRow]]:
        budget = self._wire.budget_bytes(self._settings.max_message_bytes)
        part, used = [], 0
        for row in rows:
            if why := self.too_large(row):
                raise UserError(f"A row is too large: {why}.")
            size = self._wire.row_bytes({m: row.data.get(m, b"") for m in MODALITIES})
            if part and used + size > budget:
                yield part
                part, used = [], 0
            part.append(row)
            used += size
        if part:
            yield part

    def _ask(self, rows: list[PreparedRow]) -> Talk[list[Prediction]]:
        for _ in range(_CHANGES):
            model = yield from self.describe()
            check_taken(rows, model, self._spec.model)
            columns = {
                m: [row.data.get(m, b"") for row in rows] for m in model.modalities
            }
            try:
                outputs = yield PredictCall(spec=self._spec, columns=columns)
            except PredictError as error:
                if not (yield from self._has_changed(error, model)):
                    raise (yield from self._hinted(error)) from None
                continue
            self._check_rows(outputs, len(rows))
            answered = yield from self._model_of(outputs, model)
            if answered is not None:
                self._model = answered
                return answers(outputs, rows, answered)
        raise PredictError(
            "ABORTED",
            "changes its model faster than it can be described. Ask for one version.",
            target=self._settings.target,
            is_answer=False,
        )

    def _check_rows(self, outputs: Outputs, rows: int) -> None:
        lengths = {len(outputs.probabilities), len(outputs.labels)}
        lengths |= {len(outputs.scores), len(outputs.statuses)}
        if lengths != {rows}:
            found = ", ".join(map(str, sorted(lengths)))
            why = f"{found} rows of outputs for {rows} rows"
            raise not_understood(self._settings.target, why)

    def _has_changed(self, error: PredictError, asked: ModelInfo) -> Talk[bool]:
        """Whether a request was refused since the model takes something else now."""
        if error.code not in _MISFITS or not error.is_answer:
            return False
        self._model = yield from self._describe(self._spec)
        return self._model.modalities != asked.modalities

    def _model_of(self, outputs: Outputs, asked: ModelInfo) -> Talk[ModelInfo | None]:
        """Returns the model that has answered; None: it is gone, ask again.

        An answer by gRPC says its version. One by REST does not; there, and where a
        version has been replaced by another of the same number, it shows by labels
        that are not those of the highest probabilities.
        """
        version = outputs.version
        model = asked if version is None else self._models.get(version)
        if model is not None and fits(outputs, model):
            return model
        self._models.pop(version if model is None else model.version, None)
        try:
            model = yield from self._describe(self._spec.at(version))
        except PredictError as error:
            if error.code != "NOT_FOUND":
                raise
            self._model = None
            return None
        self._model = model
        widths = {len(row) for row in outputs.probabilities}
        return model if widths == {len(model.classes) or max(widths)} else None

    def _describe(self, spec: ModelSpec) -> Talk[ModelInfo]:
        for attempt in range(_CHANGES):
            try:
                described = yield MetadataCall(spec=spec)
            except PredictError as error:
                raise (yield from self._hinted(error)) from None
            version = described.version
            modalities = modalities_of(described, spec.model)
            known = self._models.get(version)
            if known is not None and known.modalities == modalities:
                return known
            classes = ()
            if CLASSIFY in described.inputs:
                call = ClassNamesCall(spec=spec.at(version), modality=modalities[0])
                try:
                    classes = yield call
                except PredictError as error:
                    if error.code == "NOT_FOUND" and attempt + 1 < _CHANGES:
                        continue  # the version has gone in between
                    raise
            model = ModelInfo(version=version, modalities=modalities, classes=classes)
            self._models[version] = model
            if len(self._models) > _KEPT:
                self._models.pop(next(iter(self._models)), None)
            return model
        raise AssertionError("the last attempt returns or raises")

    def _hinted(self, error: PredictError) -> Talk[PredictError]:
        """Adds what the server has instead of what it has not found."""
        is_label = "servable version label" in error.message.lower()
        if error.hint or not (error.code == "NOT_FOUND" or is_label):
            return error
        try:
            there = yield VersionsCall(model=self._spec.model)
        except PredictError as unknown:
            if unknown.code == "NOT_FOUND" and _UNKNOWN_MODEL in unknown.message:
                error.hint = (
                    "Check the model's name; a server does not tell which ones it has."
                )
            return error
        ready = [str(v) for v, state in there.items() if state == "AVAILABLE"]
        states = ", ".join(f"{v} is {state}" for v, state in there.items())
        error.hint = (
            f"Versions that are there: {', '.join(ready)}."
            if ready
            else f"No version is ready: {states or 'there is none'}."
        )
        if is_label:
            error.hint = f"A server does not tell its labels. {error.hint}"
        return error
