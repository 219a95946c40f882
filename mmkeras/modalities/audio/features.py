"""Audio preprocessing in the graph: decodes WAV, resamples, computes mel features."""

import tensorflow as tf

from mmkeras.config import AudioConfig
from mmkeras.modalities.audio import wav as wav_file
from mmkeras.modalities.byte_ops import bytes_at, numbers_at, require

_FLOOR = 1e-3  # silence is log(1e-3), about -6.9


def decode_wave(data: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Decodes a WAV file of any rate to a mono wave.

    Args:
        data: () string: RIFF/WAVE with PCM of 8, 16, 24 or 32 bits, IEEE floats of
            32 or 64, mu-law or A-law, plain or extensible, of 1 to 64 channels.

    Returns:
        (S,) float32 in about [-1, 1], the mean of the channels at
        `config.rate_hz`; 1 <= S <= `config.max_samples`.

    Raises:
        tf.errors.InvalidArgumentError: Not such a file, truncated, or without samples;
            `read_audio` refuses the same files.

    Source: "Multimedia Programming Interface and Data Specifications 1.0",
    IBM and Microsoft, 1991, and WAVEFORMATEXTENSIBLE, Microsoft.
    """
    is_wave = (bytes_at(data, 0, 4) == b"RIFF") & (bytes_at(data, 8, 4) == b"WAVE")
    with require(is_wave, "not a WAV file"):
        fmt_offset, fmt_bytes = _find_chunk(data, b"fmt ")
        data_offset, announced = _find_chunk(data, b"data")
    code, channels, rate_hz, block, bits = _read_format(data, fmt_offset, fmt_bytes)
    data_bytes = _data_bytes(data, data_offset, announced)
    clip = tf.cast(rate_hz, tf.float32) * config.clip_s
    clip_frames = tf.cast(tf.math.ceil(clip), tf.int32)
    frames = tf.minimum(data_bytes // block, clip_frames)
    raw = bytes_at(data, data_offset, frames * block)
    samples = _to_float(raw, code, bits)
    wave = tf.reduce_mean(tf.reshape(samples, [-1, channels]), axis=1)  # (S,)
    wave = resample(wave, rate_hz, config.rate_hz)[: config.max_samples]
    is_valid = (tf.size(wave) > 0) & tf.reduce_all(tf.math.is_finite(wave))
    with require(is_valid, "no samples, or samples that are not numbers"):
        return tf.identity(wave)


def _find_chunk(data, name):
    """Returns the offset of the chunk's content, and the bytes that it announces."""
    end = tf.strings.length(data)

    def read_size(offset):
        (size,) = numbers_at(data, offset - 4, 1, tf.int32)
        return size  # up to 2^32

    def is_other(offset):
        return (offset <= end) & (bytes_at(data, offset - 8, 4) != name)

    def skip(offset):
        size = tf.minimum(read_size(offset), tf.cast(end, tf.int64))
        size += size % 2  # padded to an even length
        return (offset + tf.cast(size, tf.int32) + 8,)

    (offset,) = tf.while_loop(is_other, skip, (tf.constant(20),))
    with require(offset <= end, f"no chunk {name.decode()}"):
        return offset, read_size(offset)


def _data_bytes(data, offset, announced):
    """Returns the bytes of audio that there are; see `wav.is_open` and `wav.is_cut`."""
    file_bytes = tf.cast(tf.strings.length(data), tf.int64)
    rest = file_bytes - tf.cast(offset, tf.int64)
    next_name = bytes_at(data, offset, 4)
    is_empty = tf.strings.regex_full_match(next_name, wav_file.CHUNK_NAME)
    is_open = (announced >= wav_file.STREAMED) | ((announced == 0) & ~is_empty)
    counts_header = (announced == file_bytes) | (announced == file_bytes - 8)
    is_whole = (announced - rest <= wav_file.HEADER_BYTES) | counts_header
    with require(is_open | is_whole, "truncated WAV"):
        size = tf.where(is_open, rest, tf.minimum(announced, rest))
    return tf.cast(size, tf.int32)


def _read_format(data, offset, size):
    code, channels = numbers_at(data, offset, 2, tf.int16)
    (rate_hz,) = numbers_at(data, offset + 4, 1, tf.int32)
    block, bits = numbers_at(data, offset + 12, 2, tf.int16)
    is_extended = (code == wav_file.EXTENSIBLE) & (size >= 40)
    is_extended &= bytes_at(data, offset + 26, 14) == wav_file.GUID_TAIL
    code = tf.cond(
        is_extended,
        lambda: numbers_at(data, offset + 24, 1, tf.int16)[0],
        lambda: code,
    )
    is_valid = (channels > 0) & (channels <= wav_file.MAX_CHANNELS)
    is_valid &= rate_hz >= wav_file.MIN_RATE_HZ
    is_valid &= (rate_hz <= wav_file.MAX_RATE_HZ) & (size >= 16)
    is_valid &= (bits != 24) | (block != 4 * channels)  # `WavFormat.is_ambiguous`
    with require(is_valid, "a format with unsupported channels, rate or block size"):
        block = channels * bits // 8
    return [tf.cast(n, tf.int32) for n in (code, channels, rate_hz, block, bits)]


def _to_float(raw, code, bits):
    """Returns interleaved samples, scaled to [-1, 1]."""

    def pcm(dtype, full_scale):
        return lambda: tf.cast(tf.io.decode_raw(raw, dtype), tf.float32) / full_scale

    def pcm_8():
        return (tf.cast(tf.io.decode_raw(raw, tf.uint8), tf.float32) - 128) / 128

    def pcm_24():
        octets = tf.reshape(tf.io.decode_raw(raw, tf.uint8), [-1, 3])
        low, middle, high = tf.unstack(tf.cast(octets, tf.int32), axis=1)
        value = low + 256 * middle + 65536 * high
        value -= tf.where(high >= 128, 1 << 24, 0)
        return tf.cast(value, tf.float32) / (1 << 23)

    def law(code):
        def read():
            octets = tf.cast(tf.io.decode_raw(raw, tf.uint8), tf.int32)
            return tf.gather(wav_file.law_samples(code), octets)

        return read

    readers = {  # by format code and bits; the usual one first
        (wav_file.PCM, 16): pcm(tf.int16, 1 << 15),
        (wav_file.PCM, 8): pcm_8,
        (wav_file.PCM, 24): pcm_24,
        (wav_file.PCM, 32): pcm(tf.int32, 1 << 31),
        (wav_file.IEEE_FLOAT, 32): pcm(tf.float32, 1),
        (wav_file.IEEE_FLOAT, 64): pcm(tf.float64, 1),
        (wav_file.MU_LAW, 8): law(wav_file.MU_LAW),
        (wav_file.A_LAW, 8): law(wav_file.A_LAW),
    }
    matches = [(code == c) & (bits == b) for c, b in readers]
    with require(tf.reduce_any(matches), "unknown sample kind"):
        matches = [tf.identity(match) for match in matches]
    # Not `tf.switch_case`, whose op TensorFlow Transform cannot analyse.
    *others, last = readers.values()
    return tf.case(list(zip(matches, others, strict=False)), default=last)


def resample(wave: tf.Tensor, from_hz: tf.Tensor, to_hz: int) -> tf.Tensor:
    """Changes the sample rate: (S,) -> (ceil(S * to_hz / from_hz),) float32.

    Works on the spectrum: frequencies above the lower of the two Nyquist frequencies
    are cut. The wave is padded with silence until both lengths are integers.
    """
    from_hz = tf.cast(from_hz, tf.int32)
    return tf.cond(
        (from_hz == to_hz) | (tf.size(wave) == 0),
        lambda: wave,
        lambda: _resample(wave, from_hz, to_hz),
    )


def _resample(wave, from_hz, to_hz):
    common, _ = tf.while_loop(  # greatest common divisor
        lambda _, rest: rest > 0,
        lambda x, rest: (rest, x % rest),
        (from_hz, tf.constant(to_hz)),
    )
    step_in, step_out = from_hz // common, to_hz // common
    size = tf.size(wave)
    steps = -(-size // step_in)
    size_in, size_out = steps * step_in, steps * step_out
    spectrum = tf.signal.rfft(tf.pad(wave, [[0, size_in - size]]))
    bins = size_out // 2 + 1
    shared = tf.minimum(bins, size_in // 2 + 1)
    spectrum = tf.pad(spectrum[:shared], [[0, bins - shared]])
    result = tf.signal.irfft(spectrum, size_out[None])
    result *= tf.cast(size_out, tf.float32) / tf.cast(size_in, tf.float32)
    # size * to_hz / from_hz, rounded up; the product exceeds 32 bits
    size, step_in, step_out = (tf.cast(n, tf.int64) for n in (size, step_in, step_out))
    return result[: -(-(size * step_out) // step_in)]


def log_mel(wave: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Computes log-mel frames of a wave: (..., S) -> (..., T, `config.bands`) float32.

    Natural log of mel magnitude, one frame per `config.hop_ms`, complete windows only;
    a shorter wave is padded with silence. Silence is log(1e-3), about -6.9, never -inf.

    Source: HTK mel scale, 2595 * log10(1 + f / 700), as in
    tf.signal.linear_to_mel_weight_matrix.
    """
    missing = tf.maximum(config.window - tf.shape(wave)[-1], 0)
    wave = tf.pad(wave, [[0, 0]] * (wave.shape.rank - 1) + [[0, missing]])
    spectrum = tf.abs(tf.signal.stft(wave, config.window, config.hop))  # (..., T, N)
    to_mel = tf.signal.linear_to_mel_weight_matrix(
        config.bands, spectrum.shape[-1], config.rate_hz, config.low_hz, config.high_hz
    )
    mel = tf.tensordot(spectrum, to_mel, 1)
    return tf.math.log(mel + _FLOOR)


def frame_features(frames: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Converts log-mel frames for the encoder: (T, F) -> (T, `frame_width(config)`).

    mfcc_stats and gru use the first coefficients of a cosine transform of the bands.

    Source: tf.signal.mfccs_from_log_mel_spectrograms (orthonormal DCT-II).
    """
    if config.encoder in ("mfcc_stats", "gru"):
        cepstrum = tf.signal.mfccs_from_log_mel_spectrograms(frames)
        frames = cepstrum[:, : config.mfccs]
    return frames


def frame_width(config: AudioConfig) -> int:
    """Returns the width of a frame of `frame_features`."""
    return config.mfccs if config.encoder in ("mfcc_stats", "gru") else config.bands


def audio_vector(frames: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Computes mean and deviation over time: (T, F) -> (`stats_width(config)`,).

    The frames are divided into `config.segments` equal parts, in order, of which each
    has at least one frame, a mean and a deviation.
    """
    frames, parts = frame_features(frames, config), config.segments
    vectors = []
    for i in range(parts):
        start = tf.shape(frames)[0] * i // parts
        end = tf.maximum(tf.shape(frames)[0] * (i + 1) // parts, start + 1)
        part = frames[start:end]
        vectors += [tf.reduce_mean(part, axis=0), tf.math.reduce_std(part, axis=0)]
    return tf.ensure_shape(tf.concat(vectors, axis=0), [stats_width(config)])


def pad_frames(frames: tf.Tensor, config: AudioConfig) -> tf.Tensor:
    """Pads with frames of zeros, or cuts: (T, F) -> (`config.max_frames`, F)."""
    frames = frames[: config.max_frames]
    missing = config.max_frames - tf.shape(frames)[0]
    padded = tf.pad(frames, [[0, missing], [0, 0]])
    return tf.ensure_shape(padded, [config.max_frames, frames.shape[1]])


def stats_width(config: AudioConfig) -> int:
    """Returns the width of `audio_vector`: 128 in the reference model."""
    return 2 * frame_width(config) * config.segments
