"""Public material of the benchmarks, and an artifact of ours made of a public model."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from edge_sdk.artifact import Artifact
from edge_sdk.vision.preprocess import Crop, Preprocessing

ROOT = Path(__file__).resolve().parents[1]
PUBLIC_DATA = Path(os.environ.get("EDGECLS_TEST_DATA", ROOT.parent / "shared" / "data"))
GOLDEN = ROOT / "tests" / "golden"
MOBILENET = Path("models", "tf2_mobilenet_v2_1.0_224_ptq.tflite")
LABELS = Path("models", "imagenet_labels.txt")
CAT = Path("images", "cat_720p.jpg")


def write_mobilenet_artifact(path: Path, crop: Crop = "squash") -> None:
    """Makes an artifact of the public MobileNetV2 1.0 224, int8 per channel.

    Its input range is folded into the first convolution, so that it takes RGB 0..255 as our
    artifacts do.

    Args:
        path: the file to write.
        crop: how it wants its pictures.
    """
    from host_tools.package import Description, write_artifact

    labels = Artifact.open(PUBLIC_DATA / MOBILENET, labels=PUBLIC_DATA / LABELS).labels
    model = _taking_rgb((PUBLIC_DATA / MOBILENET).read_bytes())
    how = Preprocessing(224, 224, crop=crop)
    write_artifact(path, model, Description("MobileNetV2", "", "int8", labels, how, {}))


def _taking_rgb(flatbuffer: bytes) -> bytes:
    """The same network for RGB 0..255 instead of -1..1.

    With ``real = scale * (pixel - zero_point)``, the scale goes into the weights of the first
    convolution and the zero point into its biases; only its black border is new.
    """
    from host_tools.tflite import pack_model, unpack_model

    model = unpack_model(flatbuffer)
    graph = model.subgraphs[0]
    quantize, convolution = graph.operators[:2]
    pixels, stored = graph.tensors[quantize.inputs[0]], graph.tensors[quantize.outputs[0]]
    weights, biases = (graph.tensors[i] for i in convolution.inputs[1:3])
    scale, zero_point = pixels.quantization.scale[0], int(pixels.quantization.zeroPoint[0])

    weights.quantization.scale = np.asarray(weights.quantization.scale) * scale
    sums = np.frombuffer(bytes(model.buffers[weights.buffer].data), np.int8)
    sums = sums.reshape(weights.shape).sum(axis=(1, 2, 3), dtype=np.int32)
    old = np.frombuffer(bytes(model.buffers[biases.buffer].data), "<i4")
    model.buffers[biases.buffer].data = np.frombuffer(
        (old - zero_point * sums).astype("<i4").tobytes(), np.uint8
    )
    for tensor, zero in ((pixels, 0), (stored, -128)):
        tensor.quantization.scale, tensor.quantization.zeroPoint = [1.0], [zero]
    return pack_model(model)
