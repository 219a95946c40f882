"""Settings of the image branch."""

from dataclasses import dataclass
from typing import Literal

from mmkeras.config.validation import Pooling, check

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
]
WITH_IMAGENET = ("resnet50", "resnet101", "efficientnetv2", "convnext", "mobilenetv3")


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Image branch.

    Attributes:
        encoder: Of keras.applications: resnet50 and resnet101 (2048 wide),
            efficientnetv2 (EfficientNetV2B0, 1280), convnext (ConvNeXtTiny, 768) and
            mobilenetv3 (MobileNetV3Large, 960). From scratch: small_cnn; cnn (two
            convolutions of 16 and 32 filters, then 128); cnn_lstm (two blocks of 32 and
            64 filters whose map runs through an LSTM of 128); vit (patches through a
            Transformer); kerashub_vit (KerasHub's ViT); pixels (small pixels as they
            are, no weights).
        size_px: Side of the square that pictures are resized to.
        weights: Of keras.applications: imagenet (downloaded once), none, or the path
            of a .weights.h5/.h5 file without top. Of kerashub_vit: the path of a
            .weights.h5 file of such a backbone; imagenet and none are from scratch.
            Of no meaning to the others.
        frozen: Whether the encoder keeps its weights; its output is then computed
            once and cached. auto is yes with pretrained weights.
        width: Filters of the small CNN's first block.
        patch_px: Side of a ViT's patches, of vit and of kerashub_vit.
        units: Width of a ViT's patches inside.
        layers: Transformer blocks of a ViT.
        heads: Attention heads of a ViT.
        pooling: How patches or places become one vector, where fusion wants vectors.
        max_megapixels: Largest picture that is decoded; more is a broken one.
    """

    encoder: ImageEncoder = "resnet50"
    size_px: int = 224
    weights: str = "imagenet"
    frozen: Literal["auto", "yes", "no"] = "auto"
    width: int = 16
    patch_px: int = 8
    units: int = 64
    layers: int = 2
    heads: int = 4
    pooling: Pooling = "mean"
    max_megapixels: int = 50

    def __post_init__(self):
        check(self.size_px >= 32, "image.size_px", self.size_px, "at least 32")
        check(
            1 <= self.patch_px <= self.size_px,
            "image.patch_px",
            self.patch_px,
            f"from 1 to image.size_px={self.size_px}",
        )
        for name in ("width", "units", "layers", "heads"):
            value = getattr(self, name)
            check(value >= 1, f"image.{name}", value, "at least 1")
        check(
            self.units % self.heads == 0,
            "image.units",
            self.units,
            f"a multiple of image.heads={self.heads}",
        )
        check(
            1 <= self.max_megapixels <= 178,  # TF decodes at most 2^29 bytes
            "image.max_megapixels",
            self.max_megapixels,
            "from 1 to 178",
        )

    @property
    def is_pretrained(self) -> bool:
        """Whether weights are loaded: those of ImageNet, or a file."""
        if self.encoder == "kerashub_vit":
            return self.weights not in ("imagenet", "none")
        return self.encoder in WITH_IMAGENET and self.weights != "none"

    @property
    def is_frozen(self) -> bool:
        if self.frozen == "auto":
            return self.is_pretrained
        return self.frozen == "yes"
