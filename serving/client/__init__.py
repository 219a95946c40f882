"""A client of models behind TensorFlow Serving, by gRPC or REST, and its program.

Never imports TensorFlow: what the stubs of tensorflow-serving-api cost is not paid (see
`descriptors.py`).
"""

from mmkeras.errors import UserError
from serving.client.async_client import AsyncClient
from serving.client.client import Client
from serving.client.errors import PredictError
from serving.client.model_info import ModelInfo
from serving.client.prediction import Prediction
from serving.client.settings import Limits, Tls

__all__ = [
    "AsyncClient",
    "Client",
    "Limits",
    "ModelInfo",
    "PredictError",
    "Prediction",
    "Tls",
    "UserError",
]
