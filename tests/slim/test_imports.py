"""What the device's side loads, seen from a fresh interpreter: static linters do not see everything."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

# Beside the standard library. LiteRT and OpenCV bring the rest of what they need themselves.
_TO_IMPORT = {"edge_sdk"}
_TO_ASK_FOR_HELP = _TO_IMPORT | {"host_tools", "click", "colorama"}
_TO_CLASSIFY = _TO_IMPORT | {
    "ai_edge_litert",
    "backports",
    "cv2",
    "cython_runtime",
    "flatbuffers",
    "google",
    "ml_dtypes",
    "numpy",
    "tflite_runtime",
    "tqdm",
    "typing_extensions",
}


def _modules_after(code: str, *arguments: str) -> set[str]:
    program = (
        "import sys; before = {m.split('.')[0] for m in sys.modules}\n"
        f"{code}\n"
        "import json\n"
        "roots = {m.split('.')[0] for m in sys.modules} - before\n"
        "print(json.dumps(sorted(roots - sys.stdlib_module_names)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    ).stdout
    return {name for name in json.loads(output.splitlines()[-1]) if not name.startswith("_")}


def test_importing_the_library_loads_nothing_but_itself() -> None:
    assert _modules_after("import edge_sdk; edge_sdk.EdgeClsError") <= _TO_IMPORT


def test_help_loads_neither_tensorflow_nor_opencv() -> None:
    code = (
        "from host_tools.cli import main\n"
        "from click.testing import CliRunner\n"
        "for words in (['--help'], ['train', '--help'], ['run', '--help'], ['recipe', '--help']):\n"
        "    assert CliRunner().invoke(main, words).exit_code == 0"
    )
    assert _modules_after(code) <= _TO_ASK_FOR_HELP


def test_classifying_a_picture_loads_only_the_slim_stack(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    code = (
        "from edge_sdk import Classifier, read_image\n"
        "with Classifier.open(sys.argv[1]) as classifier:\n"
        "    assert classifier.classify(read_image(sys.argv[2])).label == '7'"
    )
    picture = next((digit_pictures / "7").glob("*.png"))
    loaded = _modules_after(code, str(int8_artifact), str(picture))
    assert {"cv2", "numpy"} <= loaded <= _TO_CLASSIFY


def test_every_public_name_is_there_without_an_extra() -> None:
    import edge_sdk

    aliases = {"EventKind", "HealthKind", "Record"}
    for name in edge_sdk.__all__:
        assert getattr(edge_sdk, name).__module__.startswith("edge_sdk.") or name in aliases
