"""Preprocessing from raw bytes to the inputs of the Keras model, in the graph."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import tensorflow as tf

from mmkeras.config import Config, TextConfig
from mmkeras.modalities.audio import features as audio_features
from mmkeras.modalities.image.decoding import KINDS, decode_image
from mmkeras.modalities.preprocessing_state import PreprocessingState, choose_vocabulary
from mmkeras.modalities.row_safe import decode_rows
from mmkeras.modalities.text import features as text_features
from mmkeras.modalities.text import wordpiece
from mmkeras.modalities.tf_hub import load_hub_audio_encoder, load_hub_encoder
from mmkeras.modalities.vector.decoding import decode_vector
from mmkeras.schema import ABSENT, AUDIO, IMAGE, OK, PRESENT, TEXT, UNREADABLE
from mmkeras.schema import STATUS_SEPARATOR as SEPARATOR

# Limit of standardized inputs, so that one outlier does not decide the prediction.
_MAX_DEVIATIONS = 5.0


class Preprocessor:
    """Preprocessing in the graph, with its token table and hub modules.

    Build one per run and share it, since it caches traced functions.

    `decode` turns the bytes of a row into pixels, mel frames, a vector or the text
    itself; `finish` turns those into the model's input. Training augments between the
    two; serving calls the same two functions.

    Example:
        preprocessor = Preprocessor(config, state)
        inputs, status = preprocessor({"text": tf.constant(["moo"]), "image": images})
    """

    def __init__(self, config: Config, state: PreprocessingState):
        self.config, self.state = config, state
        self.modalities = state.modalities
        self._table = self._hub = self._audio_hub = None
        if TEXT in self.modalities and config.text.has_vocabulary:
            self._table = text_features.token_table(list(state.vocabulary))
            self._longest = wordpiece.longest_piece(state.vocabulary)
            ends, pieces = set(wordpiece.END_PIECES), set(state.vocabulary)
            self._has_ends = bool(config.text.vocab_file) and ends <= pieces
        if TEXT in self.modalities and config.text.encoder == "hub":
            self._hub = load_hub_encoder(config.text.hub_handle)
        if AUDIO in self.modalities and config.audio.encoder == "hub":
            self._audio_hub = load_hub_audio_encoder(config.audio.hub_handle)
        self._decoders = {}

    @property
    def resources(self) -> list:
        """Objects that an export must track: the token table and the hub modules."""
        owners = (self._table, self._hub, self._audio_hub)
        return [owner for owner in owners if owner is not None]

    def is_text(self, modality: str) -> bool:
        """Whether the column is plain text, which needs no decoding."""
        return modality == TEXT and self.config.text.encoder != "vector"

    def decoded_spec(self, modality: str) -> tf.TensorSpec:
        """Returns the spec of a decoded row; None: the number of frames or samples."""
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
        """Returns the spec of a row of the model's input."""
        if modality == IMAGE:
            return self.decoded_spec(IMAGE)
        width, audio = self.state.widths[modality], self.config.audio
        if modality == AUDIO and audio.is_sequence:
            return tf.TensorSpec([audio.max_frames, width], tf.float32)
        return tf.TensorSpec([width], tf.float32)

    def decode(
        self, modality: str, data: tf.Tensor, kinds: tuple[str, ...] = KINDS
    ) -> tf.Tensor:
        """Decodes one row that is not absent: () string -> `decoded_spec(modality)`.

        `kinds` are the image formats that can occur; see `decode_image`.

        Raises:
            tf.errors.InvalidArgumentError: The row is broken.
        """
        key, spec = (modality, kinds), [tf.TensorSpec([], tf.string)]
        if key not in self._decoders:
            decode = partial(self._decode, modality, kinds)
            self._decoders[key] = tf.function(decode, spec, autograph=False)
        return self._decoders[key](data)

    def _decode(self, modality, kinds, data):
        if modality == IMAGE:
            return decode_image(data, self.config.image, kinds)
        if modality == AUDIO and self.config.audio.encoder != "vector":
            wave = audio_features.decode_wave(data, self.config.audio)
            is_hub = self.config.audio.encoder == "hub"
            return wave if is_hub else audio_features.log_mel(wave, self.config.audio)
        if self.is_text(modality):
            return data
        return decode_vector(data, self.state.widths[modality])

    def finish(self, modality: str, decoded: tf.Tensor) -> tf.Tensor:
        """Turns one decoded image, wave or vector into its `input_spec`.

        Without a scale (yet), numbers are not standardized and frames not padded.
        """
        if modality == IMAGE:
            return decoded
        audio = self.config.audio
        if modality == AUDIO and audio.encoder == "hub":
            decoded = self._audio_hub(decoded)
        elif modality == AUDIO and audio.is_sequence:
            decoded = audio_features.frame_features(decoded, audio)
        elif modality == AUDIO and audio.encoder != "vector":
            decoded = audio_features.audio_vector(decoded, audio)
        scale = self.state.scales.get(modality)
        if scale is None:
            return decoded
        z = (decoded - tf.constant(scale.mean)) / tf.constant(scale.deviation)
        z = tf.clip_by_value(z, -_MAX_DEVIATIONS, _MAX_DEVIATIONS)
        is_sequence = modality == AUDIO and audio.is_sequence
        return audio_features.pad_frames(z, audio) if is_sequence else z

    def tokens(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Splits texts into tokens: (B,) strings -> (B, L) ragged strings."""
        text = self.config.text
        tokens = text_features.tokenize(texts, text)
        if text.tokens != "wordpiece":
            return tokens
        # Each word has at least one piece, so later words would be cut off anyway.
        words = tokens[:, : text.max_tokens]
        return wordpiece.split_words(words, self._table, self._longest)

    def text_input(
        self, texts: tf.Tensor, tokens: tf.RaggedTensor | None = None
    ) -> tf.Tensor:
        """Turns (B,) texts, or their tokens, into the (B, ...) input of the model."""
        text = self.config.text
        if self._hub is not None:
            width = self.state.widths[TEXT]
            return tf.ensure_shape(self._hub(texts), [None, width])
        tokens = self.tokens(texts) if tokens is None else tokens
        if text.is_sequence:
            if self._has_ends:
                tokens = _with_ends(tokens, text.max_tokens)
            return text_features.tokens_to_ids(tokens, self._table, text.max_tokens)
        idf = tf.constant(self.state.idf, tf.float32)
        return text_features.tfidf(tokens, self._table, idf)

    def __call__(
        self, data: dict[str, tf.Tensor]
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Preprocesses (B,) strings by modality; a broken or empty one is absent.

        Returns:
            The model's inputs, (B, ...) by modality and (B, M) float32 under
            "present", and (B,) string: "ok", or the absent or unreadable modalities.
        """
        inputs, present, problems = {}, [], []
        for modality in self.modalities:
            inputs[modality], ok, exists = self._prepare(modality, data[modality])
            present.append(tf.cast(ok, tf.float32))
            unreadable, absent = (f"{modality} {word}" for word in (UNREADABLE, ABSENT))
            reason = tf.where(exists, unreadable, absent)
            problem = tf.strings.join([SEPARATOR, reason])
            problems.append(tf.where(ok, "", problem))
        inputs[PRESENT] = tf.stack(present, axis=1)  # (B, M)
        status = tf.strings.join(problems)
        status = tf.strings.regex_replace(status, f"^{SEPARATOR}", "")
        return inputs, tf.where(status == "", OK, status)

    def _prepare(self, modality, data):
        """Returns the input, and (B,) bool: whether a row is valid, and not absent."""
        if self.is_text(modality):
            exists = tf.strings.strip(data) != ""
            ok = exists & text_features.is_utf8(data)
            return self.text_input(tf.where(ok, data, "")), ok, exists

        def row(encoded):
            return self.finish(modality, self.decode(modality, encoded))

        values, ok = decode_rows(row, data, self.input_spec(modality))
        return values, ok, data != ""


def _with_ends(tokens, length):
    """Adds [CLS] and [SEP]; the result has at most `length` tokens."""
    rows = tokens.nrows()
    first, last = (tf.fill([rows, 1], piece) for piece in wordpiece.END_PIECES)
    return tf.concat([first, tokens[:, : max(0, length - 2)], last], axis=1)


def is_scaled(modality: str, config: Config) -> bool:
    """Whether a modality is standardized by the scale of the training rows.

    Audio features and precomputed vectors are; embeddings of a hub module are not.
    """
    if modality == AUDIO:
        return config.audio.encoder != "hub"
    return modality == TEXT and config.text.encoder == "vector"


def with_vocabulary(
    state: PreprocessingState, counts: Mapping[bytes, int], total: int, text: TextConfig
) -> PreprocessingState:
    """Returns the state with a vocabulary of tokens or pieces, and their idf.

    `counts` is token or word -> number of training rows that contain it, of `total`.

    Raises:
        UserError: The vocabulary file cannot be used.
    """
    if text.tokens != "wordpiece":
        limits = (text.vocab_size, text.min_rows)
        vocabulary, idf = choose_vocabulary(counts, total, *limits)
        return replace(state, vocabulary=vocabulary, idf=idf)
    if text.vocab_file:
        pieces = wordpiece.read_pieces(text.vocab_file)
    else:
        pieces = wordpiece.learn_pieces(counts, text.vocab_size, text.min_rows)
    return replace(state, vocabulary=pieces, idf=(1.0,) * len(pieces))


def with_widths(state: PreprocessingState, config: Config) -> PreprocessingState:
    """Returns the state with the input widths of its encoders.

    The width of a vector, the number of tokens of a text, or the width of an audio
    frame; those of precomputed vectors are in the state already.

    Raises:
        UserError: A hub module cannot be loaded.
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
    if audio.is_sequence:
        return audio_features.frame_width(audio)
    return audio_features.stats_width(audio)
