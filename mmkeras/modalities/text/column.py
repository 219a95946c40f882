"""Columns of text."""

import re
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from mmkeras.modalities.branch import BranchColumn
from mmkeras.modalities.column import Content, Counts, Effects, FileReader, State
from mmkeras.modalities.file import Unreadable
from mmkeras.modalities.text import occlusion
from mmkeras.modalities.text.corruption import drop_words

if TYPE_CHECKING:
    from mmkeras.modalities.text.pretrained import PretrainedBert

# Two words, or a letter of Chinese or Japanese, which have no spaces between words.
_WORDS = re.compile(r"\w\S*\s+\S*\w|[\u3040-\u30ff\u3400-\u9fff]")


class Text(BranchColumn):
    """Column of text."""

    type = "text"
    encoder = "mmkeras.modalities.text.encoder"
    rank = 2
    has_encoder_of_vectors = True
    feature_settings = ("encoder", "hub_handle", "tokens", "max_ngram", "min_rows")
    feature_settings += ("vocab_size",)
    encoder_settings = ("units", "heads", "layers", "pooling", "dropout", "weights")
    encoder_settings += ("frozen",)
    warnings = {
        "has no word or emoji": "without a word or emoji (no token with "
        "text.tokens=word or char)"
    }
    measured = {"characters": ("Length", "characters")}
    noise_levels = (0.0, 0.25, 0.5, 0.75, 1.0)  # probability that a word is dropped
    noise_heading, noise_unit, noise_factor = "Dropped words", "% of the words", 100

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        lists = [cell if isinstance(cell, tuple) else (cell,) for cell in cells]
        texts = [" ".join(x) for x in lists if all(isinstance(t, str) for t in x)]
        words = sum(bool(_WORDS.search(text)) for text in texts)
        return "texts of several words" if words > len(cells) / 2 else ""

    def read(self, cell: Any, files: FileReader) -> Content:
        from mmkeras.modalities.text.features import has_word

        parts = cell if isinstance(cell, tuple) else (cell,)
        data = self.join(
            [
                p.encode("utf-8", "surrogatepass") if isinstance(p, str) else p
                for p in parts
            ]
        )
        characters = len(self._decode(data))
        return Content(
            data=data,
            digest=data,
            metadata={"characters": characters},
            warning="" if has_word(data) else "has no word or emoji",
        )

    def join(self, parts: Sequence[bytes]) -> bytes:
        return b" ".join(parts)

    def _decode(self, data):
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Unreadable("bytes that are not UTF-8") from None

    def fit_key(self) -> Any:
        return [self.type, asdict(self.settings), self._given_vocabulary]

    @cached_property
    def pretrained(self) -> "PretrainedBert":
        """The model that `text.weights` names."""
        from mmkeras.modalities.text.open_pretrained import open_pretrained

        return open_pretrained(self.settings)

    @cached_property
    def _given_vocabulary(self) -> State:
        """The state of a vocabulary that is not that of the training rows, if any."""
        from mmkeras.modalities.text.pieces import has_capitals, read_pieces

        if self.settings.is_pretrained:
            model = self.pretrained
            pieces, keeps = model.pieces, (model.keeps_case, model.keeps_accents)
        elif file := self.settings.vocab_file:
            pieces = read_pieces(file, f"text.vocab_file='{file}'")
            keeps = (has_capitals(pieces),) * 2
        else:
            return {}
        return {
            "vocabulary": list(pieces),
            "keep_case": keeps[0],
            "keep_accents": keeps[1],
        }

    def statistics(self) -> Counts | None:
        from mmkeras.modalities.text.characters import WordSplitter
        from mmkeras.modalities.text.features import tokenize

        settings = self.settings
        if not settings.has_vocabulary or self._given_vocabulary:
            return None
        if settings.has_pieces:  # rare words have common ones
            return Counts(tokens=WordSplitter.of_state({}))
        tokens = partial(tokenize, config=settings)
        return Counts(tokens=tokens, min_rows=settings.min_rows)

    def fit(self, result: Any) -> State:
        from mmkeras.modalities.text.vocabulary import fit_vocabulary

        settings = self.settings
        if settings.encoder == "hub":
            return {"width": self._hub_width()}
        if self._given_vocabulary:
            return {"width": self._max_tokens(), **self._given_vocabulary}
        vocabulary, idf = fit_vocabulary(*result, settings)
        width = settings.max_tokens if settings.is_sequence else len(vocabulary)
        return {"width": width, "vocabulary": list(vocabulary), "idf": list(idf)}

    def _hub_width(self):
        from mmkeras.modalities.tf_hub import hub_text_width

        return hub_text_width(self.settings.hub_handle)

    def _max_tokens(self):
        """Returns the number of tokens that the encoder reads."""
        limit = self.settings.max_tokens
        if self.settings.is_pretrained:
            limit = min(limit, self.pretrained.sizes.positions)
        return limit

    def warn_unused(self, state) -> str:
        from mmkeras.modalities.preprocessing_state import NO_TOKENS

        if state.get("vocabulary") != list(NO_TOKENS):
            return ""
        return (
            f"No token of column '{self.name}' is in text.min_rows="
            f"{self.settings.min_rows} training rows or more, so the texts are not "
            "used."
        )

    def graph(self, state):
        from mmkeras.modalities.text.graph import TextGraph

        return TextGraph(self, state[self.name])

    def input(self, state):
        dtype = "int32" if self.is_sequence else "float32"
        return (state[self.name]["width"],), dtype

    @property
    def is_frozen(self) -> bool:
        return self.settings.is_frozen

    def build_backbone(self, tokens):
        """Builds the pretrained encoder, if any: to (B, D), or with `tokens` (B, L, D)
        with zeros in padding."""
        if not self.settings.is_pretrained:
            return None
        build_pretrained_encoder = self.import_encoder().build_pretrained_encoder
        width, pooling = self._max_tokens(), self.settings.pooling
        return build_pretrained_encoder(self.pretrained, width, pooling, tokens)

    def build_encoder(self, x, state, tokens):
        from mmkeras.modalities.preprocessing_state import RESERVED

        if self.settings.is_pretrained:
            return self.split_tokens(x) if tokens else x
        build_text_encoder = self.import_encoder().build_text_encoder
        vocabulary = RESERVED + len(state[self.name].get("vocabulary", ()))
        width, name = x.shape[1], f"{self.key}_encoder"
        encoder = build_text_encoder(self.settings, width, vocabulary, tokens, name)
        return encoder(x)

    def linear_features(self, x, state):
        from mmkeras.modalities.preprocessing_state import RESERVED
        from mmkeras.modalities.text.linear_features import count_tokens

        if not self.is_sequence:
            return x
        # All tokens but padding.
        return count_tokens(x, RESERVED - 1 + len(state[self.name]["vocabulary"]))

    def describe(self) -> str:
        settings = self.settings
        if not settings.is_pretrained:
            return settings.encoder
        frozen = ", frozen" * settings.is_frozen
        return f"{settings.encoder}, weights {settings.weights}{frozen}"

    def fetch(self) -> None:
        if self.settings.is_pretrained:
            self.pretrained  # noqa: B018 - it is opened, or fetched
        if self.settings.encoder == "hub":
            from mmkeras.modalities import tf_hub

            tf_hub.fetch(self.settings.hub_handle, self.type)

    def corrupt(self, data: bytes, level: float, seed: Sequence[int]) -> bytes:
        return drop_words(data, level, seed)

    def explain(self, data: bytes, effects: Effects) -> list[dict[str, Any]]:
        """Returns the effect of each of the first words."""
        text = data.decode()
        spans = occlusion.find_words(text)
        values = effects(occlusion.remove_words(text, spans)) if spans else ()
        return [
            {"word": text[start:end], "start": start, "effect": float(effect)}
            for (start, end), effect in zip(spans, values, strict=True)
        ]

    def draw(self, data: bytes, explained) -> dict[str, Any]:
        return {"kind": "words", **occlusion.colour_words(data.decode(), explained)}

    def preview(self, data: bytes) -> dict[str, Any]:
        return {"kind": "text", "content": data.decode("utf-8", "replace")}
