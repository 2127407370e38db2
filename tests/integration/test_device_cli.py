"""`edgecls classify`, `run` and `inspect`, as people and programs use them."""

from __future__ import annotations

import datetime as dt
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from host_tools.cli import main
from tests.integration.host import edgecls

_LINE_KEYS = {
    "classification": {"schema", "type", "path", "label", "score", "topk"},
    "error": {"schema", "type", "path", "error"},
    "frame": {
        *("schema", "type", "ts", "frame", "source", "label", "score", "topk"),
        *("latency_ms", "age_ms", "model"),
    },
    "health": {"schema", "type", "ts", "source", "what", "detail"},
}


def _lines(text: str) -> list[dict[str, Any]]:
    """Lines of JSON, each one with exactly the keys of its type."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert line["schema"] == 1
        assert set(line) == _LINE_KEYS[line["type"]]
    return lines


def _process(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell would start it."""
    return subprocess.run(
        [*_COMMAND, *map(str, words)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        timeout=120,
        env={**os.environ, **environment},
        cwd=Path(__file__).parents[2],
    )


_COMMAND = (sys.executable, "-c", "from host_tools.cli import main; main(prog_name='edgecls')")


@pytest.fixture
def pictures(digit_pictures: Path, tmp_path: Path) -> Path:
    """The ten digits and one file that only pretends to be a picture."""
    folder = tmp_path / "pictures"
    shutil.copytree(digit_pictures, folder)
    (folder / "4" / "broken.png").write_bytes(b"not a picture at all")
    return folder


@pytest.fixture
def third_party(float16_artifact: Path, tmp_path: Path) -> Path:
    """The golden float model as a third-party file: no labels, no range."""
    pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")
    from host_tools.tflite import pack_model, unpack_model

    model = unpack_model(float16_artifact.read_bytes())
    model.metadata = []
    path = tmp_path / "third_party.tflite"
    path.write_bytes(pack_model(model))
    return path


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "digits.txt"
    path.write_text("".join(f"{digit}\n" for digit in range(10)))
    return path


def _seven(digit_pictures: Path) -> Path:
    return next((digit_pictures / "7").glob("*.png"))


# classify


def test_classify_tells_people_what_is_on_a_picture(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    picture = _seven(digit_pictures)
    result = edgecls("classify", int8_artifact, picture)
    assert result.exit_code == 0
    path, answer, others = result.stdout.rstrip("\n").split("  ")
    assert path == str(picture)
    label, score = answer.split(" ")
    assert label == "7"
    assert 0.5 < float(score) <= 1
    assert others.startswith("(")
    assert others.count(",") == 1  # top 3: the answer and two others
    assert result.stderr == ""


def test_classify_gives_programs_a_line_per_picture(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    result = edgecls("classify", int8_artifact, digit_pictures, "--json", "--top-k", "2")
    assert result.exit_code == 0
    lines = _lines(result.stdout)
    assert [line["label"] for line in lines] == [str(digit) for digit in range(10)]
    for line in lines:
        assert line["type"] == "classification"
        assert Path(line["path"]).parent.name == line["label"]
        first, second = line["topk"]
        assert set(first) == {"label", "score"}
        assert first == {"label": line["label"], "score": line["score"]}
        assert 1 >= first["score"] >= second["score"] >= 0


def test_classify_takes_files_and_folders_in_the_given_order(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    words = (_seven(digit_pictures), digit_pictures / "2", _seven(digit_pictures))
    lines = _lines(edgecls("classify", int8_artifact, *words, "--json").stdout)
    assert [line["label"] for line in lines] == ["7", "2", "7"]


def test_classify_goes_on_after_an_unreadable_picture(int8_artifact: Path, pictures: Path) -> None:
    result = edgecls("classify", int8_artifact, pictures, "--json")
    assert result.exit_code == 1
    lines = _lines(result.stdout)
    assert len(lines) == 11
    (error,) = [line for line in lines if line["type"] == "error"]
    assert error["path"] == str(pictures / "4" / "broken.png")
    assert error["error"]
    answers = [line["label"] for line in lines if line["type"] == "classification"]
    assert answers == [str(digit) for digit in range(10)]


def test_classify_tells_people_of_an_unreadable_picture_on_stderr(
    int8_artifact: Path, pictures: Path
) -> None:
    result = edgecls("classify", int8_artifact, pictures)
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 10
    assert "broken.png" not in result.stdout
    assert "broken.png: " in result.stderr


def test_classify_reports_a_missing_picture_and_goes_on(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    words = (tmp_path / "no.png", _seven(digit_pictures))
    result = edgecls("classify", int8_artifact, *words, "--json")
    assert result.exit_code == 1
    assert [line["type"] for line in _lines(result.stdout)] == ["error", "classification"]


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
@pytest.mark.parametrize("command", ["classify", "run"])
def test_an_empty_folder_is_exit_1(
    command: str, as_json: bool, int8_artifact: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    words = [command, int8_artifact, *(["--source"] if command == "run" else [])]
    result = edgecls(*words, tmp_path / "empty", *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "no pictures there" in result.stderr


def test_a_score_below_the_threshold_is_unknown(int8_artifact: Path, digit_pictures: Path) -> None:
    picture = _seven(digit_pictures)
    words = ("classify", int8_artifact, picture, "--threshold", "1")
    (line,) = _lines(edgecls(*words, "--json").stdout)
    assert line["label"] is None
    assert line["score"] < 1
    assert line["topk"][0]["label"] == "7"
    text = edgecls(*words).stdout
    assert "  unknown 0." in text
    assert "(7 0." in text


def test_a_score_above_the_threshold_is_known(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("classify", int8_artifact, _seven(digit_pictures), "--threshold", "0.5", "--json")
    (line,) = _lines(edgecls(*words).stdout)
    assert line["label"] == "7"


def test_a_large_picture_is_refused_until_it_is_meant(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    words = ("classify", int8_artifact, _seven(digit_pictures), "--max-megapixels")
    refused = edgecls(*words, "0.00001")
    assert refused.exit_code == 1
    assert "--max-megapixels" in refused.stderr
    assert edgecls(*words, "0.01").exit_code == 0


@pytest.mark.parametrize(
    ("model", "normalize"),
    [
        ("mobilenet_v2_1.0_224_quant", None),
        ("tf2_mobilenet_v2_1.0_224_ptq", None),
        ("mobilenet_v2_1.0_224_quant", "symmetric"),
    ],
)
def test_public_models_name_public_pictures(
    model: str, normalize: str | None, public_data: Path
) -> None:
    known = {
        "parrot.jpg": ("macaw",),
        "cat_720p.jpg": ("Egyptian cat", "tabby"),
        "hot_dog.jpg": ("hotdog",),
        "sunflower.bmp": ("daisy",),
    }
    images = public_data / "images"
    result = edgecls(
        *("classify", public_data / "models" / f"{model}.tflite"),
        *(images / name for name in known),
        *(() if normalize is None else ("--normalize", normalize)),
        "--json",
    )
    assert result.exit_code == 0
    for line, words in zip(_lines(result.stdout), known.values(), strict=True):
        assert any(word in line["label"] for word in words), line


# run


def test_run_gives_programs_a_line_per_frame(int8_artifact: Path, digit_pictures: Path) -> None:
    result = edgecls("run", int8_artifact, "--source", digit_pictures, "--json")
    assert result.exit_code == 0
    lines = _lines(result.stdout)
    assert [line["type"] for line in lines] == ["frame"] * 10
    assert [line["frame"] for line in lines] == list(range(10))
    assert [line["label"] for line in lines] == [str(digit) for digit in range(10)]
    for line in lines:
        assert set(line["latency_ms"]) == {"capture", "preprocess", "inference", "postprocess"}
        assert all(ms >= 0 for ms in line["latency_ms"].values())
        assert line["age_ms"] is None
        assert line["model"] == str(int8_artifact)
        assert Path(line["source"]).parent.name == line["label"]
        assert dt.datetime.fromisoformat(line["ts"]).utcoffset() == dt.timedelta(0)
    assert "10 frames in " in result.stderr


def test_run_tells_people_a_line_per_frame(int8_artifact: Path, digit_pictures: Path) -> None:
    result = edgecls("run", int8_artifact, "--source", digit_pictures)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert len(lines) == 10
    for digit, line in enumerate(lines):
        assert f"  {digit} 0." in line or f"  {digit} 1." in line
        assert line.endswith(" ms")
    assert "10 frames in " in result.stderr
    assert "10 frames in " not in result.stdout


def test_run_goes_on_after_an_unreadable_picture(int8_artifact: Path, pictures: Path) -> None:
    result = edgecls("run", int8_artifact, "--source", pictures, "--json")
    assert result.exit_code == 1
    lines = _lines(result.stdout)
    assert sum(line["type"] == "frame" for line in lines) == 10
    (health,) = [line for line in lines if line["type"] == "health"]
    assert health["what"] == "unreadable"
    assert health["source"].endswith("broken.png")
    assert "1 unreadable" in result.stderr


def test_run_stops_at_its_limit(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("run", int8_artifact, "--source", digit_pictures, "--limit", "3", "--json")
    result = edgecls(*words)
    assert result.exit_code == 0
    assert [line["frame"] for line in _lines(result.stdout)] == [0, 1, 2]


def test_run_takes_several_sources(int8_artifact: Path, digit_pictures: Path) -> None:
    sources = ("--source", digit_pictures / "8", "--source", digit_pictures / "3")
    lines = _lines(edgecls("run", int8_artifact, *sources, "--json").stdout)
    assert [line["label"] for line in lines] == ["8", "3"]


def test_run_has_a_threshold_too(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("run", int8_artifact, "--source", digit_pictures, "--threshold", "1", "--json")
    lines = _lines(edgecls(*words).stdout)
    assert {line["label"] for line in lines} == {None}
    assert [line["topk"][0]["label"] for line in lines] == [str(digit) for digit in range(10)]


def test_the_model_of_run_may_stand_in_the_environment(
    int8_artifact: Path, digit_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLS_MODEL", str(int8_artifact))
    result = edgecls("run", "--source", digit_pictures / "5", "--json")
    assert result.exit_code == 0
    assert [line["label"] for line in _lines(result.stdout)] == ["5"]


def test_a_model_on_the_command_line_beats_the_environment(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLS_MODEL", str(tmp_path / "no.tflite"))
    assert edgecls("run", int8_artifact, "--source", digit_pictures / "5").exit_code == 0


@pytest.mark.parametrize("command", ["classify", "inspect"])
def test_other_commands_do_not_look_into_the_environment(
    command: str, int8_artifact: Path, digit_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECLS_MODEL", str(int8_artifact))
    words = [_seven(digit_pictures)] if command == "classify" else []
    result = edgecls(command, *words)
    assert result.exit_code == 2
    assert "Missing argument" in result.stderr


# inspect


def test_inspect_gives_programs_one_object(int8_artifact: Path) -> None:
    result = edgecls("inspect", int8_artifact, "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    (line,) = result.stdout.splitlines()
    found = json.loads(line)
    data = int8_artifact.read_bytes()
    provenance, ops = found.pop("provenance"), found.pop("ops")
    assert found == {
        "schema": 1,
        "type": "artifact",
        "path": str(int8_artifact),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "model_bytes": 87_824,
        "format": "int8",
        "labels": [str(digit) for digit in range(10)],
        "input": {"shape": [1, 32, 32, 3], "dtype": "uint8", "scale": 1.0, "zero_point": 0},
        "output": {"shape": [1, 10], "dtype": "float32", "scale": None, "zero_point": None},
        "preprocess": {
            "width": 32,
            "height": 32,
            "color": "rgb",
            "crop": "center",
            "mean": [0.0],
            "std": [1.0],
        },
        "score": {"threshold": 0.0, "temperature": 1.0},
    }
    assert set(provenance) == {"recipe", "data", "tools", "calibration", "validation"}
    assert ops["CONV_2D"] == 6


def test_inspect_tells_people_the_same(int8_artifact: Path) -> None:
    result = edgecls("inspect", int8_artifact)
    assert result.exit_code == 0
    assert "labels: 10: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in result.stdout
    assert "\n  shape: [1, 32, 32, 3]\n" in result.stdout
    assert "\n  crop: center\n" in result.stdout
    assert "\n  temperature: 1.0\n" in result.stdout
    assert "\n  CONV_2D: 6\n" in result.stdout
    assert hashlib.sha256(int8_artifact.read_bytes()).hexdigest() in result.stdout


def test_inspect_shows_what_a_third_party_file_lacks(third_party: Path) -> None:
    result = edgecls("inspect", third_party, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["labels"] == []
    assert found["preprocess"]["mean"] is found["preprocess"]["std"] is None
    assert found["provenance"] == {}
    assert found["size_bytes"] == found["model_bytes"] == third_party.stat().st_size
    assert "Note: " in result.stderr


def test_inspect_opens_a_model_for_the_edge_tpu(public_data: Path) -> None:
    path = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    found = json.loads(edgecls("inspect", path, "--json").stdout)
    assert found["ops"] == {"edgetpu-custom-op": 1}
    assert len(found["labels"]) == 1001


# What people get wrong.


def _each_command(model: object, picture: object, *options: object) -> Iterator[list[object]]:
    yield ["classify", model, picture, *options]
    yield ["run", model, "--source", picture, *options]


def test_a_missing_model_is_exit_2(digit_pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "no.tflite"
    for words in (*_each_command(model, digit_pictures), ["inspect", model]):
        result = edgecls(*words)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "there is no such model file" in result.stderr


def test_missing_labels_are_exit_2(third_party: Path, digit_pictures: Path) -> None:
    for words in _each_command(third_party, digit_pictures, "--normalize", "raw"):
        result = edgecls(*words)
        assert result.exit_code == 2
        assert "--labels FILE with 10 lines" in result.stderr


def test_a_missing_range_is_exit_2(third_party: Path, labels: Path, digit_pictures: Path) -> None:
    for words in _each_command(third_party, digit_pictures, "--labels", labels):
        result = edgecls(*words)
        assert result.exit_code == 2
        assert "--normalize raw (0..255)" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--labels", "no such file.txt"), id="no label file"),
        pytest.param(("--normalize", "somehow"), id="an unknown range"),
        pytest.param(("--crop", "circle"), id="an unknown crop"),
        pytest.param(("--threads", "0"), id="no threads"),
        pytest.param(("--top-k", "0"), id="top 0"),
        pytest.param(("--threshold", "1.5"), id="a threshold above 1"),
        pytest.param(("--max-megapixels", "0"), id="no pixels"),
        pytest.param(("--nonsense",), id="an unknown option"),
        pytest.param(("--backend", "abacus"), id="an unknown backend"),
        pytest.param(("--backend", "cpu:usb:0"), id="a device for the CPU"),
        pytest.param(("--backend", "edgetpu:usb"), id="half a device"),
    ],
)
def test_a_wrong_option_is_exit_2(
    options: tuple[str, ...], third_party: Path, labels: Path, digit_pictures: Path
) -> None:
    given = ("--labels", labels, "--normalize", "raw", *options)
    for words in _each_command(third_party, digit_pictures, *given):
        result = edgecls(*words)
        assert result.exit_code == 2
        assert result.stdout == ""
        assert "Error" in result.stderr


def test_a_foreign_model_runs_with_what_it_asked_for(
    third_party: Path, labels: Path, digit_pictures: Path
) -> None:
    given = ("--labels", labels, "--normalize", "raw", "--json")
    for words in _each_command(third_party, digit_pictures, *given):
        result = edgecls(*words)
        assert result.exit_code == 0
        answers = [line["label"] for line in _lines(result.stdout)]
        assert answers == [str(digit) for digit in range(10)]
        assert "Note: " in result.stderr  # squashed, and how to choose
        assert "--crop squash|center|letterbox" in result.stderr


@pytest.mark.parametrize("end", [0, 1000, 87_824, 91_600])
def test_a_cut_model_is_exit_7(
    end: int, int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    model = tmp_path / "cut.tflite"
    model.write_bytes(int8_artifact.read_bytes()[:end])
    for words in (*_each_command(model, digit_pictures), ["inspect", model]):
        result = edgecls(*words)
        assert result.exit_code == 7
        assert result.stdout == ""
        assert "cut.tflite" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_model_for_the_edge_tpu_on_the_cpu_is_exit_5(
    public_data: Path, digit_pictures: Path
) -> None:
    model = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    for words in _each_command(model, digit_pictures):
        result = edgecls(*words)
        assert result.exit_code == 5
        assert "--backend edgetpu" in result.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_edge_tpu_without_its_library_is_exit_5(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    for words in _each_command(int8_artifact, digit_pictures, "--backend", "edgetpu"):
        result = edgecls(*words)
        assert result.exit_code == 5
        assert result.stdout == ""
        assert "not compiled for the Edge TPU" in result.stderr


def _hide_tflite_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes it missing where it is installed; most environments lack it anyway."""
    real = importlib.metadata.version

    def version(distribution: str) -> str:
        if distribution == "tflite-runtime":
            raise importlib.metadata.PackageNotFoundError(distribution)
        return real(distribution)

    monkeypatch.setattr(importlib.metadata, "version", version)
    for module in ("tflite_runtime", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, module, None)


@pytest.mark.parametrize("ours", [True, False], ids=["artifact", "third-party"])
def test_a_backend_that_is_not_installed_is_exit_5(
    ours: bool,
    int8_artifact: Path,
    third_party: Path,
    labels: Path,
    digit_pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _hide_tflite_runtime(monkeypatch)
    model = int8_artifact if ours else third_party
    given = () if ours else ("--labels", labels, "--normalize", "raw")
    for words in _each_command(model, digit_pictures, *given, "--backend", "tflite-runtime"):
        result = edgecls(*words)
        assert result.exit_code == 5
        assert result.stdout == ""
        assert "pip install tflite-runtime" in result.stderr


def test_a_source_that_is_not_there_is_exit_2(int8_artifact: Path, tmp_path: Path) -> None:
    assert edgecls("run", int8_artifact, "--source", tmp_path / "no").exit_code == 2


# In a process of its own.


def test_data_goes_to_stdout_and_words_to_stderr(
    third_party: Path, labels: Path, digit_pictures: Path
) -> None:
    given = ("--labels", labels, "--normalize", "raw", "--json")
    for words in _each_command(third_party, digit_pictures, *given):
        result = _process(*words)
        assert result.returncode == 0
        assert len(_lines(result.stdout)) == 10
        assert "Note: " in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("command", ["classify", "run"])
def test_a_closed_pipe_is_no_trouble(
    command: str, options: tuple[str, ...], int8_artifact: Path, digit_pictures: Path
) -> None:
    source = ["--source"] if command == "run" else []
    words = [*_COMMAND, command, int8_artifact, *source, digit_pictures, *options]
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        # Closed before the first line, which is what `head -1` comes down to for the second.
        process.stdout.close()
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors
    assert "BrokenPipeError" not in errors


def test_head_gets_its_line(int8_artifact: Path, digit_pictures: Path) -> None:
    script = '"$@" | head -1'
    words = [*_COMMAND, "run", int8_artifact, "--source", digit_pictures, "--json"]
    result = subprocess.run(
        ["sh", "-c", script, "sh", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    (line,) = _lines(result.stdout)
    assert line["label"] == "0"
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("command", ["classify", "run"])
def test_a_picture_whose_name_is_no_utf8_is_classified(
    command: str,
    options: tuple[str, ...],
    int8_artifact: Path,
    digit_pictures: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "old disk"
    folder.mkdir()
    shutil.copy(_seven(digit_pictures), folder / os.fsdecode(b"gr\xfc\xdfe.png"))
    source = ["--source"] if command == "run" else []
    # As under a desktop's locale; in the C locale Python lets such names through by itself.
    result = _process(
        *(command, int8_artifact, *source, folder, *options), PYTHONIOENCODING="utf-8:strict"
    )
    assert "Traceback" not in result.stderr
    assert result.returncode == 0
    (line,) = result.stdout.splitlines()
    assert (json.loads(line)["label"] == "7") if options else ("  7 " in line)


def test_the_version_is_said() -> None:
    import edge_sdk

    result = _process("--version")
    assert result.returncode == 0
    assert edge_sdk.__version__ in result.stdout


def _commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from _commands(child, (*words, name))


@pytest.mark.parametrize("words", list(_commands(main)), ids=lambda words: " ".join(words) or "-")
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_of_every_command_has_an_example(option: str, words: tuple[str, ...]) -> None:
    result = edgecls(*words, option)
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert re.search(r"^ +(sudo \S*)?edgecls ", result.stdout.split("Example:")[1], re.MULTILINE)


def test_an_edge_tpu_file_without_the_library_is_exit_5(
    public_data: Path, tmp_path: Path, digit_pictures: Path
) -> None:
    model = public_data / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    result = edgecls("classify", model, digit_pictures, "--backend", "edgetpu")
    assert result.exit_code == 5
    assert "libedgetpu" in result.stderr
