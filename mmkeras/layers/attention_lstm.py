"""LSTM that attends to a memory before each step."""

import keras
from keras import layers, ops

from mmkeras.layers.replica_dropout import Dropout


@keras.saving.register_keras_serializable(package="mmkeras")
class AttentionLSTM(layers.Layer):
    """LSTM whose steps read a token and the part of the memory that they attend to.

    Shapes: (B, L, E) tokens, (B, K, D) memory, (B, K) bool mask of the memory and
    (B, S) summary, to (B, L, units + D), each step's state h_t and context z_t, and the
    attention (B, L, K). Its weights of a step sum to 1 over the unmasked memory; a row
    without any has zeros, and zeros as context. Masked memory has no effect, not even
    a NaN.

    The weights are softmax(w·tanh(W_m m_k + W_h h_(t-1) + b)) and the context is the
    weighted sum of the memory times sigmoid(f·h_(t-1) + g). h_0 and c_0 are
    tanh(W_0 s + b_0) of the summary s. Dropout applies to tokens and states.

    Source: Xu et al., 2015, https://arxiv.org/abs/1502.03044, sections 3.1.2, 4.2 and
    4.2.1 without the doubly stochastic penalty; there the mean memory is the summary,
    and two networks start h and c. The forget gate's bias starts at 1 (Jozefowicz et
    al., 2015, https://proceedings.mlr.press/v37/jozefowicz15.html).
    """

    def __init__(self, units: int, dropout: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.dropout = units, dropout
        policy = self.dtype_policy
        self.token_dropout = Dropout(dropout, name="token_dropout", dtype=policy)
        self.state_dropout = Dropout(dropout, name="state_dropout", dtype=policy)

    def build(self, tokens_shape, memory_shape, valid_shape, summary_shape):
        units, width, depth = self.units, tokens_shape[-1], memory_shape[-1]
        glorot, zeros = "glorot_uniform", "zeros"
        for name, shape, start in (
            ("start", (summary_shape[-1], 2 * units), glorot),  # h, c
            ("start_bias", (2 * units,), zeros),
            ("attend_memory", (depth, units), glorot),
            ("attend_state", (units, units), glorot),
            ("attend_bias", (units,), zeros),
            ("score", (units, 1), glorot),
            ("gate", (units, 1), glorot),
            ("gate_bias", (1,), zeros),
            ("kernel", (width, 4 * units), glorot),  # input, forget, cell, output
            ("context_kernel", (depth, 4 * units), glorot),
            ("recurrent_kernel", (units, 4 * units), "orthogonal"),
            ("bias", (4 * units,), _start_bias),
        ):
            weight = self.add_weight(name=name, shape=shape, initializer=start)
            setattr(self, f"{name}_weight", weight)

    def call(self, tokens, memory, valid, summary, training=False):
        memory = ops.where(valid[..., None], memory, ops.zeros_like(memory))
        mask = ops.cast(valid, memory.dtype)  # (B, K)
        keys = ops.matmul(memory, self.attend_memory_weight) + self.attend_bias_weight
        tokens = self.token_dropout(tokens, training=training)
        steps = ops.matmul(tokens, self.kernel_weight) + self.bias_weight
        steps = ops.transpose(steps, (1, 0, 2))  # (L, B, 4 units)

        def step(state, inputs):
            state = self._step(state, inputs, memory, keys, mask)
            return state, state

        # One tensor: Keras' scan gives the outputs the shape of the state.
        _, states = ops.scan(step, self._start(summary, memory, mask), steps)
        states = ops.transpose(states, (1, 0, 2))
        h, context, attention = self._split(states, memory)
        h = self.state_dropout(h, training=training)
        return ops.concatenate([h, context], axis=-1), attention

    def _start(self, summary, memory, mask):
        """Returns h, c, and zeros as context and attention: (B, 2 units + D + K)."""
        start = ops.matmul(summary, self.start_weight) + self.start_bias_weight
        zeros = [ops.zeros_like(memory[:, 0]), ops.zeros_like(mask)]
        return ops.concatenate([ops.tanh(start), *zeros], axis=-1)

    def _split(self, states, memory):
        """Returns h, context and attention of states (..., 2 units + D + K)."""
        end, depth = 2 * self.units, memory.shape[-1]
        context = states[..., end : end + depth]
        return states[..., : self.units], context, states[..., end + depth :]

    def _step(self, state, inputs, memory, keys, mask):
        units = self.units
        h, c = state[:, :units], state[:, units : 2 * units]
        hidden = keys + ops.matmul(h, self.attend_state_weight)[:, None]  # (B, K, U)
        score = ops.matmul(ops.tanh(hidden), self.score_weight)[..., 0]
        attention = ops.softmax(score - 3e4 * (1 - mask), axis=-1) * mask  # (B, K)
        context = ops.sum(attention[..., None] * memory, axis=1)  # (B, D)
        gate = ops.matmul(h, self.gate_weight) + self.gate_bias_weight
        context = context * ops.sigmoid(gate)
        inputs = inputs + ops.matmul(context, self.context_kernel_weight)
        inputs = inputs + ops.matmul(h, self.recurrent_kernel_weight)
        write, keep, cell, read = ops.split(inputs, 4, axis=-1)
        c = ops.sigmoid(keep) * c + ops.sigmoid(write) * ops.tanh(cell)
        h = ops.sigmoid(read) * ops.tanh(c)
        return ops.concatenate([h, c, context, attention], axis=-1)

    def compute_output_spec(self, tokens, memory, valid, summary, training=False):
        rows, length, _ = tokens.shape
        width = self.units + memory.shape[-1]
        outputs = keras.KerasTensor((rows, length, width), self.compute_dtype)
        shape = (rows, length, memory.shape[1])
        return outputs, keras.KerasTensor(shape, self.compute_dtype)

    def compute_mask(self, inputs, previous_mask):
        return None

    def get_config(self):
        config = {"units": self.units, "dropout": self.dropout}
        return {**super().get_config(), **config}


def _start_bias(shape, dtype=None):
    """Returns ones for the forget gate and zeros for the others."""
    units = shape[0] // 4
    ones, zeros = ops.ones((units,), dtype), ops.zeros((units,), dtype)
    return ops.concatenate([zeros, ones, zeros, zeros])
