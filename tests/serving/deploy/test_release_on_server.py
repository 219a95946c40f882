"""Release of real versions on the TF Serving-compatible server."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from serving.deploy.release import main
from tests.serving.models import save_halves
from tests.serving.server_process import start_server


def test_a_canary_is_served_with_the_stable_version_and_rolled_back(tmp_path):
    base, path = tmp_path / "models" / "halves", tmp_path / "models.config"
    for version in (1, 2):
        save_halves(base, version, bias=float(version))
    path.write_text(
        f'model_config_list {{ config {{ name: "halves" base_path: "{base}" '
        'model_platform: "tensorflow" } }\n'
    )

    def release(*words):
        options = ["--config", str(path), "--target", server.grpc, "--wait-s", "60"]
        assert main([*words, "--model", "halves", *options]) == 0

    def predict(label):
        spec = {"name": "halves", "version_label": label}
        request = predict_pb2.PredictRequest(model_spec=spec)
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(1, np.float32)))
        with grpc.insecure_channel(server.grpc) as channel:
            response = PredictionServiceStub(channel).Predict(request, timeout=30)
        return response.outputs["y"].float_val[0]

    flags = ("--load-retry-seconds", "0.1")
    with start_server({"halves": base}, tmp_path / "log", *flags) as server:
        release("stable", "1")
        release("canary", "2")
        assert (predict("stable"), predict("canary")) == (1.0, 2.0)
        release("rollback")
        assert predict("stable") == 1.0
        with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
            predict("canary")
