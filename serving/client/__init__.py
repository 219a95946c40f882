"""A client of models behind TensorFlow Serving, by gRPC or REST, and its program.

Never imports TensorFlow: what the stubs of tensorflow-serving-api cost is not paid (see
`messages.py`).
"""

from mmkeras.errors import UserError
from serving.client.answer import Answer
from serving.client.async_client import AsyncClient
from serving.client.client import Client
from serving.client.errors import PredictError
from serving.client.model import Model
from serving.client.settings import Limits, Tls

__all__ = [
    "Answer",
    "AsyncClient",
    "Client",
    "Limits",
    "Model",
    "PredictError",
    "Tls",
    "UserError",
]
