"""From an int8 artifact to the same artifact compiled for the Edge TPU.

TensorFlow's converter writes dense layers with a scale per output since 2024. The compiler is of
2021; the TensorFlow Lite in it reads one scale per dense layer and accepts such a file silently
(TensorFlow Lite Micro had the same fault: "using incorrect quantization parameters",
tensorflow/tflite-micro pull request 2602). The numbers here are those of the converter's own switch,
``_experimental_disable_per_channel_quantization_for_dense_layers``, within one unit of rounding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_sdk.artifact.container import Container, read_container
from edge_sdk.artifact.manifest import SelfTest
from edge_sdk.artifact.tflite import EDGETPU_OPERATOR
from edge_sdk.errors import ConversionError, CorruptArtifactError
from host_tools.edgetpu.check import EdgeTpuCheck, check
from host_tools.edgetpu.compiler import TIMEOUT_S, CompilerReport, compile_model
from host_tools.edgetpu.rules import UNPACK_DAMAGE
from host_tools.package import write_variant
from host_tools.quantize.trial import answers_of
from host_tools.tflite import pack_model, schema, unpack_model


def one_scale_per_dense(model: bytes, name: str) -> tuple[bytes, int]:
    """Gives the int8 weights of every dense layer a single scale.

    With scales ``s_c`` and stored weights ``q_c`` of output c, the single scale is ``s = max s_c``
    and the weights become ``round(q_c s_c / s)``; biases, whose scale is the input's times the
    weights', follow. Weights of outputs with small scales lose resolution, as they had before 2024.

    Args:
        model: a ``.tflite`` flatbuffer.
        name: what to call it in errors.

    Returns:
        The flatbuffer, the same bytes where there is nothing to do, and how many layers changed.

    Raises:
        CorruptArtifactError: a damaged flatbuffer.
    """
    try:
        unpacked = unpack_model(model)
        changed = _rescale(unpacked)
        return (pack_model(unpacked) if changed else model), changed
    except UNPACK_DAMAGE as error:
        raise CorruptArtifactError(
            f"{name}: the model is truncated or damaged ({error}); copy or convert it again"
        ) from error


def _rescale(model: Any) -> int:
    module = schema()
    graph = model.subgraphs[0]
    changed = 0
    for node in graph.operators:
        code = model.operatorCodes[node.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number != module.BuiltinOperator.FULLY_CONNECTED:
            continue
        source, weights = (graph.tensors[i] for i in node.inputs[:2])
        scales = _scales(weights)
        if weights.type != module.TensorType.INT8 or len(scales) < 2:
            continue
        scale = float(scales.max())
        stored = _content(model, weights, np.int8).reshape(len(scales), -1)
        _replace(model, weights, np.rint(stored * (scales / scale)[:, np.newaxis]), np.int8, scale)
        if len(node.inputs) > 2 and node.inputs[2] >= 0:
            bias = graph.tensors[node.inputs[2]]
            bias_scale = float(_scales(source)[0]) * scale
            values = _content(model, bias, np.int32) * (_scales(bias) / bias_scale)
            _replace(model, bias, np.rint(values), np.int32, bias_scale)
        changed += 1
    return changed


def _scales(tensor: Any) -> Any:
    scale = tensor.quantization.scale if tensor.quantization else None
    return np.asarray([] if scale is None else scale, np.float64)


def _content(model: Any, tensor: Any, dtype: type) -> Any:
    content = bytes(np.asarray(model.buffers[tensor.buffer].data, np.uint8))
    return np.frombuffer(content, dtype).astype(np.float64)


def _replace(model: Any, tensor: Any, values: Any, dtype: type, scale: float) -> None:
    # A buffer of its own: other tensors may share the old one.
    buffer = schema().BufferT()
    buffer.data = np.frombuffer(values.astype(dtype).tobytes(), np.uint8)
    tensor.buffer = len(model.buffers)
    model.buffers.append(buffer)
    tensor.quantization.scale = np.array([scale], np.float32)
    tensor.quantization.zeroPoint = np.array([0], np.int64)
    tensor.quantization.quantizedDimension = 0


_SUFFIX = "_edgetpu"


@dataclass(frozen=True, slots=True)
class CompiledArtifact:
    """A written file, and the compiler's report on it."""

    path: Path
    report: CompilerReport


def check_file(path: Path) -> tuple[EdgeTpuCheck, int]:
    """Predicts the compiler's verdict on a file as ``compile_artifact`` passes it on.

    Returns:
        The check, and how many dense layers are given one scale before it.

    Raises:
        ArtifactError: no such file, or a bad one.
        ConversionError: it is compiled already, or no ``.tflite``.
    """
    container = read_container(path)
    _check_tflite(path, container)
    prepared, changed = one_scale_per_dense(container.data[: container.model_bytes], str(path))
    return check(prepared, str(path)), changed


def compile_artifact(
    path: Path,
    compiler: Path,
    *,
    out: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    note: Callable[[str], None],
) -> CompiledArtifact:
    """Compiles an int8 artifact of ours and writes the result as an artifact.

    Labels, preprocessing, threshold and TFLite Metadata are the int8 artifact's; the answers of the
    self-test are those of the very model the compiler was given, computed on the CPU. Validation
    figures are not copied: the compiled file has not been measured.

    Args:
        path: ``<name>_int8.tflite``.
        compiler: from ``find_compiler``.
        out: folder for ``<name>_int8_edgetpu.tflite``; None: beside ``path``.
        timeout_s: seconds that the compiler may take.
        note: called with each message for the user.

    Raises:
        ArtifactError: no such file, or a bad one.
        ConversionError: not an int8 artifact of ours, or the compiler does not compile it.
        WriteError: the disk is full.
    """
    source = read_container(path)
    _check_kind(path, source)
    model, changed = one_scale_per_dense(source.data[: source.model_bytes], str(path))
    if changed:
        note(
            f"{changed} dense {'layers were' if changed > 1 else 'layer was'} given one scale for all "
            "weights, as the compiler expects"
        )
    note(f"compiling {path} for the Edge TPU")
    try:
        compiled, report = compile_model(model, compiler, timeout_s=timeout_s)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}{_check_summary(model, path)}") from error
    assert source.manifest is not None  # checked above
    kept = {k: v for k, v in source.manifest.provenance.items() if k != "validation"}
    record = {
        **report.to_json(),
        "dense_layers_rescaled": changed,
        "source_sha256": hashlib.sha256(source.data).hexdigest(),
    }
    written = (out or path.parent) / f"{path.stem}{_SUFFIX}.tflite"
    answers = _answers(model, source.manifest.selftest)
    write_variant(written, compiled, source, answers, {**kept, "edgetpu": record})
    note(f"wrote {written}, {written.stat().st_size:,} bytes")
    return CompiledArtifact(written, report)


def _check_tflite(path: Path, source: Container) -> None:
    if source.kind != "tflite":
        raise ConversionError(
            f"{path}: an {source.kind.upper()} file; the Edge TPU compiler reads int8 .tflite files: "
            "give the one that edgecls convert --format int8 writes"
        )


def _check_kind(path: Path, source: Container) -> None:
    _check_tflite(path, source)
    if EDGETPU_OPERATOR in source.summary.operators:
        raise ConversionError(
            f"{path}: is compiled for the Edge TPU already; give the int8 file it was made from"
        )
    if source.manifest is None:
        raise ConversionError(
            f"{path}: not an artifact of edgecls, so there are no labels to carry over; run "
            "edgetpu_compiler on it yourself, and give --labels where it is run"
        )
    if source.manifest.format != "int8":
        raise ConversionError(
            f"{path}: a {source.manifest.format} artifact; the Edge TPU computes with 8 bits: edgecls "
            "convert MODEL --data DIR --format int8 --edgetpu"
        )


def _check_summary(model: bytes, path: Path) -> str:
    refused = check(model, str(path)).refused
    if not refused:
        return f"; for the verdict on each operator: edgecls edgetpu check {path}"
    reasons = "; ".join(sorted({f"{o.operator}: {o.reason}; {o.remedy}" for o in refused}))
    return f". The verdict of edgecls edgetpu check: {reasons}"


def _answers(model: bytes, selftest: SelfTest) -> SelfTest:
    return SelfTest(selftest.pixels, np.stack(answers_of(model, [*selftest.pixels], "int8")))
