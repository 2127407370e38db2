"""Compiling for the Edge TPU, with a stand-in for Google's compiler that prints its report.

The stand-in replaces what the check maps by one ``edgetpu-custom-op``, as the real one does (the two
real pairs in the public data show it), and writes and prints what ``edgetpu_compiler -s`` of version
16.0.384591198 does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import textwrap
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_sdk import Artifact, Classifier
from edge_sdk.artifact.container import read_container
from edge_sdk.engines import open_engine
from edge_sdk.errors import ConversionError, DelegateError, EngineNotInstalledError
from edge_sdk.vision.preprocess import Preprocessing
from edge_sdk.vision.tensors import RAW, Encoder, decode
from tests.integration.host import edgecls

pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")

from host_tools.edgetpu import artifact as artifact_module
from host_tools.edgetpu import compiler
from host_tools.edgetpu.artifact import CompiledArtifact, compile_artifact, one_scale_per_dense
from host_tools.edgetpu.check import check
from host_tools.edgetpu.compiler import compile_model, find_compiler, parse_report
from host_tools.edgetpu.rules import read_graph
from host_tools.extras import muted
from host_tools.package import Description, write_artifact
from host_tools.tflite import unpack_model

_ROOT = Path(__file__).parents[2]
_OK = "Mapped to Edge TPU"

# As public logs show it: the spaces, the empty lines, the words.
_FAKE = '''
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, {root!r})
import numpy as np
from host_tools.edgetpu.check import check
from host_tools.tflite import pack_model, schema, unpack_model

out, path = Path(sys.argv[sys.argv.index("-o") + 1]), Path(sys.argv[-1])
assert "-s" in sys.argv
print("Edge TPU Compiler version 16.0.384591198")
print("Started a compilation timeout timer of 180 seconds.")
content = path.read_bytes()
checked = check(content, "model")
mapped = [o.index for o in checked.operators if o.verdict == "mapped"]
model, module = unpack_model(content), schema()
graph = model.subgraphs[0]
made = {{int(i) for n in mapped for i in graph.operators[n].outputs}}
others = [graph.operators[o.index] for o in checked.operators if o.index not in mapped]
used = {{int(i) for other in others for i in other.inputs}}
code = module.OperatorCodeT()
code.builtinCode = code.deprecatedBuiltinCode = 32
code.customCode, code.version = b"edgetpu-custom-op", 1
model.operatorCodes.append(code)
operator = module.OperatorT()
operator.opcodeIndex = len(model.operatorCodes) - 1
operator.inputs = graph.inputs
results = sorted(made & (used | {{int(i) for i in graph.outputs}}))
operator.outputs = np.array(results, np.int32)
operator.customOptions = np.frombuffer(bytes(range(256)) * 41 + b"end", np.uint8)
if mapped:
    graph.operators = [operator, *others]
model.description, model.metadata = b"Exported from Subgraph.", None
target = out / (path.stem + "_edgetpu.tflite")
target.write_bytes(pack_model(model))
status = {{True: "Mapped to Edge TPU", False: "Operation is working on an unsupported data type"}}
rows = Counter((o.operator, status[o.verdict == "mapped"]) for o in checked.operators)
table = "\\nOperator                       Count      Status\\n\\n" + "".join(
    f"{{name:<30}} {{n:<10}} {{what}}\\n" for (name, what), n in rows.items()
)
log = "Edge TPU Compiler version 16.0.384591198\\n"
log += f"Input: {{path}}\\nOutput: {{target}}\\n{{table}}"
(out / (path.stem + "_edgetpu.log")).write_text(log)
print(f"""
Model compiled successfully in 63 ms.

Input model: {{path}}
Input size: 89.52KiB
Output model: {{target}}
Output size: 152.40KiB
On-chip memory used for caching model parameters: 82.25KiB
On-chip memory remaining for caching model parameters: 7.87MiB
Off-chip memory used for streaming uncached model parameters: {off_chip}
Number of Edge TPU subgraphs: 1
Total number of operations: {{len(checked.operators)}}
Operation log: {{out / (path.stem + "_edgetpu.log")}}
{{table}}Compilation child process completed within timeout period.
Compilation succeeded! """)
'''

_COMPLETE_LOG = """\
Edge TPU Compiler version 16.0.384591198
Input: efficientdet_coral_v2.tflite
Output: efficientdet_coral_v2_edgetpu.tflite

Operator                       Count      Status

ADD                            42         Mapped to Edge TPU
CUSTOM                         1          Operation is working on an unsupported data type
RESIZE_NEAREST_NEIGHBOR        12         Mapped to Edge TPU
CONCATENATION                  2          More than one subgraph is not supported
"""

WriteCompiler = Callable[..., Path]


@pytest.fixture
def write_compiler(tmp_path: Path) -> WriteCompiler:
    """Writes a stand-in: the one that works, or a Python program of the test."""

    def write(program: str | None = None, *, off_chip: str = "0.00B") -> Path:
        path = tmp_path / "bin" / "edgetpu_compiler"
        path.parent.mkdir(exist_ok=True)
        body = program and textwrap.dedent(program)
        body = body or _FAKE.format(root=str(_ROOT), off_chip=off_chip)
        # To the shell it starts Python, to Python it is a text: a #! line takes no blank in a path.
        start = f"#!/bin/sh\n'''exec' {shlex.quote(sys.executable)} \"$0\" \"$@\"\n' '''\n"
        path.write_text(start + body)
        path.chmod(0o755)
        return path

    return write


@pytest.fixture
def artifact(int8_artifact: Path, tmp_path: Path) -> Path:
    """A copy of a real int8 artifact."""
    path = tmp_path / "digits_int8.tflite"
    shutil.copy(int8_artifact, path)
    return path


def _compile(path: Path, compiler: Path) -> CompiledArtifact:
    said: list[str] = []
    return compile_artifact(path, compiler, note=said.append)


# What comes out.


def test_the_compiled_file_is_an_artifact_of_ours(
    artifact: Path, write_compiler: WriteCompiler
) -> None:
    compiled = _compile(artifact, write_compiler())
    assert compiled.path == artifact.with_name("digits_int8_edgetpu.tflite")
    before, after = Artifact.open(artifact), Artifact.open(compiled.path)
    assert after.needs_edgetpu
    assert after.operators == {"DEQUANTIZE": 1, "SOFTMAX": 1, "edgetpu-custom-op": 1}
    assert after.labels == before.labels
    assert after.preprocessing == before.preprocessing
    assert (after.input, after.output) == (before.input, before.output)
    assert after.normalization == before.normalization
    assert not after.logits
    assert before.manifest is not None
    assert after.manifest is not None
    assert after.manifest.threshold == before.manifest.threshold
    assert after.manifest.format == "int8"
    model = after.data[: after.model_bytes]
    assert after.manifest.model_sha256 == hashlib.sha256(model).hexdigest()
    assert b"Exported from Subgraph" not in model
    record = after.manifest.provenance["edgetpu"]
    assert record["compiler"] == "16.0.384591198"
    assert (record["mapped"], record["total"]) == (11, 13)
    assert record["on_chip_bytes"] == round(82.25 * 1024)
    assert record["source_sha256"] == before.sha256
    assert after.manifest.provenance["recipe"] == before.manifest.provenance["recipe"]
    assert compiled.report.total == 13


def test_tflite_metadata_and_labels_survive(artifact: Path, write_compiler: WriteCompiler) -> None:
    """MediaPipe and Coral's examples read them; the compiler drops them."""
    before = read_container(artifact)
    after = read_container(_compile(artifact, write_compiler()).path)
    assert after.summary.metadata == before.summary.metadata is not None
    assert after.metadata == before.metadata
    assert after.files["labels.txt"] == before.files["labels.txt"]


def test_the_selftest_is_that_of_the_model_which_was_compiled(
    artifact: Path, write_compiler: WriteCompiler
) -> None:
    before = read_container(artifact)
    after = read_container(_compile(artifact, write_compiler()).path)
    assert before.manifest is not None
    assert after.manifest is not None
    model, changed = one_scale_per_dense(before.data[: before.model_bytes], "digits")
    assert changed == 1
    encode = Encoder(before.summary.inputs[0], RAW)
    engine = open_engine(model)
    scores = [
        decode(engine.infer(encode(pixels)), None, logits=False)
        for pixels in after.manifest.selftest.pixels
    ]
    engine.close()
    np.testing.assert_allclose(after.manifest.selftest.scores, scores, atol=1e-6)
    np.testing.assert_allclose(scores, before.manifest.selftest.scores, atol=0.05)


def test_it_runs_on_an_edge_tpu_or_not_at_all(
    artifact: Path, write_compiler: WriteCompiler
) -> None:
    compiled = _compile(artifact, write_compiler())
    with pytest.raises(DelegateError, match="edgetpu"):
        Classifier.open(compiled.path)


def test_validation_figures_of_the_int8_file_are_left_behind(
    artifact: Path, write_compiler: WriteCompiler
) -> None:
    from host_tools.package import add_provenance

    add_provenance(artifact, "validation", {"drop_points": 0.1})
    manifest = read_container(_compile(artifact, write_compiler()).path).manifest
    assert manifest is not None
    assert "validation" not in manifest.provenance


@pytest.mark.parametrize("name", ["mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_quant"])
def test_what_the_real_compiler_made_is_repackaged_unharmed(
    public_data: Path, tmp_path: Path, write_compiler: WriteCompiler, name: str
) -> None:
    models = public_data / "models"
    real = models / f"{name}_edgetpu.tflite"
    content = read_container(models / f"{name}.tflite")
    labels = tuple((models / "imagenet_labels.txt").read_text("utf-8").splitlines())
    labels = tuple(f"{i} {label}" for i, label in enumerate(labels))
    side = content.summary.inputs[0].shape[1]
    path = tmp_path / f"{name}_int8.tflite"
    how = Preprocessing(side, side, 3, "squash")
    description = Description(name, "a real one", "int8", labels, how, {})
    write_artifact(path, content.data[: content.model_bytes], description)
    compiler = write_compiler(f"""
        import shutil, sys
        shutil.copy({str(real)!r}, sys.argv[sys.argv.index("-o") + 1] + "/model_edgetpu.tflite")
        print("Edge TPU Compiler version 16.0.384591198\\n")
        print("Operator                       Count      Status\\n")
        print("CONV_2D                        15         Mapped to Edge TPU")
    """)
    compiled = Artifact.open(_compile(path, compiler).path)
    assert compiled.needs_edgetpu
    assert compiled.labels == labels
    theirs, ours = unpack_model(real.read_bytes()), unpack_model(compiled.data)
    (their_operator,), (our_operator,) = theirs.subgraphs[0].operators, ours.subgraphs[0].operators
    program = bytes(our_operator.customOptions)
    assert program == bytes(their_operator.customOptions)
    assert len(program) > 700_000
    # The real file aligns the program to 4 bytes; so must this one.
    assert compiled.data.find(program) % 4 == real.read_bytes().find(program) % 4 == 0
    for field in ("inputs", "outputs"):
        assert list(getattr(our_operator, field)) == list(getattr(their_operator, field))
    for their_tensor, our_tensor in zip(
        theirs.subgraphs[0].tensors, ours.subgraphs[0].tensors, strict=True
    ):
        assert list(their_tensor.shape) == list(our_tensor.shape)
        assert their_tensor.name == our_tensor.name
        assert list(their_tensor.quantization.scale) == list(our_tensor.quantization.scale)


# The report.


def test_a_public_log_is_read() -> None:
    report = parse_report(_COMPLETE_LOG)
    assert report.version == "16.0.384591198"
    assert (report.mapped, report.total) == (54, 57)
    custom = report.rows[1]
    assert (custom.operator, custom.count, custom.mapped) == ("CUSTOM", 1, False)
    assert custom.status == "Operation is working on an unsupported data type"
    assert "softmax" in custom.meaning
    assert report.rows[0].meaning == ""


def test_the_table_is_not_counted_twice() -> None:
    assert parse_report(_COMPLETE_LOG + _COMPLETE_LOG).total == 57


@pytest.mark.parametrize(
    ("size", "expected"),
    [("0.00B", 0), ("4.21MiB", round(4.21 * (1 << 20))), ("1.75KiB", 1792), ("1..2MiB", None)],
)
def test_sizes_are_read(size: str, expected: int | None) -> None:
    line = f"Off-chip memory used for streaming uncached model parameters: {size}"
    assert parse_report(line).off_chip_bytes == expected


# A compiler that does not do as it should.

_PRINT_TABLE = 'print("Operator   Count   Status\\n\\nCONV_2D     1          Mapped to Edge TPU")'
_BROKEN = [
    # what it does, its program, what the error says
    (
        "fails",
        """
        import sys
        print("Edge TPU Compiler version 16.0.384591198")
        print("ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'. An older version")
        print("\\nERROR: Registration failed.\\n\\nInvalid model: m.tflite\\nModel could not be parsed")
        sys.exit(1)
        """,
        ["exit code 1", "CONV_2D", "version '6'"],
    ),
    (
        "fails with status 0",
        """
        print("Edge TPU Compiler version 16.0.384591198")
        print("ERROR: Restored original execution plan after delegate application failure.")
        print("Compilation failed: Compilation failed due to large activation tensors in model.")
        print("Compilation failed! ")
        """,
        ["wrote no model", "large activation tensors"],
    ),
    ("says nothing", "pass", ["wrote no model", "printed nothing"]),
    ("crashes", "import os; os.abort()", ["crashed", "signal 6"]),
    ("prints rubbish", "import os; os.write(1, os.urandom(5_000_000))", ["wrote no model"]),
    (
        "writes rubbish",
        f"""
        import sys
        open(sys.argv[sys.argv.index("-o") + 1] + "/model_edgetpu.tflite", "wb").write(b"x" * 99)
        {_PRINT_TABLE}
        """,
        ["cannot be read"],
    ),
    (
        "reports nothing",
        """
        import shutil, sys
        shutil.copy(sys.argv[-1], sys.argv[sys.argv.index("-o") + 1] + "/model_edgetpu.tflite")
        """,
        ["no table of operators"],
    ),
    (
        "maps nothing",
        """
        import shutil, sys
        shutil.copy(sys.argv[-1], sys.argv[sys.argv.index("-o") + 1] + "/model_edgetpu.tflite")
        print("Operator   Count   Status\\n\\nCONV_2D     13         Operation version not supported")
        """,
        ["none of 13 operators", "version not supported"],
    ),
]


@pytest.mark.parametrize(
    ("program", "reported"), [case[1:] for case in _BROKEN], ids=[case[0] for case in _BROKEN]
)
def test_a_compiler_that_fails_is_told_of(
    artifact: Path, write_compiler: WriteCompiler, program: str, reported: list[str]
) -> None:
    with pytest.raises(ConversionError) as caught:
        _compile(artifact, write_compiler(program))
    for words in (str(artifact), *reported):
        assert words in str(caught.value)
    assert not artifact.with_name("digits_int8_edgetpu.tflite").exists()


def test_a_model_with_other_borders_is_refused(
    artifact: Path, public_data: Path, write_compiler: WriteCompiler
) -> None:
    other = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    program = f"""
        import shutil, sys
        shutil.copy({str(other)!r}, sys.argv[sys.argv.index("-o") + 1] + "/model_edgetpu.tflite")
        {_PRINT_TABLE}
    """
    with pytest.raises(ConversionError, match="other inputs or outputs"):
        _compile(artifact, write_compiler(program))


def test_a_compiler_that_hangs_is_ended_with_its_children(
    artifact: Path, tmp_path: Path, write_compiler: WriteCompiler
) -> None:
    pid = tmp_path / "child.pid"
    compiler = write_compiler(f"""
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        open({str(pid)!r}, "w").write(str(child.pid))
        time.sleep(300)
    """)
    started = time.monotonic()
    with pytest.raises(ConversionError, match="did not finish within 3 s"):
        compile_artifact(artifact, compiler, timeout_s=3, note=lambda _: None)
    assert time.monotonic() - started < 60
    child = int(pid.read_text())
    for _ in range(100):  # its new parent needs a moment to reap it
        state = Path(f"/proc/{child}/stat")
        if not state.exists() or state.read_text().split(")")[-1].split()[0] == "Z":
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the compiler's child lives on")


def test_the_verdict_of_the_check_is_in_the_error(
    artifact: Path, write_compiler: WriteCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    from host_tools.edgetpu import check as check_module

    monkeypatch.setitem(check_module.NEWEST_VERSION, "CONV_2D", 1)
    with pytest.raises(ConversionError, match=r"edgetpu check: CONV_2D: version 3"):
        _compile(artifact, write_compiler("raise SystemExit(1)"))


def test_a_program_of_another_machine_is_named(
    artifact: Path, write_compiler: WriteCompiler
) -> None:
    compiler = write_compiler("pass")
    compiler.write_bytes(b"\x7fELF but not really")
    with pytest.raises(EngineNotInstalledError, match="cannot be started"):
        _compile(artifact, compiler)


def test_one_scale_is_the_converters_own_within_a_unit() -> None:
    """TensorFlow's switch and ours, on a network whose dense outputs differ in scale."""
    tf = pytest.importorskip("tensorflow", reason="the extra [host] is not installed")
    keras = pytest.importorskip("keras", reason="the extra [host] is not installed")
    layers = keras.layers
    source = keras.Input(batch_shape=(1, 8, 8, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, activation="relu")(source))
    network = keras.Model(source, layers.Dense(10)(layers.Dense(32, activation="relu")(pooled)))
    random = np.random.default_rng(0)
    for layer in network.layers[-2:]:
        weights, bias = layer.get_weights()
        scales = random.uniform(0.1, 2.0, weights.shape[1])
        layer.set_weights([weights * scales, random.normal(size=bias.shape)])
    pictures = random.uniform(0, 255, (5, 1, 8, 8, 3)).astype(np.float32)

    def converted(*, per_output: bool) -> bytes:
        converter = tf.lite.TFLiteConverter.from_keras_model(network)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([picture] for picture in pictures)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_output
        with warnings.catch_warnings(), muted():
            warnings.simplefilter("ignore")
            return bytes(converter.convert())

    model, changed = one_scale_per_dense(converted(per_output=True), "ours")
    assert changed == 2
    theirs = converted(per_output=False)
    assert one_scale_per_dense(theirs, "theirs") == (theirs, 0)
    pairs = list(zip(read_graph(model, "ours"), read_graph(theirs, "theirs"), strict=True))
    dense = [pair for pair in pairs if pair[0].name == "FULLY_CONNECTED"]
    assert len(dense) == 2
    for our, their in dense:
        for position, dtype in ((1, np.int8), (2, np.int32)):
            a, b = our.input(position), their.input(position)
            assert a is not None
            assert b is not None
            units = np.frombuffer(a.data or b"", dtype).astype(np.int64)
            assert np.abs(units - np.frombuffer(b.data or b"", dtype)).max() <= 1


# What is not compiled.


def test_only_int8_artifacts_of_ours_are_compiled(
    artifact: Path, float16_artifact: Path, tmp_path: Path, write_compiler: WriteCompiler
) -> None:
    compiler = write_compiler()
    with pytest.raises(ConversionError, match="a float16 artifact"):
        _compile(float16_artifact, compiler)
    compiled = _compile(artifact, compiler).path
    with pytest.raises(ConversionError, match="already"):
        _compile(compiled, compiler)
    third_party = tmp_path / "third_party.tflite"
    container = read_container(artifact)
    model = unpack_model(container.data)
    model.metadata = None
    from host_tools.tflite import pack_model

    third_party.write_bytes(pack_model(model))
    with pytest.raises(ConversionError, match="not an artifact of edgecls"):
        _compile(third_party, compiler)


def test_an_onnx_file_is_named(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_onnx(path: Path) -> object:
        return replace(read_container(path), kind="onnx")

    monkeypatch.setattr(artifact_module, "read_container", as_onnx)
    with pytest.raises(ConversionError, match="an ONNX file"):
        artifact_module.check_file(artifact)
    with pytest.raises(ConversionError, match="an ONNX file"):
        _compile(artifact, artifact)


# Where the compiler is.


def test_a_missing_compiler_names_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(compiler.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(compiler.sys, "platform", "linux")
    with pytest.raises(EngineNotInstalledError, match="apt-get install edgetpu-compiler"):
        find_compiler()
    monkeypatch.setattr(compiler.platform, "machine", lambda: "aarch64")
    with pytest.raises(EngineNotInstalledError, match="x86-64 Debian and Ubuntu only") as caught:
        find_compiler()
    assert "apt-get" not in str(caught.value)


def test_the_compiler_is_found(
    write_compiler: WriteCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = write_compiler("pass")
    monkeypatch.delenv("EDGETPU_COMPILER", raising=False)
    monkeypatch.setenv("PATH", str(compiler.parent))
    assert find_compiler() == compiler
    other = compiler.rename(compiler.with_name("other"))
    monkeypatch.setenv("EDGETPU_COMPILER", str(other))
    assert find_compiler() == other
    monkeypatch.setenv("EDGETPU_COMPILER", str(compiler))
    with pytest.raises(EngineNotInstalledError, match="not a program"):
        find_compiler()


# The commands.


def test_check_prints_a_table(artifact: Path) -> None:
    result = edgecls("edgetpu", "check", artifact)
    assert result.exit_code == 0, result.output
    assert "11 of 13 operators would run on the Edge TPU" in result.stdout
    assert "on purpose" in result.stdout


def test_check_prints_json(artifact: Path) -> None:
    result = edgecls("edgetpu", "check", artifact, "--json")
    reported = json.loads(result.stdout)
    assert (reported["type"], reported["n"], reported["mapped"], reported["compiles"]) == (
        *("edgetpu_check", 13, 11),
        True,
    )
    assert reported["dense_layers_rescaled"] == 1


def test_check_fails_where_nothing_would_be_mapped(float16_artifact: Path, tmp_path: Path) -> None:
    result = edgecls("edgetpu", "check", float16_artifact)
    assert result.exit_code == 3
    assert "--format int8" in result.stdout
    assert edgecls("edgetpu", "check", tmp_path / "none.tflite").exit_code == 2
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(float16_artifact.read_bytes()[:5000])
    assert edgecls("edgetpu", "check", damaged).exit_code == 7


def test_compile_prints_the_path_and_the_table_apart(
    artifact: Path,
    tmp_path: Path,
    write_compiler: WriteCompiler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EDGETPU_COMPILER", str(write_compiler(off_chip="2.00MiB")))
    out = tmp_path / "out"
    result = edgecls("edgetpu", "compile", artifact, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out / 'digits_int8_edgetpu.tflite'}\n"
    rows = [line.split("  ") for line in result.stderr.splitlines()]
    assert any(row[0] == "SOFTMAX" and "CPU" in row and "so on purpose" in row[-1] for row in rows)
    assert "11 of 13 operators run on the Edge TPU, compiler 16.0.384591198" in result.stderr
    assert "1 dense layer was given one scale" in result.stderr
    assert "2.1 MB of weights do not fit" in result.stderr


def test_compile_without_a_compiler_is_exit_5(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGETPU_COMPILER", "/nowhere/edgetpu_compiler")
    result = edgecls("edgetpu", "compile", artifact)
    assert result.exit_code == 5
    assert "EDGETPU_COMPILER" in result.stderr


def test_convert_compiles_what_it_converted(
    built: Path,
    digits: Path,
    tmp_path: Path,
    write_compiler: WriteCompiler,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("convert", built, "--data", digits, "--out", tmp_path, "--edgetpu")
    monkeypatch.setenv("EDGETPU_COMPILER", "/nowhere/edgetpu_compiler")
    missing = edgecls(*words)
    assert missing.exit_code == 5
    assert not list(tmp_path.glob("*.tflite"))  # said before anything took time
    monkeypatch.setenv("EDGETPU_COMPILER", str(write_compiler()))
    no_int8 = edgecls(*words, "--format", "float16")
    assert no_int8.exit_code == 2
    assert "--format int8" in no_int8.stderr
    result = edgecls(*words, "--format", "int8")
    assert result.exit_code == 0, result.output
    int8, compiled = (Path(line) for line in result.stdout.splitlines())
    assert compiled == int8.with_name(f"{int8.stem}_edgetpu.tflite")
    artifact = Artifact.open(compiled)
    assert artifact.needs_edgetpu
    assert artifact.labels == Artifact.open(int8).labels
    assert "operators run on the Edge TPU" in result.stderr
    model = read_container(int8)
    assert check(one_scale_per_dense(model.data, "m")[0], "m").refused == ()


def test_a_full_disk_for_the_compiler_is_told(
    artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_sdk.errors import WriteError

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match="TMPDIR"):
        compile_model(artifact.read_bytes(), artifact)
