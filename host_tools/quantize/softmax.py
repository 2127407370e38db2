"""Appends a float softmax to a converted model.

TensorFlow's converter would quantise a softmax with everything else, to steps of 1/256. So the
logits are converted, and the softmax is added to the flatbuffer behind them.
"""

from __future__ import annotations

from edge_sdk.errors import ConversionError
from host_tools.tflite import pack_model, schema, unpack_model


def append_softmax(flatbuffer: bytes) -> bytes:
    """The same model with a SOFTMAX operator behind its float32 output ``(1, classes)``.

    Raises:
        ConversionError: the output is not float32.
    """
    module = schema()
    model = unpack_model(flatbuffer)
    graph = model.subgraphs[0]
    logits = graph.tensors[graph.outputs[0]]
    if logits.type != module.TensorType.FLOAT32:
        raise ConversionError(
            "the converted model's output is not float32; this is a bug, report it"
        )
    code = module.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = module.BuiltinOperator.SOFTMAX
    code.version = 1
    model.operatorCodes.append(code)

    probabilities = module.TensorT()
    probabilities.name = b"probabilities"
    probabilities.shape = list(logits.shape)
    probabilities.type = module.TensorType.FLOAT32
    probabilities.buffer = len(model.buffers)
    model.buffers.append(module.BufferT())
    graph.tensors.append(probabilities)

    softmax = module.OperatorT()
    softmax.opcodeIndex = len(model.operatorCodes) - 1
    softmax.inputs = [graph.outputs[0]]
    softmax.outputs = [len(graph.tensors) - 1]
    softmax.builtinOptionsType = module.BuiltinOptions.SoftmaxOptions
    softmax.builtinOptions = module.SoftmaxOptionsT()
    softmax.builtinOptions.beta = 1.0
    graph.operators.append(softmax)
    graph.outputs = [len(graph.tensors) - 1]
    # Signatures name tensors by index; the runtime and MediaPipe read the graph's own list.
    for signature in model.signatureDefs or []:
        for output in signature.outputs:
            output.tensorIndex = len(graph.tensors) - 1
    return pack_model(model)
