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
from typing import Any

PRESET_PREFIX = "keras_hub:"  # before the name of a preset of KerasHub, which has no row


@dataclass(frozen=True)
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


# fmt: off
_ROWS = (
    Backbone(
        "vgg16", "keras.applications.vgg16:VGG16", 224, 32, "caffe",
        ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
        False, 14_714_688, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5", "1409.1556", "CC-BY-4.0",
    ),
    Backbone(
        "vgg19", "keras.applications.vgg19:VGG19", 224, 32, "caffe",
        ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool"),
        False, 20_024_384, "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5", "1409.1556", "CC-BY-4.0",
    ),
    Backbone(
        "resnet50", "keras.applications.resnet:ResNet50", 224, 32, "caffe",
        ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out", "conv5_block3_out"),
        True, 23_587_712, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", "1512.03385", "MIT",
    ),
    Backbone(
        "resnet101", "keras.applications.resnet:ResNet101", 224, 32, "caffe",
        ("conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block23_out", "conv5_block3_out"),
        True, 42_658_176, "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5", "1512.03385", "MIT",
    ),
    Backbone(
        "resnet152", "keras.applications.resnet:ResNet152", 224, 32, "caffe",
        ("conv1_relu", "conv2_block3_out", "conv3_block8_out", "conv4_block36_out", "conv5_block3_out"),
        True, 58_370_944, "resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5", "1512.03385", "MIT",
    ),
    # In V2 the last block of each group halves the resolution, so it opens the next stage.
    Backbone(
        "resnet50_v2", "keras.applications.resnet_v2:ResNet50V2", 224, 32, "minus_one_to_one",
        ("conv1_conv", "conv2_block2_out", "conv3_block3_out", "conv4_block5_out", "post_relu"),
        True, 23_564_800, "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "1603.05027", "BSD-3-Clause",
    ),
    Backbone(
        "resnet101_v2", "keras.applications.resnet_v2:ResNet101V2", 224, 32, "minus_one_to_one",
        ("conv1_conv", "conv2_block2_out", "conv3_block3_out", "conv4_block22_out", "post_relu"),
        True, 42_626_560, "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "1603.05027", "BSD-3-Clause",
    ),
    Backbone(
        "resnet152_v2", "keras.applications.resnet_v2:ResNet152V2", 224, 32, "minus_one_to_one",
        ("conv1_conv", "conv2_block2_out", "conv3_block7_out", "conv4_block35_out", "post_relu"),
        True, 58_331_648, "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "1603.05027", "BSD-3-Clause",
    ),
    Backbone(
        "inception_v3", "keras.applications.inception_v3:InceptionV3", 299, 75, "minus_one_to_one",
        ("activation#2", "activation#4", "mixed2", "mixed7", "mixed10"),
        True, 21_802_784, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5", "1512.00567", "Apache-2.0",
    ),
    Backbone(
        "inception_resnet_v2", "keras.applications.inception_resnet_v2:InceptionResNetV2", 299, 75, "minus_one_to_one",
        ("activation#2", "activation#4", "block35_10_ac", "block17_20_ac", "conv_7b_ac"),
        True, 54_336_736, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5", "1602.07261", "Apache-2.0",
    ),
    Backbone(
        "xception", "keras.applications.xception:Xception", 299, 71, "minus_one_to_one",
        ("block1_conv2_act", "add#0", "add#1", "add#10", "block14_sepconv2_act"),
        True, 20_861_480, "xception_weights_tf_dim_ordering_tf_kernels_notop.h5", "1610.02357", "MIT",
    ),
    Backbone(
        "mobilenet", "keras.applications.mobilenet:MobileNet", 224, 32, "minus_one_to_one",
        ("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
        True, 3_228_864, "mobilenet_1_0_224_tf_no_top.h5", "1704.04861", "Apache-2.0",
    ),
    Backbone(
        "mobilenet_025", "keras.applications.mobilenet:MobileNet", 128, 32, "minus_one_to_one",
        ("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
        True, 218_544, "mobilenet_2_5_128_tf_no_top.h5", "1704.04861", "Apache-2.0",
        arguments={"alpha": 0.25},
    ),
    Backbone(
        "mobilenet_050", "keras.applications.mobilenet:MobileNet", 160, 32, "minus_one_to_one",
        ("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
        True, 829_536, "mobilenet_5_0_160_tf_no_top.h5", "1704.04861", "Apache-2.0",
        arguments={"alpha": 0.5},
    ),
    Backbone(
        "mobilenet_075", "keras.applications.mobilenet:MobileNet", 192, 32, "minus_one_to_one",
        ("conv_pw_1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu"),
        True, 1_832_976, "mobilenet_7_5_192_tf_no_top.h5", "1704.04861", "Apache-2.0",
        arguments={"alpha": 0.75},
    ),
    Backbone(
        "mobilenet_v2", "keras.applications.mobilenet_v2:MobileNetV2", 224, 32, "minus_one_to_one",
        ("expanded_conv_project_BN", "block_2_add", "block_5_add", "block_12_add", "out_relu"),
        True, 2_257_984, "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", "1801.04381", "Apache-2.0",
    ),
    Backbone(
        "mobilenet_v3_small", "keras.applications:MobileNetV3Small", 224, 32, "none",
        ("activation#0", "expanded_conv_project_bn", "expanded_conv_2_add", "expanded_conv_7_add", "activation#17"),
        True, 939_120, "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", "1905.02244", "Apache-2.0",
    ),
    Backbone(
        "mobilenet_v3_large", "keras.applications:MobileNetV3Large", 224, 32, "none",
        ("expanded_conv_add", "expanded_conv_2_add", "expanded_conv_5_add", "expanded_conv_11_add", "activation#19"),
        True, 2_996_352, "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", "1905.02244", "Apache-2.0",
    ),
    Backbone(
        "densenet121", "keras.applications.densenet:DenseNet121", 224, 32, "torch",
        ("conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"),
        True, 7_037_504, "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5", "1608.06993", "BSD-3-Clause",
    ),
    Backbone(
        "densenet169", "keras.applications.densenet:DenseNet169", 224, 32, "torch",
        ("conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"),
        True, 12_642_880, "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5", "1608.06993", "BSD-3-Clause",
    ),
    Backbone(
        "densenet201", "keras.applications.densenet:DenseNet201", 224, 32, "torch",
        ("conv1_relu", "pool2_conv", "pool3_conv", "pool4_conv", "relu"),
        True, 18_321_984, "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5", "1608.06993", "BSD-3-Clause",
    ),
    # A cell reads the two cells before it: no single tensor separates these stages, but the first and the last.
    Backbone(
        "nasnet_mobile", "keras.applications.nasnet:NASNetMobile", 224, 32, "minus_one_to_one",
        ("stem_bn1", "reduction_concat_stem_1", "normal_concat_3", "normal_concat_8", "activation#187"),
        True, 4_269_716, "nasnet_mobile_no_top.h5", "1707.07012", "Apache-2.0",
    ),
    Backbone(
        "nasnet_large", "keras.applications.nasnet:NASNetLarge", 331, 32, "minus_one_to_one",
        ("stem_bn1", "reduction_concat_stem_1", "normal_concat_5", "normal_concat_12", "activation#259"),
        True, 84_916_818, "nasnet_large_no_top.h5", "1707.07012", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b0", "keras.applications.efficientnet:EfficientNetB0", 224, 32, "none",
        ("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "top_activation"),
        True, 4_049_571, "efficientnetb0_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b1", "keras.applications.efficientnet:EfficientNetB1", 240, 32, "none",
        ("block1b_add", "block2c_add", "block3c_add", "block5d_add", "top_activation"),
        True, 6_575_239, "efficientnetb1_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b2", "keras.applications.efficientnet:EfficientNetB2", 260, 32, "none",
        ("block1b_add", "block2c_add", "block3c_add", "block5d_add", "top_activation"),
        True, 7_768_569, "efficientnetb2_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b3", "keras.applications.efficientnet:EfficientNetB3", 300, 32, "none",
        ("block1b_add", "block2c_add", "block3c_add", "block5e_add", "top_activation"),
        True, 10_783_535, "efficientnetb3_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b4", "keras.applications.efficientnet:EfficientNetB4", 380, 32, "none",
        ("block1b_add", "block2d_add", "block3d_add", "block5f_add", "top_activation"),
        True, 17_673_823, "efficientnetb4_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b5", "keras.applications.efficientnet:EfficientNetB5", 456, 32, "none",
        ("block1c_add", "block2e_add", "block3e_add", "block5g_add", "top_activation"),
        True, 28_513_527, "efficientnetb5_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b6", "keras.applications.efficientnet:EfficientNetB6", 528, 32, "none",
        ("block1c_add", "block2f_add", "block3f_add", "block5h_add", "top_activation"),
        True, 40_960_143, "efficientnetb6_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_b7", "keras.applications.efficientnet:EfficientNetB7", 600, 32, "none",
        ("block1d_add", "block2g_add", "block3g_add", "block5j_add", "top_activation"),
        True, 64_097_687, "efficientnetb7_notop.h5", "1905.11946", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_b0", "keras.applications.efficientnet_v2:EfficientNetV2B0", 224, 32, "none",
        ("block1a_project_activation", "block2b_add", "block3b_add", "block5e_add", "top_activation"),
        True, 5_919_312, "efficientnetv2-b0_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_b1", "keras.applications.efficientnet_v2:EfficientNetV2B1", 240, 32, "none",
        ("block1b_add", "block2c_add", "block3c_add", "block5f_add", "top_activation"),
        True, 6_931_124, "efficientnetv2-b1_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_b2", "keras.applications.efficientnet_v2:EfficientNetV2B2", 260, 32, "none",
        ("block1b_add", "block2c_add", "block3c_add", "block5f_add", "top_activation"),
        True, 8_769_374, "efficientnetv2-b2_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_b3", "keras.applications.efficientnet_v2:EfficientNetV2B3", 300, 32, "none",
        ("block1b_add", "block2c_add", "block3c_add", "block5g_add", "top_activation"),
        True, 12_930_622, "efficientnetv2-b3_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_s", "keras.applications.efficientnet_v2:EfficientNetV2S", 384, 32, "none",
        ("block1b_add", "block2d_add", "block3d_add", "block5i_add", "top_activation"),
        True, 20_331_360, "efficientnetv2-s_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_m", "keras.applications.efficientnet_v2:EfficientNetV2M", 480, 32, "none",
        ("block1c_add", "block2e_add", "block3e_add", "block5n_add", "top_activation"),
        True, 53_150_388, "efficientnetv2-m_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "efficientnet_v2_l", "keras.applications.efficientnet_v2:EfficientNetV2L", 480, 32, "none",
        ("block1d_add", "block2g_add", "block3g_add", "block5s_add", "top_activation"),
        True, 117_746_848, "efficientnetv2-l_notop.h5", "2104.00298", "Apache-2.0",
    ),
    Backbone(
        "convnext_tiny", "keras.applications.convnext:ConvNeXtTiny", 224, 32, "none",
        ("add#2", "add#5", "add#14", "layer_normalization#0"),
        False, 27_820_128, "convnext_tiny_notop.h5", "2201.03545", "MIT",
    ),
    Backbone(
        "convnext_small", "keras.applications.convnext:ConvNeXtSmall", 224, 32, "none",
        ("add#2", "add#5", "add#32", "layer_normalization#0"),
        False, 49_454_688, "convnext_small_notop.h5", "2201.03545", "MIT",
    ),
    Backbone(
        "convnext_base", "keras.applications.convnext:ConvNeXtBase", 224, 32, "none",
        ("add#2", "add#5", "add#32", "layer_normalization#0"),
        False, 87_566_464, "convnext_base_notop.h5", "2201.03545", "MIT",
    ),
    Backbone(
        "convnext_large", "keras.applications.convnext:ConvNeXtLarge", 224, 32, "none",
        ("add#2", "add#5", "add#32", "layer_normalization#0"),
        False, 196_230_336, "convnext_large_notop.h5", "2201.03545", "MIT",
    ),
    Backbone(
        "convnext_xlarge", "keras.applications.convnext:ConvNeXtXLarge", 224, 32, "none",
        ("add#2", "add#5", "add#32", "layer_normalization#0"),
        False, 348_147_968, "convnext_xlarge_notop.h5", "2201.03545", "MIT",
    ),
    # The bundled one: its weights travel in this package, under `bundled/`.
    Backbone(
        "small_resnet", "tl_keras.models.bundled.network:SmallResNet", 32, 16, "zero_to_one",
        ("stage1_out", "stage2_out", "stage3_out"),
        True, 284_016, "small_resnet.weights.h5", "1812.01187", "Apache-2.0", source_task="cifar10",
    ),
)
# fmt: on

BACKBONES: dict[str, Backbone] = {row.name: row for row in _ROWS}
