"""Keras to ``.onnx``, in float32 and as int8 in the QDQ form that every ONNX runtime supports.

tf2onnx translates the graph; ONNX Runtime folds constants and quantises. The softmax is appended
last, so that it stays in float.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import edge_sdk
from edge_sdk.artifact.onnx import PRODUCER
from edge_sdk.errors import ConversionError
from host_tools.extras import muted, require
from host_tools.progress import progress, working

FORMATS = ("onnx", "onnx-int8")

# The first opset with everything we write, and the IR version that goes with it: ONNX Runtime 1.13
# and later read both.
_OPSET, _IR_VERSION = 17, 8
_IMAGE, _PROBABILITIES = "image", "probabilities"


def to_onnx(logits: Any, calibration: NDArray[np.uint8] | None = None) -> bytes:
    """Converts a Keras network to ONNX and appends a float softmax.

    Args:
        logits: a ``keras.Model`` from ``(1, H, W, C)`` RGB 0..255 to logits ``(1, classes)``.
        calibration: ``(N, H, W, C)`` uint8 pictures, the last two black and white, to quantise with:
            weights per channel, int8 and symmetric, activations uint8 from the lowest to the highest
            value seen. None: float32.

    Returns:
        An ONNX model with one input ``(1, H, W, C)``, float32, or uint8 where it is quantised, and
        one output, float32 probabilities ``(1, classes)``.

    Raises:
        ConversionError: an operator that ONNX lacks.
    """
    with tempfile.TemporaryDirectory(prefix="edgecls-onnx-") as name:
        folder = Path(name)
        model = _folded(_translated(logits), folder)
        if calibration is not None:
            model = _quantised(model, calibration, folder)
            _take_bytes(model)
    _append_softmax(model)
    return _sealed(model)


def _translated(logits: Any) -> Any:
    """The network in ONNX, as tf2onnx writes it."""
    tensorflow, tf2onnx = require("tensorflow"), require("tf2onnx")
    signature = [tensorflow.TensorSpec(logits.inputs[0].shape, tensorflow.float32, name=_IMAGE)]
    try:
        with working("converting to ONNX"), warnings.catch_warnings(), muted():
            warnings.simplefilter("ignore")
            model, _ = tf2onnx.convert.from_keras(logits, signature, opset=_OPSET)
    except Exception as error:  # tf2onnx raises exceptions of TensorFlow and of its own parts
        raise ConversionError(
            f"{logits.name}: tf2onnx cannot express the model in ONNX ({_first_line(error)}); choose "
            "another --format"
        ) from error
    unknown = {node.op_type for node in model.graph.node if node.domain not in ("", "ai.onnx")}
    if unknown:
        raise ConversionError(
            f"{logits.name}: ONNX has no {', '.join(sorted(unknown))}; choose another --format"
        )
    return model


def _folded(model: Any, folder: Path) -> Any:
    """The same function with batch normalisation in the convolutions and constants computed.

    Only optimisations that leave standard operators: ONNX Runtime adds machine-specific ones
    when it loads the file.
    """
    onnx, runtime = require("onnx"), require("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "folded.onnx")
    options.log_severity_level = 4
    try:
        runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no class in common
        raise ConversionError(
            f"ONNX Runtime refuses the model that tf2onnx made ({_first_line(error)}); choose "
            "another --format"
        ) from error
    folded = onnx.load(options.optimized_model_filepath)
    _name_by_order(folded.graph)
    return folded


def _name_by_order(graph: Any) -> None:
    """Names nodes by kind and place: Keras' names depend on what the process traced before."""
    if any(
        attribute.HasField("g") or attribute.graphs for n in graph.node for attribute in n.attribute
    ):
        return  # inner graphs see the names of outer ones; classifiers have none
    names = {"": "", graph.input[0].name: _IMAGE}
    for place, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{place}"
        for slot, name in enumerate(node.input):  # not named so far: a constant
            node.input[slot] = names.setdefault(name, f"{node.name}_constant_{slot}")
        for slot, name in enumerate(node.output):
            names.setdefault(name, f"{node.name}_{slot}" if slot else node.name)
            node.output[slot] = names[name]
    order = {name: place for place, name in enumerate(names)}
    constants = sorted(
        (t for t in graph.initializer if t.name in order), key=lambda t: order[t.name]
    )
    for tensor in constants:
        tensor.name = names[tensor.name]
    del graph.initializer[:], graph.value_info[:]
    graph.initializer.extend(constants)
    graph.input[0].name, graph.output[0].name = _IMAGE, names[graph.output[0].name]


def _quantised(model: Any, calibration: NDArray[np.uint8], folder: Path) -> Any:
    onnx = require("onnx")
    quantization = require("onnxruntime.quantization")
    # Marks constants as folded, or the quantiser warns.
    require("onnxruntime.quantization.quant_utils").add_pre_process_metadata(model)
    # Quantised tensors are named after these, and what follows looks for the input by its name.
    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(model, source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantization.quantize_static(
            source,
            target,
            _reader(model.graph.input[0].name, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            # uint8 activations: ONNX Runtime has int8 kernels for them on every processor. With int8
            # ones, convolutions of a small ResNet stayed in float on x86, 1.5 times as slow.
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    return onnx.load(target)


def _reader(name: str, calibration: NDArray[np.uint8]) -> Any:
    """The pictures in the reader interface of ONNX Runtime's quantiser."""
    base: Any = require("onnxruntime.quantization").CalibrationDataReader

    class Reader(base):  # type: ignore[misc]  # of a package without types
        def __init__(self) -> None:
            self._pictures: Iterator[NDArray[np.uint8]] = iter(
                progress(calibration, "calibrating", len(calibration))
            )

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            pixels = next(self._pictures, None)
            return None if pixels is None else {name: pixels[np.newaxis].astype(np.float32)}

    return Reader()


def _take_bytes(model: Any) -> None:
    """Makes the input uint8: in place of its quantisation where that is the identity, else by a cast.

    With a black and a white picture among the calibration pictures the scale is 1 and the zero point
    0, so the pixels are the quantised values already.
    """
    onnx = require("onnx")
    graph = model.graph
    image = graph.input[0]
    image.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users = [node for node in graph.node if image.name in node.input]
    if all(_is_identity(node, constants) for node in users):
        renamed = {node.output[0] for node in users}
        for node in users:
            graph.node.remove(node)
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name in renamed:
                    node.input[index] = image.name
        return
    cast = f"{image.name}_float"
    for node in users:
        for index, name in enumerate(node.input):
            if name == image.name:
                node.input[index] = cast
    graph.node.insert(
        0, onnx.helper.make_node("Cast", [image.name], [cast], cast, to=onnx.TensorProto.FLOAT)
    )


def _is_identity(node: Any, constants: dict[str, NDArray[Any]]) -> bool:
    if node.op_type != "QuantizeLinear" or len(node.input) != 3:
        return False
    scale, zero_point = (constants.get(name) for name in node.input[1:])
    if scale is None or zero_point is None or zero_point.dtype != np.uint8:
        return False
    return bool(scale.size == 1 and scale == 1 and zero_point == 0)


def _append_softmax(model: Any) -> None:
    onnx = require("onnx")
    graph = model.graph
    logits = graph.output[0].name
    graph.node.append(
        onnx.helper.make_node("Softmax", [logits], [_PROBABILITIES], _PROBABILITIES, axis=-1)
    )
    graph.output[0].name = _PROBABILITIES


def _sealed(model: Any) -> bytes:
    """The file without the tools' own metadata; the same model gives the same bytes."""
    onnx = require("onnx")
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = PRODUCER, edge_sdk.__version__
    model.graph.name, model.graph.doc_string, model.doc_string = "classifier", "", ""
    del model.metadata_props[:]
    used = {node.domain for node in model.graph.node}
    for entry in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(entry)
    # Intermediate shapes: readers infer them, and the quantiser leaves wrong ones.
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    sealed: bytes = model.SerializeToString(deterministic=True)
    return sealed


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
