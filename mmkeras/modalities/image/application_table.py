"""The networks of keras.applications, and their ImageNet weights."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urljoin

import keras

from mmkeras.config.image import PixelScale

_STORE = "https://storage.googleapis.com/tensorflow/keras-applications/"
_CACHED_AS = {
    "NASNet-mobile-no-top.h5": "nasnet_mobile_no_top.h5",
    "NASNet-large-no-top.h5": "nasnet_large_no_top.h5",
}
_OLD_NAMES = {
    "efficientnetv2": "efficientnetv2b0",
    "convnext": "convnexttiny",
    "mobilenetv3": "mobilenetv3large",
}


@dataclass(frozen=True, kw_only=True)
class Application:
    """A network of keras.applications.

    Attributes:
        builder: Name of its function there.
        size_px: Side of the images that it was trained on.
        parameters: Their number without top.
        url: Address of the ImageNet-1k weights without top.
        file_hash: MD5 or SHA-256 of the file; "" if Keras has none.
        scale: Range of the pixels that it takes; many scale 0..255 inside.
    """

    builder: str
    size_px: int
    parameters: int
    url: str
    file_hash: str
    scale: PixelScale

    @property
    def build(self) -> Callable[..., keras.Model]:
        return getattr(keras.applications, self.builder)

    @property
    def cached_as(self) -> str:
        """Name of the file of the weights in the cache of Keras."""
        name = self.url.rpartition("/")[2]
        return _CACHED_AS.get(name, name)


@dataclass(frozen=True)
class _Row:
    name: str  # of the builder, after the prefix of the family
    size_px: int
    parameters: int
    file_hash: str


def _family(
    url: str, scale: PixelScale, *rows: _Row, prefix: str = ""
) -> dict[str, Application]:
    """Returns networks by name; `url` has {} for the name of a row in lower case."""
    return {
        (prefix + row.name).lower(): Application(
            builder=prefix + row.name,
            size_px=row.size_px,
            parameters=row.parameters,
            url=urljoin(_STORE, url.format(row.name.lower())),
            file_hash=row.file_hash,
            scale=scale,
        )
        for row in rows
    }


# Source of addresses and hashes: keras.applications 3.10 and 3.15, where they are
# private or inside functions. A test compares them with what Keras fetches.
_NETWORKS = {
    # He et al., 2016, https://arxiv.org/abs/1512.03385
    **_family(
        "resnet/{}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "imagenet_bgr",
        _Row("ResNet50", 224, 23_587_712, "4d473c1dd8becc155b73f8504c6f6626"),
        _Row("ResNet101", 224, 42_658_176, "88cf7a10940856eca736dc7b7e228a21"),
        _Row("ResNet152", 224, 58_370_944, "ee4c566cf9a93f14d82f913c2dc6dd0c"),
    ),
    # He et al., 2016, https://arxiv.org/abs/1603.05027
    **_family(
        "resnet/{}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "-1..1",
        _Row("ResNet50V2", 224, 23_564_800, "fac2f116257151a9d068a22e544a4917"),
        _Row("ResNet101V2", 224, 42_626_560, "c0ed64b8031c3730f411d2eb4eea35b5"),
        _Row("ResNet152V2", 224, 58_331_648, "ed17cf2e0169df9d443503ef94b23b33"),
    ),
    # Simonyan and Zisserman, 2015, https://arxiv.org/abs/1409.1556
    **_family(
        "{0}/{0}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "imagenet_bgr",
        _Row("VGG16", 224, 14_714_688, "6d6bbae143d832006294945121d1f1fc"),
        _Row("VGG19", 224, 20_024_384, "253f8cb515780f3b799900260a226db6"),
    ),
    # Huang et al., 2017, https://arxiv.org/abs/1608.06993
    **_family(
        "densenet/{}_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "imagenet",
        _Row("DenseNet121", 224, 7_037_504, "30ee3e1110167f948a6b9946edeeb738"),
        _Row("DenseNet169", 224, 12_642_880, "b8c4d4c20dd625c148057b9ff1c1176b"),
        _Row("DenseNet201", 224, 18_321_984, "c13680b51ded0fb44dff2d8f86ac8bb1"),
    ),
    # Szegedy et al., 2015, https://arxiv.org/abs/1512.00567
    **_family(
        "inception_v3/inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "-1..1",
        _Row("InceptionV3", 299, 21_802_784, "bcbd6486424b2319ff4ef7d526e38f63"),
    ),
    # Szegedy et al., 2016, https://arxiv.org/abs/1602.07261
    **_family(
        "inception_resnet_v2/inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "-1..1",
        _Row("InceptionResNetV2", 299, 54_336_736, "d19885ff4a710c122648d3b5c3b684e4"),
    ),
    # Chollet, 2017, https://arxiv.org/abs/1610.02357
    **_family(
        "xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "-1..1",
        _Row("Xception", 299, 20_861_480, "b0042744bf5b25fce3cb969f33bebb97"),
    ),
    # Howard et al., 2017, https://arxiv.org/abs/1704.04861
    **_family(
        "mobilenet/mobilenet_1_0_224_tf_no_top.h5",
        "-1..1",
        _Row("MobileNet", 224, 3_228_864, ""),
    ),
    # Sandler et al., 2018, https://arxiv.org/abs/1801.04381
    **_family(
        "mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        "-1..1",
        _Row("MobileNetV2", 224, 2_257_984, ""),
    ),
    # Howard et al., 2019, https://arxiv.org/abs/1905.02244
    **_family(
        "mobilenet_v3/weights_mobilenet_v3_{}_224_1.0_float_no_top_v2.h5",
        "0..255",
        _Row("Small", 224, 939_120, "d3e8ec802a04aa4fc771ee12a9a9b836"),
        _Row("Large", 224, 2_996_352, "07fb09a5933dd0c8eaafa16978110389"),
        prefix="MobileNetV3",
    ),
    # Zoph et al., 2018, https://arxiv.org/abs/1707.07012
    **_family(
        "nasnet/NASNet-{}-no-top.h5",
        "-1..1",
        _Row("Mobile", 224, 4_269_716, "1ed92395b5b598bdda52abe5c0dbfd63"),
        _Row("Large", 331, 84_916_818, "d81d89dc07e6e56530c4e77faddd61b5"),
        prefix="NASNet",
    ),
    # Tan and Le, 2019, https://arxiv.org/abs/1905.11946
    **_family(
        "https://storage.googleapis.com/keras-applications/{}_notop.h5",
        "0..255",
        _Row("EfficientNetB0", 224, 4_049_571, "50bc09e76180e00e4465e1a485ddc09d"),
        _Row("EfficientNetB1", 240, 6_575_239, "74c4e6b3e1f6a1eea24c589628592432"),
        _Row("EfficientNetB2", 260, 7_768_569, "111f8e2ac8aa800a7a99e3239f7bfb39"),
        _Row("EfficientNetB3", 300, 10_783_535, "af6d107764bb5b1abb91932881670226"),
        _Row("EfficientNetB4", 380, 17_673_823, "ebc24e6d6c33eaebbd558eafbeedf1ba"),
        _Row("EfficientNetB5", 456, 28_513_527, "38879255a25d3c92d5e44e04ae6cec6f"),
        _Row("EfficientNetB6", 528, 40_960_143, "9ecce42647a20130c1f39a5d4cb75743"),
        _Row("EfficientNetB7", 600, 64_097_687, "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    ),
    # Tan and Le, 2021, https://arxiv.org/abs/2104.00298
    **_family(
        "efficientnet_v2/efficientnetv2-{}_notop.h5",
        "0..255",
        _Row("B0", 224, 5_919_312, "893217f2bb855e2983157299931e43ff"),
        _Row("B1", 240, 6_931_124, "0e80663031ca32d657f9caa404b6ec37"),
        _Row("B2", 260, 8_769_374, "1dfe2e7a5d45b6632553a8961ea609eb"),
        _Row("B3", 300, 12_930_622, "f6abf7b5849ac99a89b50dd3fd532856"),
        _Row("S", 384, 20_331_360, "af0682fb74e8c54910f2d4393339c070"),
        _Row("M", 480, 53_150_388, "1b8dc055df72dde80d614482840fe342"),
        _Row("L", 480, 117_746_848, "b0b66b5c863aef5b46e8608fe1711615"),
        prefix="EfficientNetV2",
    ),
    # Liu et al., 2022, https://arxiv.org/abs/2201.03545
    **_family(
        "convnext/convnext_{}_notop.h5",
        "0..255",
        _Row(
            "Tiny",
            224,
            27_820_128,
            "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        ),
        _Row(
            "Small",
            224,
            49_454_688,
            "6fc8009faa2f00c1c1dfce59feea9b0745eb260a7dd11bee65c8e20843da6eab",
        ),
        _Row(
            "Base",
            224,
            87_566_464,
            "40a20c5548a5e9202f69735ecc06c990e6b7c9d2de39f0361e27baeb24cb7c45",
        ),
        _Row(
            "Large",
            224,
            196_230_336,
            "96f02b6f0753d4f543261bc9d09bed650f24dd6bc02ddde3066135b63d23a1cd",
        ),
        _Row(
            "XLarge",
            224,
            348_147_968,
            "de3f8a54174130e0cecdc71583354753d557fcf1f4487331558e2a16ba0cfe05",
        ),
        prefix="ConvNeXt",
    ),
}
APPLICATIONS = _NETWORKS | {old: _NETWORKS[new] for old, new in _OLD_NAMES.items()}
