"""The one preprocessing: raw bytes of a batch -> inputs of the Keras model."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import tensorflow as tf

from mmkeras.config import Config, TextConfig
from mmkeras.modalities.audio.features import (
    audio_vector,
    decode_wave,
    frame_features,
    frame_width,
    log_mel,
    pad_frames,
    stats_width,
)
from mmkeras.modalities.image.decoding import KINDS, decode_image
from mmkeras.modalities.preprocessing_state import PreprocessingState, choose_vocabulary
from mmkeras.modalities.row_safe import decode_rows
from mmkeras.modalities.text.features import (
    is_utf8,
    tfidf,
    token_table,
    tokenize,
    tokens_to_ids,
)
from mmkeras.modalities.text.wordpiece import (
    FIRST_PIECE,
    LAST_PIECE,
    learn_pieces,
    longest_piece,
    read_pieces,
    split_words,
)
from mmkeras.modalities.tf_hub import load_hub_audio_encoder, load_hub_encoder
from mmkeras.modalities.vector.decoding import decode_vector
from mmkeras.schema import (
    ABSENT,
    AUDIO,
    IMAGE,
    OK,
    PRESENT,
    STATUS_SEPARATOR,
    TEXT,
    UNREADABLE,
)

# One number far outside what training has seen must not decide the answer.
_MOST_DEVIATIONS = 5.0


class Preprocessor:
    """Owns what preprocessing needs in the graph: settings, token table, hub modules.

    One is built for a run and shared: what it traces, it traces once.

    A row goes bytes -> `decode` -> a decoded row (pixels, mel frames, numbers or the
    text itself) -> `finish` -> the model's input. Augmentation stands between the
    two, in training only; serving goes through the same two functions.
    """

    def __init__(self, config: Config, state: PreprocessingState):
        self.config, self.state = config, state
        self.modalities = state.modalities
        self._table = self._hub = self._audio_hub = None
        if TEXT in self.modalities and config.text.has_vocabulary:
            self._table = token_table(list(state.vocabulary))
            self._longest = longest_piece(state.vocabulary)
            ends = {FIRST_PIECE, LAST_PIECE}
            self._has_ends = bool(config.text.vocab_file) and ends <= {
                *state.vocabulary
            }
        if TEXT in self.modalities and config.text.encoder == "hub":
            self._hub = load_hub_encoder(config.text.hub_handle)
        if AUDIO in self.modalities and config.audio.encoder == "hub":
            self._audio_hub = load_hub_audio_encoder(config.audio.hub_handle)
        self._decoders = {}

    @property
    def resources(self) -> list:
        """What an export must track: the token table, the hub modules."""
        owners = (self._table, self._hub, self._audio_hub)
        return [owner for owner in owners if owner is not None]

    def is_text(self, modality: str) -> bool:
        """Whether the column holds text itself, which needs no decoding."""
        return modality == TEXT and self.config.text.encoder != "vector"

    def decoded_spec(self, modality: str) -> tf.TensorSpec:
        """Shape and dtype of one decoded row; None is how many frames, or samples."""
        config = self.config
        if modality == IMAGE:
            return tf.TensorSpec([config.image.size_px] * 2 + [3], tf.uint8)
        if modality == AUDIO and config.audio.encoder == "hub":
            return tf.TensorSpec([None], tf.float32)
        if modality == AUDIO and config.audio.encoder != "vector":
            return tf.TensorSpec([None, config.audio.bands], tf.float32)
        if self.is_text(modality):
            return tf.TensorSpec([], tf.string)
        return tf.TensorSpec([self.state.widths[modality]], tf.float32)

    def input_spec(self, modality: str) -> tf.TensorSpec:
        """Shape and dtype of one row of the model's input."""
        if modality == IMAGE:
            return self.decoded_spec(IMAGE)
        width, audio = self.state.widths[modality], self.config.audio
        if modality == AUDIO and audio.is_sequence:
            return tf.TensorSpec([audio.max_frames, width], tf.float32)
        return tf.TensorSpec([width], tf.float32)

    def decode(
        self, modality: str, data: tf.Tensor, kinds: tuple[str, ...] = KINDS
    ) -> tf.Tensor:
        """Decodes one row that is there: () string -> `decoded_spec(modality)`.

        `kinds` are those of pictures that can occur, as `decode_image` takes them.

        Raises:
            tf.errors.InvalidArgumentError: The row is broken.
        """
        if (modality, kinds) not in self._decoders:
            self._decoders[modality, kinds] = tf.function(
                partial(self._decode, modality, kinds),
                [tf.TensorSpec([], tf.string)],
                autograph=False,
            )
        return self._decoders[modality, kinds](data)

    def _decode(self, modality, kinds, data):
        if modality == IMAGE:
            return decode_image(data, self.config.image, kinds)
        if modality == AUDIO and self.config.audio.encoder != "vector":
            wave = decode_wave(data, self.config.audio)
            is_hub = self.config.audio.encoder == "hub"
            return wave if is_hub else log_mel(wave, self.config.audio)
        if self.is_text(modality):
            return data
        return decode_vector(data, self.state.widths[modality])

    def finish(self, modality: str, decoded: tf.Tensor) -> tf.Tensor:
        """Turns one decoded picture, sound or vector into its `input_spec`.

        Where there is no scale (yet), the numbers stay as they are, and frames are not
        filled up.
        """
        if modality == IMAGE:
            return decoded
        audio = self.config.audio
        if modality == AUDIO and audio.encoder != "vector":
            decoded = self._audio_features(decoded)
        scale = self.state.scales.get(modality)
        if scale is None:
            return decoded
        z = (decoded - tf.constant(scale.mean)) / tf.constant(scale.deviation)
        z = tf.clip_by_value(z, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)
        return pad_frames(z, audio) if modality == AUDIO and audio.is_sequence else z

    def _audio_features(self, decoded):
        audio = self.config.audio
        if audio.encoder == "hub":
            return self._audio_hub(decoded)
        if audio.is_sequence:
            return frame_features(decoded, audio)
        return audio_vector(decoded, audio)

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts: (B,) strings -> (B, L) ragged strings."""
        text = self.config.text
        tokens = tokenize(texts, text)
        if text.tokens != "wordpiece":
            return tokens
        # Each word has a piece at least, so that what is cut off is never used.
        return split_words(tokens[:, : text.max_tokens], self._table, self._longest)

    def text_input(
        self, texts: tf.Tensor, tokens: tf.RaggedTensor | None = None
    ) -> tf.Tensor:
        """Turns (B,) texts, or their tokens, into the model's input.

        (B, widths["text"]) float32, or for encoders of sequences (B, max_tokens) int32.
        """
        text = self.config.text
        if self._hub is not None:
            width = self.state.widths[TEXT]
            return tf.ensure_shape(self._hub(texts), [None, width])
        tokens = self.tokens(texts) if tokens is None else tokens
        if text.is_sequence:
            if self._has_ends:
                tokens = _with_ends(tokens, text.max_tokens)
            return tokens_to_ids(tokens, self._table, text.max_tokens)
        idf = tf.constant(self.state.idf, tf.float32)
        return tfidf(tokens, self._table, idf)

    def __call__(
        self, data: dict[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Preprocesses a batch of raw bytes; a broken row counts as absent.

        Args:
            data: (B,) strings by modality; an empty string is an absent one.

        Returns:
            The model's inputs, (B, ...) by modality and (B, M) float32 under
            "present", and (B,) string: "ok", or what was absent or unreadable.
        """
        inputs, present, remarks = {}, [], []
        for modality in self.modalities:
            inputs[modality], ok, there = self._modality(modality, data[modality])
            present.append(tf.cast(ok, tf.float32))
            why = tf.where(there, f"{modality} {UNREADABLE}", f"{modality} {ABSENT}")
            remarks.append(tf.where(ok, "", tf.strings.join([STATUS_SEPARATOR, why])))
        inputs[PRESENT] = tf.stack(present, axis=1)  # (B, M)
        said = tf.strings.join(remarks)
        said = tf.strings.regex_replace(said, f"^{STATUS_SEPARATOR}", "")
        return inputs, tf.where(said == "", OK, said)

    def _modality(self, modality, data):
        """(B,) strings -> the input, which rows are good, which were there at all."""
        if self.is_text(modality):
            there = tf.strings.strip(data) != ""
            ok = there & is_utf8(data)
            return self.text_input(tf.where(ok, data, "")), ok, there

        def row(encoded):
            return self.finish(modality, self.decode(modality, encoded))

        values, ok = decode_rows(row, data, self.input_spec(modality))
        return values, ok, data != ""


def _with_ends(tokens, length):
    """Puts BERT's signs around each text, within `length` tokens."""
    rows = tokens.nrows()
    first, last = (tf.fill([rows, 1], end) for end in (FIRST_PIECE, LAST_PIECE))
    return tf.concat([first, tokens[:, : max(0, length - 2)], last], axis=1)


def is_scaled(modality: str, config: Config) -> bool:
    """Whether a modality's numbers are standardised by the training rows' scale.

    Sounds and precomputed vectors are; what a hub module gives stays as it is.
    """
    if modality == AUDIO:
        return config.audio.encoder != "hub"
    return modality == TEXT and config.text.encoder == "vector"


def with_vocabulary(
    state: PreprocessingState,
    counts: Mapping[bytes, int],
    total: int,
    text: TextConfig,
) -> PreprocessingState:
    """Returns the analysis with the tokens or pieces to keep, and their weights.

    `counts` is token or word -> training rows that it is in, of `total` rows.

    Raises:
        UserError: The file of the vocabulary cannot be used.
    """
    if text.tokens != "wordpiece":
        chosen = choose_vocabulary(counts, total, text.vocab_size, text.min_rows)
        return replace(state, vocabulary=chosen[0], idf=chosen[1])
    if text.vocab_file:
        pieces = read_pieces(text.vocab_file)
    else:
        pieces = learn_pieces(counts, text.vocab_size, text.min_rows)
    return replace(state, vocabulary=pieces, idf=(1.0,) * len(pieces))


def with_widths(state: PreprocessingState, config: Config) -> PreprocessingState:
    """Returns the analysis with the widths that its encoders ask for.

    Numbers in a vector, tokens of a text, or numbers in a frame of a sound;
    precomputed vectors have theirs already.

    Raises:
        UserError: A hub module cannot be had.
    """
    widths = dict(state.widths)
    if TEXT in state.modalities and config.text.encoder != "vector":
        widths[TEXT] = _text_width(config.text, state)
    if AUDIO in state.modalities and config.audio.encoder != "vector":
        widths[AUDIO] = _audio_width(config.audio)
    return replace(state, widths=widths)


def _text_width(text, state):
    if text.encoder == "hub":
        return load_hub_encoder(text.hub_handle)(tf.constant([""])).shape[1]
    return text.max_tokens if text.is_sequence else len(state.vocabulary)


def _audio_width(audio):
    if audio.encoder == "hub":
        silence = tf.zeros([audio.rate_hz])
        return load_hub_audio_encoder(audio.hub_handle)(silence).shape[0]
    return frame_width(audio) if audio.is_sequence else stats_width(audio)
