"""Columns of images."""

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import Any

from mmkeras.modalities.column import Content, Effects, FileReader
from mmkeras.modalities.file_column import FileColumn
from mmkeras.modalities.media import count_media


class Image(FileColumn):
    """Column of paths of images, or of their content."""

    type = "image"
    encoder = "mmkeras.modalities.image.encoder"
    has_encoder_of_vectors = True
    suffixes = tuple(
        ".avif .bmp .gif .heic .heif .jfif .jpe .jpeg .jpg .png .tif .tiff "
        ".webp".split()
    )
    read_settings = ("size_px", "max_megapixels")
    encoder_settings = ("encoder", "weights", "scale", "frozen", "width", "patch_px")
    encoder_settings += ("units", "layers", "heads", "pooling")
    measured = {"width_px": ("Width", "px"), "height_px": ("Height", "px")}
    counted = {"channels": ("Channels", "")}
    measured_note = "As stored in the file, before any rotation."
    # Standard deviation of the blur as a share of the side.
    noise_levels = (0.0, 0.01, 0.02, 0.05, 0.1)
    noise_heading, noise_unit, noise_factor = (
        "Blurred images",
        "blur, % of the side",
        100,
    )

    @classmethod
    def recognise(cls, cells: Sequence[Any], files: FileReader) -> str:
        return count_media(cells, files, cls.suffixes, cls._is_image, "images")

    @staticmethod
    def _is_image(data: bytes) -> bool:
        from mmkeras.modalities.image.reading import is_image

        return is_image(data)

    @cached_property
    def decoder(self):
        """Decoder of the graph for Python code."""
        from mmkeras.modalities.decoder import Decoder
        from mmkeras.modalities.image.decoding import decode_image

        return Decoder(lambda data: decode_image(data, self.settings), self.type)

    def read_file(self, content: bytes) -> Content:
        from mmkeras.modalities.image.decoding import image_kind
        from mmkeras.modalities.image.metadata import measure_image

        data, _ = self.prepare(content)
        self.decoder(data)  # raises what the served graph would
        return Content(
            data=data,
            digest=content,
            metadata=measure_image(content),
            formats=(image_kind(data),),
        )

    def prepare(self, content: bytes) -> tuple[bytes, tuple[str, ...]]:
        from mmkeras.modalities.image.reading import prepare_image

        return prepare_image(content, self.settings), ()

    def read_key(self) -> Any:
        from mmkeras.modalities.image.heif import can_open_avif

        size, limit = self.settings.size_px, self.settings.max_megapixels
        # A row that is unreadable without a decoder is readable once it is installed.
        has_heif = find_spec("pillow_heif") is not None
        return [self.type, size, limit, can_open_avif(), has_heif]

    def statistics(self) -> None:
        return None

    def fit(self, result: Any) -> dict[str, Any]:
        return {}

    def fit_key(self) -> Any:
        return [self.type]

    def file_graph(self, state):
        from mmkeras.modalities.image.graph import ImageGraph

        return ImageGraph(self)

    def file_input(self, state):
        return (self.settings.size_px, self.settings.size_px, 3), "uint8"

    def file_encoder(self, shape, state, tokens, name):
        return self.import_encoder().build_image_encoder(self.settings, tokens, name)

    @property
    def is_frozen(self) -> bool:
        return self.settings.is_frozen

    @property
    def shares_backbone(self) -> bool:
        return self.settings.share

    def build_backbone(self, tokens):
        return self.build_model({}, tokens)

    def build_encoder(self, x, state, tokens):
        return x  # the backbone's output

    @property
    def handle(self) -> str:
        return self.settings.lite0_handle or super().handle

    def fetch(self) -> None:
        self.import_encoder().fetch_image_weights(self.settings)

    def describe(self) -> str:
        s = self.settings
        return f"{s.encoder}, {s.size_px} px, weights {s.weights}"

    def file_features(self, x, state):
        """Returns the pixels of images of 16 px."""
        from mmkeras.modalities.image.linear_features import small_pixels

        return small_pixels(x)

    def corrupt_file(self, data: bytes, level: float, seed: Sequence[int]) -> bytes:
        from mmkeras.modalities.image.corruption import blur

        return blur(data, level, self.decoder)

    def explain_file(self, data: bytes, effects: Effects) -> dict[str, Any]:
        """Returns the effects of regions, (rows, columns)."""
        from mmkeras.modalities.image import occlusion
        from mmkeras.modalities.windows import average_over_windows, windows

        masks = windows(occlusion.GRID)
        contents = occlusion.hide_regions(self.decoder(data), masks)
        return {"effects": average_over_windows(effects(contents), masks).tolist()}

    def draw_file(self, data: bytes, explained) -> dict[str, Any]:
        from mmkeras.modalities.image.occlusion import draw_effects

        effects = explained["effects"]
        return {"kind": "image", **draw_effects(data, effects, self.decoder)}

    def draw_file_places(self, data: bytes, weights, scale: float) -> bytes | None:
        from mmkeras.modalities.image.occlusion import draw_weights
        from mmkeras.modalities.image.places import arrange_places

        grid = arrange_places(self.settings.encoder, weights)
        return None if grid is None else draw_weights(data, grid, scale, self.decoder)

    def preview_file(self, data: bytes) -> dict[str, Any]:
        from mmkeras.modalities.image.encoding import make_thumbnail

        return {"kind": "image", "content": make_thumbnail(data, self.decoder)}
