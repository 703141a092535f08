"""The table of backbones: one plain row for each network whose name `--backbone` takes.

A row says how the network is built, what its weights were trained on and at what size, what preprocessing they want
and where its stages end. It knows no Keras object (a builder is a string), so that the table can be read, listed and
searched in no time. `backbone_loading` turns a row into a model; `tests/models/test_backbones.py` proves every row
against the model that it builds.

A stage is one spatial resolution, and a stage's boundary is the operation whose output is the stage's features: the
whole network passes through that one tensor, and no block is cut in two. Only NASNet has no such place, as each of its
cells reads the two cells before it: its stages can be frozen, but not run apart from each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

PRESET_PREFIX = "keras_hub:"  # before the name of a preset of KerasHub, which has no row


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One network and the weights published for it.

    Attributes:
        name: the value of `model.backbone`.
        builder: "module:function", of the signature of `keras.applications`.
        image_size: height and width in pixels of the images that the weights were trained on.
        min_size: the least height and width in pixels that the network takes.
        preprocessing: what turns pixels 0..255 into what the first convolution wants: "caffe" (BGR less ImageNet's
            mean), "minus_one_to_one", "zero_to_one", "torch" (ImageNet's mean 0 and deviation 1), or "none", where the
            builder does it itself.
        stages: the last operation of each stage, from input to output. "activation#2" is the third of the operations
            that Keras itself named "activation": such names carry a counter that runs on through a process.
        has_batchnorm: whether it has BatchNormalization layers, whose statistics a small batch would spoil.
        num_parameters: weights of the network without its classifier, in numbers.
        weights_file: the file of the published weights, under KERAS_HOME/models or, bundled, in this package.
        paper: arXiv id.
        licence: of the published weights.
        source_task: what the published weights were trained on, "imagenet" or "cifar10".
        arguments: the builder's further keyword arguments.
    """

    name: str
    builder: str
    image_size: int
    min_size: int
    preprocessing: str
    stages: tuple[str, ...]
    has_batchnorm: bool
    num_parameters: int
    weights_file: str
    paper: str
    licence: str
    source_task: str = "imagenet"
    arguments: Mapping[str, Any] = field(default_factory=dict)


# What the rows of a family share.
_VGG = partial(
    Backbone,
    image_size=224,
    min_size=32,
    preprocessing="caffe",
    stages=("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
    has_batchnorm=False,
    paper="1409.1556",
    licence="CC-BY-4.0",
)
_RESNET = partial(Backbone, image_size=224, min_size=32, preprocessing="caffe", has_batchnorm=True, paper="1512.03385", licence="MIT")
# In V2 the last block of each group halves the resolution, so it opens the next stage.
_RESNET_V2 = partial(
    Backbone, image_size=224, min_size=32, preprocessing="minus_one_to_one", has_batchnorm=True, paper="1603.05027", licence="BSD-3-Clause"
)
_MOBILENET = partial(
    Backbone,
    builder="keras.applications.mobilenet:MobileNet",
    min_size=32,
    preprocessing="minus_one_to_one",
    stages=("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
    has_batchnorm=True,
    paper="1704.04861",
    licence="Apache-2.0",
)
_MOBILENET_V3 = partial(
    Backbone, image_size=224, min_size=32, preprocessing="none", has_batchnorm=True, paper="1905.02244", licence="Apache-2.0"
)
_DENSENET = partial(
    Backbone,
    image_size=224,
    min_size=32,
    preprocessing="torch",
    stages=("conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"),
    has_batchnorm=True,
    paper="1608.06993",
    licence="BSD-3-Clause",
)
# A cell reads the two cells before it: no single tensor separates these stages, but the first and the last.
_NASNET = partial(Backbone, min_size=32, preprocessing="minus_one_to_one", has_batchnorm=True, paper="1707.07012", licence="Apache-2.0")
_EFFICIENTNET = partial(Backbone, min_size=32, preprocessing="none", has_batchnorm=True, paper="1905.11946", licence="Apache-2.0")
_EFFICIENTNET_V2 = partial(Backbone, min_size=32, preprocessing="none", has_batchnorm=True, paper="2104.00298", licence="Apache-2.0")
_CONVNEXT = partial(Backbone, image_size=224, min_size=32, preprocessing="none", has_batchnorm=False, paper="2201.03545", licence="MIT")

_ROWS = (
    _VGG(
        name="vgg16",
        builder="keras.applications.vgg16:VGG16",
        num_parameters=14_714_688,
        weights_file="vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _VGG(
        name="vgg19",
        builder="keras.applications.vgg19:VGG19",
        num_parameters=20_024_384,
        weights_file="vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _RESNET(
        name="resnet50",
        builder="keras.applications.resnet:ResNet50",
        stages=("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        num_parameters=23_587_712,
        weights_file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _RESNET(
        name="resnet101",
        builder="keras.applications.resnet:ResNet101",
        stages=("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
        num_parameters=42_658_176,
        weights_file="resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _RESNET(
        name="resnet152",
        builder="keras.applications.resnet:ResNet152",
        stages=("conv1_relu", "conv2_block3_out", "conv3_block8_out", "conv4_block36_out", "conv5_block3_out"),
        num_parameters=58_370_944,
        weights_file="resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _RESNET_V2(
        name="resnet50_v2",
        builder="keras.applications.resnet_v2:ResNet50V2",
        stages=("conv1_conv", "conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"),
        num_parameters=23_564_800,
        weights_file="resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _RESNET_V2(
        name="resnet101_v2",
        builder="keras.applications.resnet_v2:ResNet101V2",
        stages=("conv1_conv", "conv2_block2_out", "conv3_block3_out", "conv4_block22_out", "post_relu"),
        num_parameters=42_626_560,
        weights_file="resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _RESNET_V2(
        name="resnet152_v2",
        builder="keras.applications.resnet_v2:ResNet152V2",
        stages=("conv1_conv", "conv2_block2_out", "conv3_block7_out", "conv4_block35_out", "post_relu"),
        num_parameters=58_331_648,
        weights_file="resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    Backbone(
        name="inception_v3",
        builder="keras.applications.inception_v3:InceptionV3",
        image_size=299,
        min_size=75,
        preprocessing="minus_one_to_one",
        stages=("activation#2", "activation#4", "mixed2", "mixed7", "mixed10"),
        has_batchnorm=True,
        num_parameters=21_802_784,
        weights_file="inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5",
        paper="1512.00567",
        licence="Apache-2.0",
    ),
    Backbone(
        name="inception_resnet_v2",
        builder="keras.applications.inception_resnet_v2:InceptionResNetV2",
        image_size=299,
        min_size=75,
        preprocessing="minus_one_to_one",
        stages=("activation#2", "activation#4", "block35_10_ac", "block17_20_ac", "conv_7b_ac"),
        has_batchnorm=True,
        num_parameters=54_336_736,
        weights_file="inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        paper="1602.07261",
        licence="Apache-2.0",
    ),
    Backbone(
        name="xception",
        builder="keras.applications.xception:Xception",
        image_size=299,
        min_size=71,
        preprocessing="minus_one_to_one",
        stages=("block1_conv2_act", "add#0", "add#1", "add#10", "block14_sepconv2_act"),
        has_batchnorm=True,
        num_parameters=20_861_480,
        weights_file="xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        paper="1610.02357",
        licence="MIT",
    ),
    _MOBILENET(name="mobilenet", image_size=224, num_parameters=3_228_864, weights_file="mobilenet_1_0_224_tf_no_top.h5"),
    _MOBILENET(
        name="mobilenet_025",
        image_size=128,
        num_parameters=218_544,
        weights_file="mobilenet_2_5_128_tf_no_top.h5",
        arguments={"alpha": 0.25},
    ),
    _MOBILENET(
        name="mobilenet_050",
        image_size=160,
        num_parameters=829_536,
        weights_file="mobilenet_5_0_160_tf_no_top.h5",
        arguments={"alpha": 0.5},
    ),
    _MOBILENET(
        name="mobilenet_075",
        image_size=192,
        num_parameters=1_832_976,
        weights_file="mobilenet_7_5_192_tf_no_top.h5",
        arguments={"alpha": 0.75},
    ),
    Backbone(
        name="mobilenet_v2",
        builder="keras.applications.mobilenet_v2:MobileNetV2",
        image_size=224,
        min_size=32,
        preprocessing="minus_one_to_one",
        stages=("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "out_relu"),
        has_batchnorm=True,
        num_parameters=2_257_984,
        weights_file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
        paper="1801.04381",
        licence="Apache-2.0",
    ),
    _MOBILENET_V3(
        name="mobilenet_v3_small",
        builder="keras.applications:MobileNetV3Small",
        stages=("activation#0", "expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_7_add", "activation#17"),
        num_parameters=939_120,
        weights_file="weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",
    ),
    _MOBILENET_V3(
        name="mobilenet_v3_large",
        builder="keras.applications:MobileNetV3Large",
        stages=("expanded_conv_add", "expanded_conv_2_add", "expanded_conv_5_add", "expanded_conv_11_add", "activation#19"),
        num_parameters=2_996_352,
        weights_file="weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
    ),
    _DENSENET(
        name="densenet121",
        builder="keras.applications.densenet:DenseNet121",
        num_parameters=7_037_504,
        weights_file="densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _DENSENET(
        name="densenet169",
        builder="keras.applications.densenet:DenseNet169",
        num_parameters=12_642_880,
        weights_file="densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _DENSENET(
        name="densenet201",
        builder="keras.applications.densenet:DenseNet201",
        num_parameters=18_321_984,
        weights_file="densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    _NASNET(
        name="nasnet_mobile",
        builder="keras.applications.nasnet:NASNetMobile",
        image_size=224,
        stages=("stem_bn1", "reduction_concat_stem_1", "normal_concat_3", "normal_concat_8", "activation#187"),
        num_parameters=4_269_716,
        weights_file="nasnet_mobile_no_top.h5",
    ),
    _NASNET(
        name="nasnet_large",
        builder="keras.applications.nasnet:NASNetLarge",
        image_size=331,
        stages=("stem_bn1", "reduction_concat_stem_1", "normal_concat_5", "normal_concat_12", "activation#259"),
        num_parameters=84_916_818,
        weights_file="nasnet_large_no_top.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b0",
        builder="keras.applications.efficientnet:EfficientNetB0",
        image_size=224,
        stages=("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "top_activation"),
        num_parameters=4_049_571,
        weights_file="efficientnetb0_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b1",
        builder="keras.applications.efficientnet:EfficientNetB1",
        image_size=240,
        stages=("block1b_add", "block2c_add", "block3c_add", "block5d_add", "top_activation"),
        num_parameters=6_575_239,
        weights_file="efficientnetb1_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b2",
        builder="keras.applications.efficientnet:EfficientNetB2",
        image_size=260,
        stages=("block1b_add", "block2c_add", "block3c_add", "block5d_add", "top_activation"),
        num_parameters=7_768_569,
        weights_file="efficientnetb2_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b3",
        builder="keras.applications.efficientnet:EfficientNetB3",
        image_size=300,
        stages=("block1b_add", "block2c_add", "block3c_add", "block5e_add", "top_activation"),
        num_parameters=10_783_535,
        weights_file="efficientnetb3_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b4",
        builder="keras.applications.efficientnet:EfficientNetB4",
        image_size=380,
        stages=("block1b_add", "block2d_add", "block3d_add", "block5f_add", "top_activation"),
        num_parameters=17_673_823,
        weights_file="efficientnetb4_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b5",
        builder="keras.applications.efficientnet:EfficientNetB5",
        image_size=456,
        stages=("block1c_add", "block2e_add", "block3e_add", "block5g_add", "top_activation"),
        num_parameters=28_513_527,
        weights_file="efficientnetb5_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b6",
        builder="keras.applications.efficientnet:EfficientNetB6",
        image_size=528,
        stages=("block1c_add", "block2f_add", "block3f_add", "block5h_add", "top_activation"),
        num_parameters=40_960_143,
        weights_file="efficientnetb6_notop.h5",
    ),
    _EFFICIENTNET(
        name="efficientnet_b7",
        builder="keras.applications.efficientnet:EfficientNetB7",
        image_size=600,
        stages=("block1d_add", "block2g_add", "block3g_add", "block5j_add", "top_activation"),
        num_parameters=64_097_687,
        weights_file="efficientnetb7_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_b0",
        builder="keras.applications.efficientnet_v2:EfficientNetV2B0",
        image_size=224,
        stages=("block1a_project_activation", "block2b_add", "block3b_add", "block5e_add", "top_activation"),
        num_parameters=5_919_312,
        weights_file="efficientnetv2-b0_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_b1",
        builder="keras.applications.efficientnet_v2:EfficientNetV2B1",
        image_size=240,
        stages=("block1b_add", "block2c_add", "block3c_add", "block5f_add", "top_activation"),
        num_parameters=6_931_124,
        weights_file="efficientnetv2-b1_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_b2",
        builder="keras.applications.efficientnet_v2:EfficientNetV2B2",
        image_size=260,
        stages=("block1b_add", "block2c_add", "block3c_add", "block5f_add", "top_activation"),
        num_parameters=8_769_374,
        weights_file="efficientnetv2-b2_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_b3",
        builder="keras.applications.efficientnet_v2:EfficientNetV2B3",
        image_size=300,
        stages=("block1b_add", "block2c_add", "block3c_add", "block5g_add", "top_activation"),
        num_parameters=12_930_622,
        weights_file="efficientnetv2-b3_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_s",
        builder="keras.applications.efficientnet_v2:EfficientNetV2S",
        image_size=384,
        stages=("block1b_add", "block2d_add", "block3d_add", "block5i_add", "top_activation"),
        num_parameters=20_331_360,
        weights_file="efficientnetv2-s_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_m",
        builder="keras.applications.efficientnet_v2:EfficientNetV2M",
        image_size=480,
        stages=("block1c_add", "block2e_add", "block3e_add", "block5n_add", "top_activation"),
        num_parameters=53_150_388,
        weights_file="efficientnetv2-m_notop.h5",
    ),
    _EFFICIENTNET_V2(
        name="efficientnet_v2_l",
        builder="keras.applications.efficientnet_v2:EfficientNetV2L",
        image_size=480,
        stages=("block1d_add", "block2g_add", "block3g_add", "block5s_add", "top_activation"),
        num_parameters=117_746_848,
        weights_file="efficientnetv2-l_notop.h5",
    ),
    _CONVNEXT(
        name="convnext_tiny",
        builder="keras.applications.convnext:ConvNeXtTiny",
        stages=("add#2", "add#5", "add#14", "layer_normalization#0"),
        num_parameters=27_820_128,
        weights_file="convnext_tiny_notop.h5",
    ),
    _CONVNEXT(
        name="convnext_small",
        builder="keras.applications.convnext:ConvNeXtSmall",
        stages=("add#2", "add#5", "add#32", "layer_normalization#0"),
        num_parameters=49_454_688,
        weights_file="convnext_small_notop.h5",
    ),
    _CONVNEXT(
        name="convnext_base",
        builder="keras.applications.convnext:ConvNeXtBase",
        stages=("add#2", "add#5", "add#32", "layer_normalization#0"),
        num_parameters=87_566_464,
        weights_file="convnext_base_notop.h5",
    ),
    _CONVNEXT(
        name="convnext_large",
        builder="keras.applications.convnext:ConvNeXtLarge",
        stages=("add#2", "add#5", "add#32", "layer_normalization#0"),
        num_parameters=196_230_336,
        weights_file="convnext_large_notop.h5",
    ),
    _CONVNEXT(
        name="convnext_xlarge",
        builder="keras.applications.convnext:ConvNeXtXLarge",
        stages=("add#2", "add#5", "add#32", "layer_normalization#0"),
        num_parameters=348_147_968,
        weights_file="convnext_xlarge_notop.h5",
    ),
    # The bundled one: its weights travel in this package, under `bundled/`.
    Backbone(
        name="small_resnet",
        builder="tl_keras.models.bundled.network:SmallResNet",
        image_size=32,
        min_size=16,
        preprocessing="zero_to_one",
        stages=("stage1_out", "stage2_out", "stage3_out"),
        has_batchnorm=True,
        num_parameters=284_016,
        weights_file="small_resnet.weights.h5",
        paper="1812.01187",
        licence="Apache-2.0",
        source_task="cifar10",
    ),
)

BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}


def licence_of(backbone: str, weights: str) -> str | None:
    """The licence of the weights that a network began with; None where they are not those that this table knows."""
    row = BACKBONES.get(backbone)
    return row.licence if row is not None and weights in ("pretrained", "imagenet") else None
