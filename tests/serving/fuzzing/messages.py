"""Hypothesis strategies of protobuf requests, from valid to absurd."""

import numpy as np
import tensorflow as tf
from hypothesis import strategies as st
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from tests.table_factory import bomb, image, tone, vector

REQUESTS = {
    "Predict": predict_pb2.PredictRequest,
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
    "MultiInference": inference_pb2.MultiInferenceRequest,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
    "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
    "HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest,
}
_METHODS = ("predict", "classify", "regress")
_DIMS = (0, 1, 2, 3, 4, 5, 8, 64)
_ODD_DIMS = (-1, -2, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63), 10**6, 1025)
_ODD_NAMES = ("", "nope", "a\0b", "\N{PILE OF POO}" * 700, "x" * 2**20, "../..", "%s")
_VERSIONS = (0, 1, 2, -1, 2**31, 2**63 - 1, -(2**63))
_DTYPES = [v for v in types_pb2.DataType.values()] + [99, 200, -5]
_WORDS = (b"", b"warm fire", b"\0", b"\xff\xfe", "\N{SNOWMAN}".encode(), b"a b  c" * 20)
_FLOATS = (0.0, 1.0, -1.5, 3e38, float("inf"), float("nan"), 1e-45)
_FIELDS = ("half_val", "float_val", "double_val", "int_val", "string_val")
_FIELDS += ("scomplex_val", "int64_val", "bool_val", "dcomplex_val", "uint32_val")
_FIELDS += ("uint64_val",)


def media() -> list[bytes]:
    """Returns images, audio and vectors of every kind, and a decompression bomb."""
    kinds = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
    images = [image((9, 99, 200), kind, (12, 9)) for kind in kinds]
    audio = [tone(440, "WAV", subtype, 8000, 0.05) for subtype in ("PCM_16", "FLOAT")]
    audio += [tone((440, 880), "WAV", "PCM_24", 16_000, 0.05), tone(440, "FLAC")]
    return [*images, *audio, bomb(), vector([1, 2, 3]), vector(np.ones((2, 3)))]


@st.composite
def draw_model_spec(draw, name: str, signatures: list[str]) -> model_pb2.ModelSpec:
    """Draws a ModelSpec, mostly of the model `name`."""
    spec = model_pb2.ModelSpec(name=name)
    if not draw(st.integers(0, 15)):
        spec.name = draw(st.one_of(st.sampled_from(_ODD_NAMES), st.text(max_size=9)))
    spec.signature_name = draw(st.sampled_from(signatures))
    odd = draw(st.integers(0, 31))
    if odd == 0:
        spec.signature_name = draw(st.one_of(st.sampled_from(_ODD_NAMES), st.text()))
    elif odd == 1:
        spec.version.value = draw(st.sampled_from(_VERSIONS))
    elif odd == 2:
        spec.version_label = draw(st.one_of(st.sampled_from(_ODD_NAMES), st.text()))
    elif odd == 3:
        spec.ClearField("name")
    return spec


@st.composite
def draw_tensor(draw, dtype: int, dims: list[int]) -> tensor_pb2.TensorProto:
    """Draws a tensor, mostly of that type and shape (-1: any size)."""
    rows = draw(st.sampled_from((1, 1, 2, 3, 0, 40)))
    shape = [rows if d < 0 else d for d in dims]
    how = draw(st.integers(-30, 30))
    if how == 0:
        shape = draw(st.lists(st.sampled_from(_DIMS), max_size=6))
    elif how == 1:
        dtype = draw(st.sampled_from(_DTYPES))
    proto = draw(_valid_tensor(dtype, shape))
    if how == 2:
        sizes = st.sampled_from(_ODD_DIMS + _DIMS)
        proto.tensor_shape.ClearField("dim")
        for size in draw(st.lists(sizes, max_size=5)):
            proto.tensor_shape.dim.add(size=size, name=draw(st.sampled_from("xy")))
    elif how == 3:
        proto.tensor_content = draw(st.binary(max_size=40))
    elif how == 4:
        _fill(draw, proto, draw(st.sampled_from(_FIELDS)))
    elif how in (5, -5):
        proto.tensor_shape.unknown_rank = draw(st.booleans())
        proto.version_number = draw(st.sampled_from((0, 1, -1, 2**31 - 1)))
        for _ in range(draw(st.sampled_from((0, 1, 30, 40, 254, 255, 300)))):
            proto.tensor_shape.dim.add(size=1)
    elif how == 6:
        proto.ClearField(draw(st.sampled_from(("dtype", "tensor_shape"))))
    elif how == 7:
        variant = proto.variant_val.add(type_name="x", metadata=b"\xff")
        variant.tensors.add(dtype=dtype)
        proto.resource_handle_val.add(device="/cpu:0", name="h", container="c")
    return proto


def _valid_tensor(dtype: int, shape: list[int]) -> st.SearchStrategy:
    size = int(np.prod(shape, dtype=object))
    if dtype == types_pb2.DT_STRING:
        values = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=4)
        return values.map(lambda words: _strings(words, size, shape))
    try:
        kind = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
        plain = kind.kind in "biufc" or dtype == types_pb2.DT_BFLOAT16
    except (TypeError, KeyError):
        plain = False
    if not plain or size > 2**16:
        return st.builds(lambda: _shaped(tensor_pb2.TensorProto(dtype=dtype), shape))
    values = st.sampled_from(_FLOATS if kind.kind in "fcV" else (0, 1, 9, 77))
    return st.tuples(values, st.booleans()).map(
        lambda value: _numbers(shape, kind, *value)
    )


def _numbers(shape, kind: np.dtype, value, packed: bool) -> tensor_pb2.TensorProto:
    with np.errstate(over="ignore"):  # 3e38 as a half
        array = np.full(shape, value).astype(kind)
    dtype = tf.as_dtype(array.dtype)
    if packed:
        proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
        proto.tensor_content = array.tobytes()
        return _shaped(proto, list(array.shape))
    few = tf.make_tensor_proto(array.ravel()[:3], dtype=dtype)
    few.tensor_shape.ClearField("dim")
    return _shaped(few, list(array.shape))


def _strings(words: list[bytes], size: int, shape: list[int]):
    proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING)
    proto.string_val.extend((words * size)[: min(size, 50)])
    return _shaped(proto, shape)


def _shaped(proto: tensor_pb2.TensorProto, shape: list[int]) -> tensor_pb2.TensorProto:
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def _fill(draw, proto: tensor_pb2.TensorProto, field: str) -> None:
    values = (0, 1, 5)
    if field == "string_val":
        values = _WORDS
    elif field == "half_val":  # an int32, of which 16 bits count
        values = (0, 15360, -1, 2**31 - 1)
    getattr(proto, field).extend(draw(st.lists(st.sampled_from(values), max_size=9)))


@st.composite
def draw_predict(draw, name: str, signatures) -> predict_pb2.PredictRequest:
    """Draws a Predict request for a model with these signatures."""
    request = predict_pb2.PredictRequest()
    plain = sorted(s for s in signatures if not s.startswith("__"))
    request.model_spec.CopyFrom(draw(draw_model_spec(name, plain)))
    signature = signatures.get(request.model_spec.signature_name)
    infos = dict(signature.inputs) if signature else {}
    for alias, info in sorted(infos.items()):
        dims = [d.size for d in info.tensor_shape.dim]
        if info.tensor_shape.unknown_rank:
            dims = draw(st.lists(st.sampled_from((1, 2, 3, 4)), max_size=5))
        request.inputs[alias].CopyFrom(draw(draw_tensor(info.dtype, dims)))
    odd = draw(st.integers(0, 31))
    if odd == 0:
        request.inputs[draw(st.text(max_size=5))].CopyFrom(draw(draw_tensor(1, [1])))
    elif odd == 1 and request.inputs:
        del request.inputs[draw(st.sampled_from(sorted(request.inputs)))]
    elif odd == 2:
        request.ClearField("model_spec")
    if signature and odd < 12:
        outputs = st.sampled_from([*sorted(signature.outputs), "nope"])
        request.output_filter.extend(draw(st.lists(outputs, max_size=3)))
    return request


@st.composite
def draw_example(draw) -> example_pb2.Example:
    example = example_pb2.Example()
    names = st.sampled_from(("x", "x", "text", "image", "audio", "", "\0"))
    for name in draw(st.lists(names, max_size=3)):
        feature = example.features.feature[name]
        kind = draw(st.integers(-9, 9))
        if kind == -4:
            feature.bytes_list.value.extend(draw(st.lists(st.binary(max_size=9))))
        elif kind == 5:
            feature.int64_list.value.extend(draw(st.lists(st.integers(0, 9))))
        elif kind < 8:
            feature.float_list.value.append(draw(st.sampled_from(_FLOATS)))
    return example


@st.composite
def draw_input(draw):
    data = classification_pb2.ClassificationRequest().input
    kind = draw(st.integers(0, 9))
    listed = draw(st.lists(draw_example(), max_size=4))
    if kind < 7:
        data.example_list.examples.extend(listed)
    elif kind < 9:
        data.example_list_with_context.context.CopyFrom(draw(draw_example()))
        data.example_list_with_context.examples.extend(listed)
    return data


@st.composite
def draw_inference(draw, name: str, signatures):
    """Draws (method, request) of Classify, Regress and MultiInference."""
    method = draw(st.sampled_from(("Classify", "Regress", "MultiInference")))
    request = REQUESTS[method](input=draw(draw_input()))
    known = ["classify", "regress", "classify", "regress", *sorted(signatures)]
    if method == "MultiInference":
        for _ in range(draw(st.integers(0, 3))):
            spec = draw(draw_model_spec(name, known))
            kind = draw(st.sampled_from((*_METHODS, *[spec.signature_name] * 9)))
            task = request.tasks.add(method_name=f"tensorflow/serving/{kind}")
            task.model_spec.CopyFrom(spec)
        return method, request
    right = [method.lower()] * 6
    if draw(st.integers(0, 31)):
        request.model_spec.CopyFrom(draw(draw_model_spec(name, [*right, *known])))
    return method, request


@st.composite
def draw_model_request(draw, name: str, signatures, folder: str):
    """Draws (method, request) of metadata, status and reload.

    Base paths of reloads are under `folder`, or do not exist.
    """
    spec = draw(draw_model_spec(name, sorted(signatures)))
    method = draw(st.sampled_from(("GetModelMetadata", "GetModelStatus", "Reload")))
    if method == "GetModelMetadata":
        fields = st.sampled_from(("signature_def", "signature_def", "x", ""))
        request = REQUESTS[method](
            model_spec=spec, metadata_field=draw(st.lists(fields))
        )
        return method, request
    if method == "GetModelStatus":
        return method, REQUESTS[method](model_spec=spec)
    return "HandleReloadConfigRequest", draw(draw_reload(folder))


@st.composite
def draw_reload(draw, folder: str):
    request = model_management_pb2.ReloadConfigRequest()
    kind = draw(st.integers(0, 15))
    if kind == 0:
        request.config.custom_model_config.type_url = draw(st.text(max_size=9))
        return request
    listed = request.config.model_config_list.config
    paths = (f"{folder}/a", f"{folder}/none", f"{folder}/\0", "rel", "", "nope://x/y")
    for _ in range(draw(st.integers(0, 3))):
        model = listed.add(model_platform="tensorflow")
        model.name = draw(st.sampled_from(("a", "b", "", "a\0", "x" * 3000)))
        model.base_path = draw(st.sampled_from(paths))
        if not draw(st.integers(0, 3)):
            model.model_platform = draw(st.sampled_from(("", "caffe", "tensorflow")))
            model.model_type = draw(st.integers(0, 3))
        policy = model.model_version_policy
        odd = draw(st.integers(0, 5))
        if odd == 0:
            policy.specific.versions.extend(
                draw(st.lists(st.sampled_from(_VERSIONS), max_size=3))
            )
        elif odd == 1:
            policy.latest.num_versions = draw(st.sampled_from((0, 1, 5, 2**31)))
        elif odd == 2:
            model.version_labels["l\0"] = draw(st.sampled_from(_VERSIONS))
    return request
