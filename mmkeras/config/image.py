"""Settings of image preprocessing and of the image encoder."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import Frozen, Pooling, check_multiple, check_range

ImageEncoder = Literal[
    "resnet50",
    "resnet101",
    "efficientnetv2",
    "convnext",
    "mobilenetv3",
    "small_cnn",
    "cnn",
    "cnn_lstm",
    "vit",
    "kerashub_vit",
    "pixels",
    "vector",
]
WITH_IMAGENET = ("resnet50", "resnet101", "efficientnetv2", "convnext", "mobilenetv3")


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Image branch.

    Attributes:
        encoder: From keras.applications: resnet50 and resnet101 (2048 wide),
            efficientnetv2 (EfficientNetV2B0, 1280), convnext (ConvNeXtTiny, 768) and
            mobilenetv3 (MobileNetV3Large, 960). From scratch: small_cnn; cnn (two
            convolutions of 16 and 32 filters, then 128); cnn_lstm (two blocks of 32 and
            64 filters, then an LSTM of 128 over the positions); vit (Transformer over
            patches); kerashub_vit (KerasHub's ViT); pixels (small pixels, no weights).
            Without an encoder: vector (.npy paths in the column).
        size_px: Side of the square to which images are resized.
        weights: For keras.applications: imagenet (downloaded once), none, or the path
            of a .weights.h5/.h5 file without top. For kerashub_vit: the path of a
            .weights.h5 file of such a backbone; imagenet and none are from scratch.
            Unused by the others.
        frozen: Whether the encoder keeps its weights; its output is then computed
            once and cached. auto means yes with pretrained weights.
        width: Filters of the small CNN's first block.
        patch_px: Side of the patches of vit and kerashub_vit.
        units: Width of the patches inside a ViT.
        layers: Transformer blocks of a ViT.
        heads: Attention heads of a ViT.
        pooling: Pooling of positions to one vector, for a fusion of vectors.
        max_megapixels: Limit of decoded size; a larger image counts as unreadable.
        share: Whether the columns of images with this setting have one encoder, that
            of the first.
    """

    encoder: ImageEncoder = "resnet50"
    size_px: int = 224
    weights: str = "imagenet"
    frozen: Frozen = "auto"
    width: int = 16
    patch_px: int = 8
    units: int = 64
    layers: int = 2
    heads: int = 4
    pooling: Pooling = "mean"
    max_megapixels: int = 50
    share: bool = False

    def __post_init__(self):
        check_range(self, "image.size_px", ge=32)
        check_range(self, "image.patch_px", ge=1, le="image.size_px")
        names = ("width", "units", "layers", "heads")
        check_range(self, *(f"image.{name}" for name in names), ge=1)
        check_multiple(self, "image.units", of="image.heads")
        # TensorFlow decodes at most 2^29 bytes.
        check_range(self, "image.max_megapixels", ge=1, le=178)

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder starts from ImageNet weights or from a file."""
        if self.encoder == "kerashub_vit":
            return self.weights not in ("imagenet", "none")
        return self.encoder in WITH_IMAGENET and self.weights != "none"

    @property
    def is_frozen(self) -> bool:
        if self.frozen == "auto":
            return self.is_pretrained
        return self.frozen == "yes"
