"""Layer that runs a frozen TensorFlow SavedModel, whose files it saves with itself."""

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from keras import layers, ops

from mmkeras.errors import UserError, one_line
from mmkeras.path_patterns import has_pattern

SAVED_MODEL_FILE, _DEFAULT = "saved_model.pb", "serving_default"
_BLOCK_BYTES = 1 << 20


@keras.saving.register_keras_serializable(package="mmkeras")
class SavedModelLayer(layers.Layer):
    """Frozen encoder of a SavedModel of TensorFlow: (B, ...) to (B, *row_shape).

    A `.keras` file contains the files of the folder, which is then no longer needed.
    `tf.saved_model.save` must track `loaded`. Only the TensorFlow backend runs it.

    Args:
        folder: Folder with a saved_model.pb; None if a .keras file supplies it.
        signature: Name of a signature. "" is the call of the module itself; without a
            call, or with `input_name`, it is "serving_default" or the only signature.
        input_name: Name of the input of a signature; "" is the only one.
        output_name: Name of the output, or its index in a tuple. "" is the only one,
            or one of `default_outputs`.
        row_shape: Shape of a row of the output; None is found by running two rows.

    Attributes:
        loaded: Result of `tf.saved_model.load`; None until a .keras file is read.
        digest: (32,) uint8 weight, the SHA-256 of the files, so that `get_weights`
            differs where they do. The variables of the SavedModel are no weights.

    Raises:
        UserError: The folder has no such SavedModel, signature, input or output.

    Example:
        vectors = SavedModelLayer("folder", output_name="embedding")(pixels)
    """

    # Of several outputs the first of these is taken.
    default_outputs: ClassVar[tuple[str, ...]] = ("embeddings", "embedding")

    def __init__(
        self,
        folder: str | Path | None = None,
        signature: str = "",
        input_name: str = "",
        output_name: str = "",
        row_shape: tuple[int, ...] | None = None,
        **kwargs,
    ):
        super().__init__(**{"trainable": False, "autocast": False, **kwargs})
        self.supports_jit = False  # the SavedModel may have operations without XLA
        self.signature = signature
        self.input_name, self.output_name = input_name, output_name
        self.row_shape = None if row_shape is None else tuple(row_shape)
        self.loaded, self._folder = None, None
        self.digest = self.add_weight(
            name="digest",
            shape=(32,),
            dtype="uint8",
            initializer="zeros",
            trainable=False,
        )
        if folder is not None:
            # Of a path like a pattern TensorFlow would not find the variables.
            load = self.load_assets if has_pattern(folder) else self._load
            load(folder)
            self.digest.assign(_hash_files(self._folder))

    def _load(self, folder):
        import tensorflow as tf

        self._folder = folder = Path(folder)
        check_saved_model("folder", folder)
        try:
            self.loaded = tf.saved_model.load(str(folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            reason = one_line(error, 200)
            text = f"The SavedModel in '{folder}' cannot be loaded ({reason})."
            raise UserError(text) from error
        self._function = self._find_function()
        self._specs = _input_specs(self._function)
        if self.input_name not in (*self._specs, ""):
            raise self._refuse("input", self.input_name, self._specs)
        if not (self.input_name or self._is_call or len(self._specs) == 1):
            raise self._refuse("input", "", self._specs)

    def _find_function(self):
        signatures = self.loaded.signatures
        has_name = self.signature or self.input_name
        self._is_call = not has_name and _has_call(self.loaded)
        if self._is_call:
            return self.loaded.__call__
        name = self.signature or _DEFAULT
        if not self.signature and len(signatures) == 1:
            (name,) = signatures
        if name not in signatures:
            raise self._refuse("signature", name, signatures)
        return signatures[name]

    def _refuse(self, kind, name, names):
        start = f"has no {kind} '{name}'" if name else f"has no single {kind}"
        quoted = ", ".join(f"'{x}'" for x in sorted(names))
        remedy = "it has none"
        if quoted:
            remedy = f"it has {quoted}: name one of them, or export a model of one"
        return UserError(f"The SavedModel in '{self._folder}' {start}; {remedy}.")

    @property
    def input_rank(self) -> int | None:
        """Rank of the input, with any batch; None if any rank is possible."""
        return None if (spec := self._spec_of_input) is None else spec.shape.rank

    @property
    def _spec_of_input(self):
        if self.input_name:
            return self._specs[self.input_name]
        return next(iter(self._specs.values()), None)

    def build(self, shape):
        if self.row_shape is None:
            result = self._try_encode(np.zeros((2, *shape[1:]), "float32"))
            if not result.shape.rank or result.shape[0] != 2:
                raise UserError(
                    f"The SavedModel in '{self._folder}' gives {tuple(result.shape)} "
                    "for two rows; its output must have one row for each of its input."
                )
            self.row_shape = tuple(result.shape[1:])

    def _try_encode(self, x):
        import tensorflow as tf

        try:
            return self.encode(x)
        except UserError:
            raise
        except (ValueError, TypeError, tf.errors.OpError) as error:
            raise UserError(
                f"The SavedModel in '{self._folder}' does not take an input of shape "
                f"{tuple(x.shape)} ({one_line(error, 200)})."
            ) from error

    def encode(self, x: Any):
        """Returns the output for a batch; a subclass may call `run` otherwise."""
        return self.run(x)

    def run(self, x: Any):
        """Returns the output for an input, which is cast to the dtype that it needs."""
        if self.loaded is None:
            raise ValueError(f"{self.name} has no SavedModel: no .keras file was read.")
        spec = self._spec_of_input
        x = ops.cast(x, "float32" if spec is None else spec.dtype.name)
        if self._is_call:
            return self._select(self._function(x))
        name = self.input_name or next(iter(self._specs))
        return self._select(self._function(**{name: x}))

    def _select(self, result):
        if isinstance(result, Mapping):
            outputs = dict(result)
        else:
            parts = result if isinstance(result, list | tuple) else [result]
            outputs = {str(i): part for i, part in enumerate(parts)}
        names = [self.output_name] if self.output_name else list(outputs)
        if len(names) > 1:
            names = self.default_outputs
        for name in names:
            if name in outputs:
                return outputs[name]
        raise self._refuse("output", self.output_name, outputs)

    def call(self, x):
        import tensorflow as tf

        result = tf.ensure_shape(self.encode(x), (None, *self.row_shape))
        return ops.cast(result, self.compute_dtype)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], *self.row_shape), self.compute_dtype)

    def save_assets(self, folder: str) -> None:
        """Copies the files of the SavedModel; Keras calls it."""
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)

    def load_assets(self, folder: str) -> None:
        """Loads a copy of the files, since those of Keras are temporary."""
        copy = tempfile.mkdtemp(prefix="mmkeras-")
        weakref.finalize(self, shutil.rmtree, copy, ignore_errors=True)
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        self._load(copy)

    def get_config(self):
        names = ("signature", "input_name", "output_name", "row_shape")
        return {**super().get_config(), **{n: getattr(self, n) for n in names}}


def check_saved_model(name: str, folder: str | Path) -> None:
    """Checks that a folder, the value of the setting `name`, has a SavedModel.

    Raises:
        UserError: It has none.
    """
    if not Path(folder, SAVED_MODEL_FILE).is_file():
        raise UserError(
            f"{name}='{folder}' is no folder of a SavedModel; give one that has a "
            f"{SAVED_MODEL_FILE}."
        )


def saved_models(model: keras.Model) -> Iterator[Any]:
    """Yields the `loaded` of each SavedModelLayer in a model, at any depth."""
    for layer in model.layers:
        if isinstance(layer, SavedModelLayer):
            yield layer.loaded
        elif isinstance(layer, keras.Model):
            yield from saved_models(layer)


def _has_call(loaded) -> bool:
    """Whether a SavedModel has a call, which was traced before it was saved."""
    call = loaded.__call__ if callable(loaded) else None
    return bool(getattr(call, "concrete_functions", call))


def _input_specs(function) -> dict[str, Any]:
    """Returns name -> spec of a signature's inputs, or of those of the first call."""
    import tensorflow as tf

    functions = getattr(function, "concrete_functions", [function])
    args, kwargs = functions[0].structured_input_signature
    specs = {str(i): spec for i, spec in enumerate(tf.nest.flatten(args))} | kwargs
    return {n: spec for n, spec in specs.items() if isinstance(spec, tf.TensorSpec)}


def _hash_files(folder) -> np.ndarray:
    """Returns the SHA-256 of the names and contents of all files, (32,) uint8."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        total.update(path.relative_to(folder).as_posix().encode() + b"\0")
        total.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                total.update(block)
    return np.frombuffer(total.digest(), "uint8")
