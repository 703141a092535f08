"""What the graph of an untrusted SavedModel may do: compute numbers from numbers, and nothing else.

Loading and calling a SavedModel runs whatever operations its author put into it, and TensorFlow has some that read and write
files, open connections and call Python. Here its graph is read as data, before TensorFlow is given it, and every operation
that can run must be on the list below. `hub_layer` asks; what the user is told is `hub`'s.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

CALLS = "PartitionedCall StatefulPartitionedCall If While Case StatelessIf StatelessWhile StatelessCase For Switch Merge Enter Exit"
FLOW = "NextIteration LoopCond Identity IdentityN NoOp Placeholder PlaceholderV2 PlaceholderWithDefault ControlTrigger StopGradient"
CHECKS = "Assert CheckNumerics CheckNumericsV2 EnsureShape PreventGradient GuaranteeConst Snapshot FakeParam ToBool"
VARIABLES = """
VarHandleOp ReadVariableOp AssignVariableOp AssignAddVariableOp AssignSubVariableOp VarIsInitializedOp VariableShape DestroyResourceOp
DisableCopyOnRead ResourceGather ResourceGatherNd Variable VariableV2 Assign AssignAdd AssignSub IsVariableInitialized
"""
ARRAYS = """
Const Shape ShapeN Size Rank Reshape Squeeze ExpandDims Transpose ConjugateTranspose Concat ConcatV2 ConcatOffset Split SplitV Pack Unpack
Stack Slice StridedSlice Gather GatherV2 GatherNd ScatterNd TensorScatterUpdate TensorScatterAdd TensorScatterSub TensorScatterMax
TensorScatterMin Tile Fill ZerosLike OnesLike Range LinSpace Reverse ReverseV2 ReverseSequence Roll Pad PadV2 MirrorPad BroadcastTo
BroadcastArgs BroadcastGradientArgs Where Select SelectV2 OneHot Unique UniqueV2 Cast Bitcast InvertPermutation DynamicPartition
DynamicStitch ParallelDynamicStitch SpaceToDepth DepthToSpace SpaceToBatch SpaceToBatchND BatchToSpace BatchToSpaceND MatrixDiag
MatrixDiagV2 MatrixDiagV3 MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3 MatrixBandPart
Diag DiagPart Empty InplaceUpdate UnravelIndex Bucketize Bincount DenseBincount TensorStridedSliceUpdate
"""
LISTS = """
EmptyTensorList TensorListReserve TensorListSetItem TensorListGetItem TensorListPushBack TensorListPopBack TensorListStack
TensorListLength TensorListFromTensor TensorListElementShape TensorListConcat TensorListConcatV2 TensorListGather TensorListResize
TensorListSplit TensorArrayV3 TensorArrayReadV3 TensorArrayWriteV3 TensorArrayGatherV3 TensorArrayScatterV3 TensorArraySizeV3
TensorArrayConcatV3 TensorArraySplitV3 TensorArrayCloseV3
"""
MATHS = """
Abs Acos Acosh Add AddN AddV2 AccumulateNV2 All Angle Any ApproximateEqual ArgMax ArgMin Asin Asinh Atan Atan2 Atanh BatchMatMul
BatchMatMulV2 BatchMatMulV3 BitwiseAnd BitwiseOr BitwiseXor Ceil ClipByValue Complex ComplexAbs Conj Cos Cosh Cross Cumprod Cumsum
CumulativeLogsumexp Digamma Div DivNoNan Einsum Equal Erf Erfc Erfinv EuclideanNorm Exp Expm1 FFT FFT2D Floor FloorDiv FloorMod Greater
GreaterEqual IFFT IFFT2D IRFFT IRFFT2D Imag Inv Invert IsFinite IsInf IsNan L2Loss LeftShift Less LessEqual Lgamma Log Log1p LogicalAnd
LogicalNot LogicalOr MatMul MatrixInverse Max Maximum Mean Min Minimum Mod Mul MulNoNan Ndtri Neg NextAfter NotEqual Pow Prod RFFT RFFT2D
Real RealDiv Reciprocal RightShift Rint Round Rsqrt SegmentMax SegmentMean SegmentMin SegmentProd SegmentSum Sign Sin Sinh Sqrt Square
SquaredDifference Sub Sum Svd Tan TopK TopKV2 TruncateDiv TruncateMod UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd
UnsortedSegmentSum Xdivy Xlog1py Xlogy InTopK InTopKV2 NthElement Cholesky Qr
"""
NETWORKS = """
AvgPool AvgPool3D BatchNormWithGlobalNormalization BiasAdd BiasAddV1 Conv Conv2D Conv2DBackpropInput Conv2DBackpropInputV2 Conv3D
DataFormatDimMap DataFormatVecPermute DepthwiseConv2dNative DepthwiseConv2dNativeBackpropInput Dilation2D Elu FakeQuantWithMinMaxArgs
FakeQuantWithMinMaxVars FakeQuantWithMinMaxVarsPerChannel FractionalAvgPool FractionalMaxPool FusedBatchNorm FusedBatchNormV2
FusedBatchNormV3 FusedPadConv2D FusedResizeAndPadConv2D LRN LeakyRelu LogSoftmax MaxPool MaxPool3D MaxPoolV2 MaxPoolWithArgmax QuantizeV2
QuantizeAndDequantize QuantizeAndDequantizeV2 QuantizeAndDequantizeV3 QuantizeAndDequantizeV4 Dequantize Relu Relu6 Selu Sigmoid Softmax
Softplus Softsign Tanh
"""
IMAGES = """
AdjustContrast AdjustContrastv2 AdjustHue AdjustSaturation CropAndResize DecodeAndCropJpeg DecodeBmp DecodeGif DecodeImage DecodeJpeg
DecodePng DecodeRaw DecodeWebP DrawBoundingBoxes ExtractGlimpse ExtractGlimpseV2 ExtractImagePatches ExtractJpegShape HSVToRGB
ImageProjectiveTransformV2 ImageProjectiveTransformV3 RGBToHSV ResizeArea ResizeBicubic ResizeBilinear ResizeNearestNeighbor
SampleDistortedBoundingBoxV2 StatelessSampleDistortedBoundingBox ScaleAndTranslate NonMaxSuppression NonMaxSuppressionV3
NonMaxSuppressionV4 NonMaxSuppressionV5 CombinedNonMaxSuppression
"""
RANDOM = """
Multinomial RandomStandardNormal RandomUniform RandomUniformInt RandomShuffle RandomGamma TruncatedNormal StatelessMultinomial
StatelessRandomGetAlg StatelessRandomGetKeyCounter StatelessRandomGetKeyCounterAlg StatelessRandomNormal StatelessRandomNormalV2
StatelessRandomUniform StatelessRandomUniformFullInt StatelessRandomUniformFullIntV2 StatelessRandomUniformInt StatelessRandomUniformIntV2
StatelessRandomUniformV2 StatelessTruncatedNormal StatelessTruncatedNormalV2 StatelessShuffle RngReadAndSkip RngSkip StatefulUniform
StatefulUniformInt StatefulStandardNormalV2 StatefulTruncatedNormal
"""
TEXTS = "StringJoin StringFormat AsString StringLength Substr RegexFullMatch StaticRegexFullMatch Fingerprint"
ALLOWED = frozenset(" ".join((CALLS, FLOW, CHECKS, VARIABLES, ARRAYS, LISTS, MATHS, NETWORKS, IMAGES, RANDOM, TEXTS)).split())
RESTORES = frozenset({"RestoreV2", "RestoreSlice", "Restore"})  # what reads the variables of a SavedModel of TensorFlow 1 when it is loaded
SAVES = frozenset({"SaveV2", "SaveSlices", "Save", "MergeV2Checkpoints", "ShardedFilename"})  # which nobody runs here
IMPLEMENTS = "api_implements"  # the attribute of functions that may stand for each other, as those of an LSTM for processors and for GPUs
INIT_COLLECTIONS = ("legacy_init_op", "saved_model_main_op")  # nodes that TensorFlow runs when it loads such a SavedModel


def refused_operations(saved_model: Path) -> list[str]:
    """As `refused_in`, of a `saved_model.pb`.

    Raises:
        OSError, ValueError: the file cannot be read as a SavedModel.
    """
    return refused_in(saved_model.read_bytes())


def refused_in(content: bytes) -> list[str]:
    """Names of the operations in a SavedModel's graph that can run and are not on the list, sorted; empty where it is safe to load.

    What only saves and restores variables is not looked at where TensorFlow does not run it: in a SavedModel of TensorFlow 2.

    Args:
        content: of its `saved_model.pb`.

    Raises:
        ValueError: it is damaged.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    found = SavedModel()
    try:
        found.ParseFromString(content)
    except DecodeError as error:
        raise ValueError("its graph is damaged") from error
    by_name = len(found.meta_graphs) == 1 and bool(found.meta_graphs[0].object_graph_def.nodes)  # TensorFlow decides so, too
    return sorted({name for graph in found.meta_graphs for name in _running(graph, by_name) if name not in ALLOWED})


def _running(graph: Any, by_name: bool) -> Iterator[str]:
    """The operations of one meta graph that loading or calling it can run.

    Args:
        by_name: it is of TensorFlow 2, which loads functions by name and leaves the nodes outside of them alone.
    """
    library = graph.graph_def.library
    functions = {function.signature.name: function for function in library.function}
    if by_name:
        gradients = [each.gradient_func for each in (*library.gradient, *library.registered_gradients)]
        roots = {*graph.object_graph_def.concrete_functions, *gradients, *_named(graph.object_graph_def.nodes)}
        outside: Iterable[Any] = ()
    else:
        roots, outside = set(), _without_restore(graph)
    yield from _reached(roots, outside, functions)


def _named(nodes: Iterable[Any]) -> Iterator[str]:
    """The functions that objects name, which need not be among those that the object graph describes."""
    for node in nodes:
        yield node.bare_concrete_function.concrete_function_name
        yield from node.function.concrete_functions


def _without_restore(graph: Any) -> Iterator[Any]:
    """The nodes of a graph of TensorFlow 1, but for those that do nothing but save and restore its own variables."""
    nodes = {node.name: node for node in graph.graph_def.node}
    outputs = [tensor.name for signature in graph.signature_def.values() for tensor in signature.outputs.values()]
    begun = [name for key in INIT_COLLECTIONS for name in graph.collection_def[key].node_list.value]
    called = _inputs_of([*outputs, *begun], nodes)
    restoring = _inputs_of([graph.saver_def.restore_op_name], nodes)
    saving = _inputs_of([graph.saver_def.save_tensor_name], nodes)
    for name, node in nodes.items():
        restores = node.op in RESTORES and name in restoring - called
        saves = node.op in SAVES and name in saving - called - restoring
        if not (restores or saves):
            yield node


def _inputs_of(names: Iterable[str], nodes: Mapping[str, Any]) -> set[str]:
    """All that some nodes depend on, themselves included."""
    waiting, seen = [name.lstrip("^").partition(":")[0] for name in names], set[str]()
    while waiting:
        name = waiting.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            waiting += [each.lstrip("^").partition(":")[0] for each in nodes[name].input]
    return seen


def _reached(roots: set[str], outside: Iterable[Any], functions: Mapping[str, Any]) -> Iterator[str]:
    """The operations of some nodes and functions, and of all functions that they call or that TensorFlow may call in their place."""
    from tensorflow.python.framework import op_def_registry

    waiting, seen = [*roots], set[str]()
    alike: dict[bytes, list[str]] = {}
    for name, function in functions.items():
        alike.setdefault(_interface(function), []).append(name)

    def look(nodes: Iterable[Any]) -> Iterator[str]:
        for node in nodes:
            waiting.extend(_called(node, functions))
            if node.op not in functions or op_def_registry.get(node.op) is not None:  # a function may have the name of an operation
                yield node.op

    yield from look(outside)
    while waiting:
        name = waiting.pop()
        if name not in seen and name in functions:
            seen.add(name)
            yield from look(functions[name].node_def)
            waiting.extend(_named_by(functions[name].attr, functions))
            waiting.extend(alike[_interface(functions[name])] if _interface(functions[name]) else ())


def _called(node: Any, functions: Mapping[str, Any]) -> Iterator[str]:
    """The functions that a node calls or is given."""
    if node.op in functions:
        yield node.op
    yield from _named_by(node.attr, functions)


def _named_by(attributes: Mapping[str, Any], functions: Mapping[str, Any]) -> Iterator[str]:
    """The functions that attributes of a node or of a function name, as such or as texts."""
    for value in attributes.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (each.name for each in value.list.func)
        texts = (text.decode(errors="replace") for text in (value.s, *value.list.s))
        yield from (text for text in texts if text in functions)


def _interface(function: Any) -> bytes:
    """What a function says that it implements: TensorFlow's optimiser replaces it by another that says the same, as it likes a device."""
    return bytes(function.attr[IMPLEMENTS].s) if IMPLEMENTS in function.attr else b""
