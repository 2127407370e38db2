"""``edgecls run`` with a camera, decisions, events and sinks; and user errors."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import cv2
import pytest

from edge_sdk import open_camera
from edge_sdk.cli.run import SinkOptions
from edge_sdk.loop.statistics import LiveStatistics
from edge_sdk.sinks.identity import default_spool, lock
from edge_sdk.sinks.jsonl import open_json_lines
from tests.integration.host import edgecls
from tests.integration.run_process import COMMAND, ROOT, start, whole_lines


def _run(model: Path, pictures: Path, *words: object, fps: int = 100) -> Any:
    return edgecls("run", model, "--camera", f"fake:{pictures}?fps={fps}", *words)


# The camera's name, and the order of words


def test_a_camera_gives_lines_with_an_age(int8_artifact: Path, digit_pictures: Path) -> None:
    result = _run(int8_artifact, digit_pictures, "--json", "--limit", "5")
    assert result.exit_code == 0
    lines = whole_lines(result.stdout)
    assert [line["type"] for line in lines] == ["frame"] * 5
    assert all(line["age_ms"] >= 0 for line in lines)
    assert "5 frames in " in result.stderr


def test_people_see_a_line_when_the_answer_changes(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    result = _run(int8_artifact, digit_pictures / "7", "--limit", "20")
    (line,) = result.stdout.splitlines()
    assert "  7 " in line
    assert line.endswith(" ms old")
    result = _run(int8_artifact, digit_pictures, "--limit", "10")
    assert len(result.stdout.splitlines()) >= 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--camera", "{model}"], "that is a model, not a camera; the order is: edgecls run MODEL"),
        (["{model}", "--camera", "{model}"], "a file is not a camera"),
        (["{model}", "--camera", "{pictures}"], "for files type edgecls run MODEL --source"),
        (["{model}", "--camera", "webcm"], "expected one of auto, picamera"),
        (["{model}", "--camera", "webcam:x"], "the order is: edgecls run MODEL --camera [SPEC]"),
        (["{model}", "--camera", "ftp://host/x"], "ftp:// is no supported scheme"),
        (["{model}", "--camera", "fake:{pictures}?fsp=3"], "fps"),
        (["{model}"], "Missing option '--camera' or '--source'"),
        (["--camera"], "Missing argument 'MODEL'"),
        (
            ["--web", "{model}", "--camera"],
            "that is a model, expected [HOST:]PORT",
        ),
        (["--metrics", "{model}", "--camera"], "that is a model, expected [HOST:]PORT"),
        (
            ["--log-file", "{model}", "--source", "{pictures}"],
            "that is a model, expected PATH",
        ),
        (["--labels", "{model}", "--camera"], "that is a model, expected FILE"),
        (["{model}", "--web", "--camera"], "--web got --camera, expected [HOST:]PORT"),
        (
            ["{model}", "--log-file", "--camera"],
            "--log-file got --camera, expected PATH",
        ),
        (["--mqtt", "a.onnx", "--camera"], "that is a model, expected URL"),
        (
            ["{model}", "--camera", "--give-up", "nan"],
            "'nan': expected seconds, 0 or more, or the word",
        ),
        (["{model}", "--camera", "--give-up", "-1"], "'-1': expected seconds"),
        (["{model}", "--camera", "--give-up", "inf"], "'inf': expected seconds"),
        (["{model}", "--camera", "--give-up", "soon"], "or the word never"),
        (["{model}", "--camera", "--max-fps", "nan"], "a number above 0, got nan"),
        (["{model}", "--camera", "--spool", "x"], "add one of them"),
        ([], "Missing argument 'MODEL'"),
        (["{model}", "--camera", "auto", "--source", "{pictures}"], "exclude each other"),
    ],
)
def test_the_wrong_order_of_words_is_exit_2_with_the_right_one(
    words: list[str], said: str, int8_artifact: Path, digit_pictures: Path
) -> None:
    filled = [word.format(model=int8_artifact, pictures=digit_pictures) for word in words]
    result = edgecls("run", *filled)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said.format(model=int8_artifact) in " ".join(result.stderr.split())


def test_a_camera_may_be_waited_for_without_end(
    int8_artifact: Path, digit_pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float | None] = []
    opened = open_camera

    def watched(*arguments: Any, give_up_s: float | None, **more: Any) -> Any:
        asked.append(give_up_s)
        return opened(*arguments, give_up_s=give_up_s, **more)

    monkeypatch.setattr("edge_sdk.sources.camera.open_camera", watched)
    for words in ([], ["--give-up", "never"], ["--give-up", "1.5"]):
        result = _run(int8_artifact, digit_pictures, "--limit", "1", *words)
        assert result.exit_code == 0
    assert asked == [60.0, None, 1.5]


def test_a_camera_without_a_name_is_the_first_there_is(int8_artifact: Path) -> None:
    for words in (["--camera"], ["--camera", "auto"], ["--camera", "--json"]):
        result = edgecls("run", int8_artifact, *words, "--limit", "1")
        if result.exit_code:  # most machines that run tests have none
            assert result.exit_code == 5
            assert "no camera was found" in result.stderr


def test_a_camera_that_is_missing_is_exit_5(int8_artifact: Path) -> None:
    result = edgecls("run", int8_artifact, "--camera", "webcam:99")
    assert result.exit_code == 5
    assert result.stdout == ""


_SECRET_URL = "http://me:s3cret@127.0.0.1:9/x?token=s3cret"


@pytest.mark.parametrize("command", [("run",), ("bench",), ("soak", "--minutes", "1")])
def test_a_password_on_the_command_line_is_refused(
    command: tuple[str, ...], int8_artifact: Path
) -> None:
    for url in (_SECRET_URL, "rtsp://me@host/x", "http://host/x?pwd=s3cret"):
        result = edgecls(*command, int8_artifact, "--camera", url)
        assert result.exit_code == 2
        assert "--camera @FILE" in result.stderr
        assert "s3cret" not in result.stdout + result.stderr
    plain = edgecls("run", int8_artifact, "--camera", "fake:nowhere?stall@100")
    assert "--camera @FILE" not in plain.stderr


def test_a_password_comes_from_a_file_or_the_environment_and_is_never_printed(
    int8_artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "camera"
    file.write_text(f"{_SECRET_URL}\n", "utf-8")
    file.chmod(0o644)
    opened = edgecls("run", int8_artifact, "--camera", f"@{file}")
    assert opened.exit_code == 2
    assert "chmod 600" in opened.stderr
    file.chmod(0o600)
    results = [edgecls("-vv", "run", int8_artifact, "--camera", f"@{file}")]
    monkeypatch.setenv("EDGECLS_CAMERA", _SECRET_URL)
    results.append(edgecls("-vv", "run", int8_artifact))
    for result in results:
        assert result.exit_code == 5
        assert "http://***@127.0.0.1:9/x?token=***: cannot be opened" in result.stderr
        assert "s3cret" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("run", "m.tflite", "--source", _SECRET_URL),
        ("run", _SECRET_URL, "--camera"),
        ("run", "m.tflite", "--camera", "--metrics", _SECRET_URL),
        ("run", "m.tflite", "--camera", "--web", _SECRET_URL),
        ("run", "m.tflite", "--camera", "--mqtt", _SECRET_URL),
        ("run", "m.tflite", "--camera", "--webhook", _SECRET_URL),
        ("run", "m.tflite", "--camera", "--smooth", _SECRET_URL),
        ("run", "m.tflite", "--camera", "--limit", _SECRET_URL),
        ("run", "m.tflite", "--camera", "auto", _SECRET_URL),
        (_SECRET_URL,),
        ("inspect", _SECRET_URL),
        ("classify", _SECRET_URL, _SECRET_URL),
        ("doctor", "--mqtt", _SECRET_URL),
    ],
    ids=lambda words: "-".join(words[:4]).replace(_SECRET_URL, "URL"),
)
def test_a_password_is_not_shown_wherever_it_was_typed(words: tuple[str, ...]) -> None:
    result = edgecls(*words)
    assert result.exit_code != 0
    assert "s3cret" not in result.stdout + result.stderr


def test_a_password_in_a_url_that_ends_like_a_model_is_never_printed() -> None:
    result = edgecls("run", "--camera", "rtsp://me:s3cret@host/x.tflite")
    assert result.exit_code == 2
    assert "s3cret" not in result.stdout + result.stderr


def test_a_camera_that_goes_for_good_is_exit_6(int8_artifact: Path, digit_pictures: Path) -> None:
    spec = f"fake:{digit_pictures}?fps=50&unplug@5+60s"
    result = edgecls("run", int8_artifact, "--camera", spec, "--json", "--give-up", "0.5")
    assert result.exit_code == 6
    lines = whole_lines(result.stdout)
    assert sum(line["type"] == "frame" for line in lines) >= 1
    assert lines[-1]["type"] == "health"
    assert "missing for" in result.stderr


# Decisions


def test_events_come_between_the_frames(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("--source", digit_pictures / "7", "--source", digit_pictures / "3", "--events")
    lines = whole_lines(edgecls("run", int8_artifact, *words, "--json").stdout)
    said = [(line["type"], line.get("what"), line["label"]) for line in lines]
    assert said == [
        ("frame", None, "7"),
        ("event", "appeared", "7"),
        ("frame", None, "3"),
        ("event", "left", "7"),
        ("event", "appeared", "3"),
        ("event", "left", "3"),
    ]
    text = edgecls("run", int8_artifact, *words).stdout
    assert "  7 appeared (" in text
    assert "  7 left after 0." in text


def test_a_majority_of_three_overrules_one(int8_artifact: Path, digit_pictures: Path) -> None:
    seven, three = digit_pictures / "7", digit_pictures / "3"
    sources = [w for p in (seven, seven, three, seven) for w in ("--source", p)]
    lines = whole_lines(
        edgecls("run", int8_artifact, *sources, "--json", "--smooth", "majority:3").stdout
    )
    assert [line["label"] for line in lines] == ["7"] * 4
    assert [line["topk"][0]["label"] for line in lines] == ["7", "7", "3", "7"]


def test_labels_are_allowed_and_denied(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("--source", digit_pictures, "--json", "--deny", "3", "--deny", "7")
    lines = whole_lines(edgecls("run", int8_artifact, *words).stdout)
    assert not {"3", "7"} & {line["label"] for line in lines}
    assert len(lines) == 10


def test_regions_are_named_in_their_lines(int8_artifact: Path, digit_pictures: Path) -> None:
    words = (
        "--source",
        digit_pictures / "7",
        "--json",
        "--roi",
        "all=0,0,1,1",
        "--roi",
        "0,0,1,0.5",
    )
    lines = whole_lines(edgecls("run", int8_artifact, *words).stdout)
    assert [line["region"] for line in lines] == ["all", "0,0,1,0.5"]
    assert lines[0]["label"] == "7"


def test_skipped_frames_are_counted(int8_artifact: Path, digit_pictures: Path) -> None:
    result = edgecls("run", int8_artifact, "--source", digit_pictures, "--every", "4", "--json")
    assert [line["frame"] for line in whole_lines(result.stdout)] == [0, 4, 8]
    assert "7 skipped" in result.stderr
    result = _run(
        int8_artifact, digit_pictures / "7", "--motion", "--max-fps", "20", "--limit", "1"
    )
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--smooth", "median:3"], "expected majority:N"),
        (["--smooth", "hysteresis:0.7,0.3", "--threshold", "0.5"], "omit --threshold"),
        (["--roi", "1,2,3"], "expected X,Y,WIDTH,HEIGHT"),
        (["--roi", "0,0,1,1", "--roi", "0,0,1,1"], "a name of its own"),
        (["--allow", "seven"], "no label 'seven'"),
        (["--deny", "33"], "did you mean '3'"),
        (["--every", "0"], "--every"),
        (["--max-fps", "0"], "--max-fps"),
        (["--give-up", "-1"], "--give-up"),
    ],
)
def test_a_decision_that_makes_no_sense_is_exit_2(
    words: list[str], said: str, int8_artifact: Path, digit_pictures: Path
) -> None:
    result = edgecls("run", int8_artifact, "--source", digit_pictures, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert said in " ".join(result.stderr.split())


# Sinks


def test_a_log_file_has_the_same_lines(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    result = edgecls(
        *("run", int8_artifact, "--source", digit_pictures, "--json", "--log-file", log)
    )
    assert log.read_text("utf-8") == result.stdout


def test_uncertain_pictures_are_kept(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    blends = tmp_path / "blends"
    blends.mkdir()
    pictures = [cv2.imread(str(path)) for path in sorted(digit_pictures.rglob("*.png"))]
    for i, (one, other) in enumerate(itertools.combinations(pictures, 2)):
        cv2.imwrite(str(blends / f"{i}.png"), cv2.addWeighted(one, 0.5, other, 0.5, 0))
    result = edgecls("run", int8_artifact, "--source", blends, "--json", "--save-frames", folder)
    assert result.exit_code == 0
    doubtful = [line for line in whole_lines(result.stdout) if line["score"] < 0.6]
    assert doubtful
    assert 1 <= len(list(folder.rglob("*.jpg"))) <= len(doubtful)


@pytest.mark.parametrize(
    "words",
    [
        ["--mqtt", "mqtt://me:secret@broker.local"],
        ["--mqtt", "http://broker.local"],
        ["--webhook", "nonsense"],
        ["--metrics", "nowhere:at:all"],
    ],
    ids=" ".join,
)
def test_a_sink_that_cannot_be_is_said_before_anything_runs(
    words: list[str], int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    result = edgecls("run", int8_artifact, "--source", digit_pictures, "--json", *words)
    assert result.exit_code != 0
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert "secret" not in result.stderr


def test_a_model_that_stands_where_the_log_file_should_is_left_as_it_is(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(int8_artifact, tmp_path / "model.tflite"))
    before = model.read_bytes()
    result = edgecls("run", model, "--source", digit_pictures, "--log-file", model)
    assert result.exit_code == 1
    assert "not a text file" in result.stderr
    assert model.read_bytes() == before


def test_two_runs_do_not_share_a_log_file(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    first = open_json_lines(log)
    result = edgecls("run", int8_artifact, "--source", digit_pictures, "--log-file", log)
    first.close()
    assert result.exit_code == 1
    assert "another process writes to this file; stop it, or name another" in result.stderr
    assert log.read_bytes() == b""


def test_a_spool_that_is_taken_can_be_another(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    url = "http://127.0.0.1:9/x"
    words = ["run", int8_artifact, "--source", digit_pictures, "--webhook", url, "--limit", "2"]
    descriptor, _ = lock(default_spool("webhook", url))
    try:
        refused = edgecls(*words)
        taken = edgecls(*words, "--spool", tmp_path / "mine.spool")
    finally:
        os.close(descriptor)
    assert refused.exit_code == 1
    assert "in use by process" in refused.stderr
    assert "--spool FILE" in refused.stderr
    assert taken.exit_code == 0, taken.stderr
    with sqlite3.connect(tmp_path / "mine.spool") as database:
        assert database.execute("SELECT count(*) FROM parcel").fetchone() == (2,)
    database.close()


def test_with_two_receivers_each_has_a_spool_of_its_own() -> None:
    plain = SinkOptions(None, "mqtt://b", None, None, None, None, Path("s/x.spool"))
    assert plain._spool("mqtt") == Path("s/x.spool")
    both = plain._replace(webhook="http://b")
    assert both._spool("mqtt") == Path("s/x.spool.mqtt")
    assert both._spool("webhook") == Path("s/x.spool.webhook")


# A disk that is full


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_full_disk_behind_standard_output_is_said(
    options: tuple[str, ...], int8_artifact: Path, digit_pictures: Path
) -> None:
    with Path("/dev/full").open("w") as full:
        process = start("run", int8_artifact, "--source", digit_pictures, *options, stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "No space left on device" in errors
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_a_file_that_may_not_grow_ends_with_a_whole_line(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    sources = [word for _ in range(5) for word in ("--source", digit_pictures)]
    words = ("run", int8_artifact, *sources, "--log-file", log)
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        preexec_fn=limit,  # this process has one thread here
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "could not be written" in errors
    assert "Traceback" not in errors
    lines = whole_lines(log.read_text("utf-8"))
    assert 3 <= len(lines) <= 20


def test_what_must_not_be_lost_is_written_first(tmp_path: Path) -> None:
    options = SinkOptions(
        tmp_path / "log.jsonl", None, "http://127.0.0.1:9/x", None, None, None, tmp_path / "s.spool"
    )
    with contextlib.ExitStack() as stack:
        sinks = options.open(stack, LiveStatistics(), as_json=True, live=True)
        kinds = [type(sink).__name__ for sink in sinks]
    assert kinds == ["Spool", "Extra", "JsonLines"]


def test_a_log_on_a_full_disk_does_not_end_a_camera(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    camera = f"fake:{digit_pictures}?fps=100"
    result = edgecls(
        *("run", int8_artifact, "--camera", camera, "--limit", "20", "--json"),
        *("--log-file", "/dev/full"),
    )
    assert result.exit_code == 0, result.stderr
    lines = whole_lines(result.stdout)
    assert sum(line["type"] == "frame" for line in lines) == 20
    (failed,) = [line for line in lines if line["type"] == "health" and line["source"] == "full"]
    assert failed["what"] == "sink failed"
    assert failed["detail"].startswith("No space left on device")


def test_a_run_starts_on_a_full_disk_and_says_so(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    def limit() -> None:  # no file may grow, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    words = ("run", int8_artifact, "--source", digit_pictures, "--json")
    process = subprocess.Popen(
        [*COMMAND, *map(str, words), "--webhook", "http://127.0.0.1:9/x"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "STATE_DIRECTORY": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "c")},
        preexec_fn=limit,  # this process has one thread here
    )
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    lines = whole_lines(output)
    assert sum(line["type"] == "frame" for line in lines) == 10
    assert "spool unavailable" in [line.get("what") for line in lines]


# Labels in another encoding


def test_a_label_file_in_latin_1_is_said_with_what_to_type(
    third_party_model: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_bytes("".join(f"größe {i}\n" for i in range(10)).encode("latin-1"))
    words = ("--labels", labels, "--normalize", "raw")
    result = edgecls("run", third_party_model, "--source", digit_pictures, *words)
    assert result.exit_code == 2
    assert "iconv -f latin1 -t utf-8" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.fixture
def third_party_model(float16_artifact: Path, tmp_path: Path) -> Path:
    pytest.importorskip("ai_edge_litert", reason="the extra [host] is not installed")
    from host_tools.tflite import pack_model, unpack_model

    model = unpack_model(float16_artifact.read_bytes())
    model.metadata = []
    path = tmp_path / "third_party.tflite"
    path.write_bytes(pack_model(model))
    return path


# Videos


def test_a_video_is_a_source(int8_artifact: Path, digit_pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "digits.avi"
    pictures = [cv2.imread(str(p)) for p in sorted(digit_pictures.rglob("*.png"))]
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (width, height))
    for picture in pictures:
        writer.write(picture)
    writer.release()
    words = ("--source", path, "--source", digit_pictures / "7", "--json")
    lines = whole_lines(edgecls("run", int8_artifact, *words).stdout)
    assert [line["frame"] for line in lines] == list(range(11))
    assert {line["source"] for line in lines[:10]} == {str(path)}
    assert lines[-1]["label"] == "7"


# soak


def test_soak_says_in_json_what_grew(int8_artifact: Path) -> None:
    result = edgecls("soak", int8_artifact, "--minutes", "0.05", "--json")
    assert result.exit_code in (0, 3, 4)
    content = json.loads(result.stdout)
    assert content["type"] == "soak"
    assert content["frames"] > 0
    names = [growth["name"] for growth in content["growth"]]
    assert names == ["rss_bytes", "private_bytes", "descriptors", "threads"]
    codes = {"pass": 0, "fail": 3, "inconclusive": 4}
    assert result.exit_code == codes[content["verdict"]]


def test_soak_takes_a_camera_and_leaves_nothing_behind(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    before = _descriptors()
    spec = f"fake:{digit_pictures}?fps=100"
    result = edgecls("soak", int8_artifact, "--minutes", "1", "--limit", "20", "--camera", spec)
    assert "20 frames in" in result.stdout
    assert _descriptors() == before


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_soak_knows_the_order_of_words(int8_artifact: Path) -> None:
    result = edgecls("soak", int8_artifact, "--camera", int8_artifact)
    assert result.exit_code == 2
    assert "a file is not a camera" in result.stderr
