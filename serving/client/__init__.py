"""Client of models behind TensorFlow Serving, by gRPC or REST, without TensorFlow."""

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
