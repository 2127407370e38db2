"""Several runtimes compared: agreement, failures, and that the others continue."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.errors import ValidationError
from edge_sdk.types import Frame
from edge_sdk.vision.preprocess import Preprocessing
from host_tools.data.pictures import Decoded, Picture, Unreadable
from host_tools.package import set_scores
from host_tools.predict import Opening
from host_tools.validate import workers
from host_tools.validate.agreement import Agreement, Runtime, compare_runtimes, to_lines
from tests.integration.host import edgecls
from tests.integration.runtimes import as_third_party, open_runtime

_SIZE = Preprocessing(8, 8, channels=1)


def _pictures(n: int = 100) -> Iterator[Decoded | Unreadable]:
    """From black to white; dark ones are of class 0. The last ones set off what is to happen."""
    for i, level in enumerate(np.linspace(0, 255, n)):
        pixels = np.full((8, 8), level, np.uint8)
        picture = Picture(Path(f"{i}.png"), int(level > 127), None)
        yield Decoded(picture, Frame(pixels, "gray"), str(i))


def _compare(*backends: str, said: list[str] | None = None, **more: Any) -> Agreement:
    return compare_runtimes(
        [Runtime(Path("model.tflite"), backend) for backend in backends],
        Opening(),
        _SIZE,
        more.pop("pictures", _pictures()),
        (0, 1),
        open_model=open_runtime,
        note=(said if said is not None else []).append,
        **more,
    )


def test_runtimes_that_agree() -> None:
    agreement = _compare("good", "rounds", "good-too")
    assert [p.status for p in agreement.participants] == ["ok"] * 3
    assert [p.accuracy for p in agreement.participants] == [1, pytest.approx(0.99, abs=0.011), 1]
    exact, rounds, too = agreement.participants
    assert exact.score_difference is not None
    assert rounds.score_difference is not None
    assert exact.score_difference.largest == 0
    assert 0.003 < rounds.score_difference.largest <= 1 / 128 + 1e-6
    assert too.agreement == 1
    matrix = agreement.matrix
    assert all(matrix[i][i] == 1 for i in range(3))
    assert matrix[0][1] == matrix[1][0] == matrix[1][2] == rounds.agreement
    assert not agreement.broken
    assert not agreement.missing


@pytest.mark.parametrize(
    ("backend", "status", "part"),
    [
        ("crashes", "broken", "crashed its process (SIGABRT)"),
        ("crashes-at-once", "broken", "crashed its process (SIGABRT)"),
        ("leaves", "broken", "exit code 3"),
        ("fails", "broken", "out of luck"),
        ("damaged", "broken", "self-test"),
        ("absent", "missing", "pip install absent"),
    ],
)
def test_one_that_breaks_is_named_and_the_others_go_on(
    backend: str, status: str, part: str
) -> None:
    said: list[str] = []
    agreement = _compare("good", backend, "good-too", said=said)
    bad = agreement.participants[1]
    assert bad.status == status
    assert part in (bad.reason or "")
    assert bad.accuracy is bad.agreement is bad.score_difference is None
    assert [p.agreement for p in agreement.participants if p is not bad] == [1, 1]
    assert agreement.n == 100
    assert agreement.matrix[1] == (None, None, None)
    assert agreement.matrix[0][2] == 1
    assert len(said) == 1
    assert backend in said[0]
    assert part in said[0]


def test_one_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(workers.Worker):
        def __init__(self, path: Path, opening: Opening, open_model: Any) -> None:
            super().__init__(path, opening, open_model, timeout_s=20)

        def answer(self) -> Any:
            self._timeout_s = 2.0
            return super().answer()

    monkeypatch.setattr("host_tools.validate.agreement.Worker", Impatient)
    agreement = _compare("good", "hangs")
    assert agreement.participants[1].status == "broken"
    assert "not answered within 2 s" in (agreement.participants[1].reason or "")


def test_of_three_the_one_that_the_others_share_most_is_the_reference() -> None:
    agreement = _compare("contradicts", "good", "rounds", "good-too")
    assert agreement.reference == 1
    assert [p.status for p in agreement.participants] == ["disagrees", "ok", "ok", "ok"]
    assert _compare("contradicts", "good").reference == 0  # no other to compare with


def test_the_next_stands_in_for_a_reference_that_breaks() -> None:
    agreement = _compare("crashes", "good", "contradicts")
    assert agreement.reference == 1
    assert [p.status for p in agreement.participants] == ["broken", "ok", "disagrees"]
    assert "only" in (agreement.participants[2].reason or "")
    assert {p.runtime.backend for p in agreement.broken} == {"crashes", "contradicts"}


def test_few_pictures_do_not_accuse() -> None:
    # Three of four answers in common are 75 %, by chance or not.
    agreement = _compare("good", "once", pictures=_pictures(4))
    assert agreement.participants[1].agreement == 0.75
    assert agreement.participants[1].status == "ok"


def test_how_much_is_asked_for_can_be_chosen() -> None:
    assert _compare("good", "contradicts", min_agreement=0.0).participants[1].status == "ok"
    assert _compare("good", "once", min_agreement=1.0).participants[1].status == "disagrees"


def test_none_that_works_gives_no_matrix() -> None:
    agreement = _compare("absent", "damaged")
    assert agreement.reference is None
    assert set(agreement.matrix) == {(None, None)}
    lines = list(to_lines(agreement))
    assert not any("the same answers" in line for line in lines)


def test_no_pictures_are_refused() -> None:
    with pytest.raises(ValidationError, match="no picture to validate on"):
        _compare("good", "rounds", pictures=iter(()))


# The command, with real runtimes.


def _validate(*words: object) -> Any:
    return edgecls("validate", *words)


def test_two_real_runtimes_and_one_that_is_not_installed(
    int8_artifact: Path, digit_pictures: Path
) -> None:
    result = _validate(
        int8_artifact,
        *("--data", digit_pictures, "--split", "all", "--json"),
        *("--backend", "litert", "--backend", "tflite-runtime", "--backend", "litert-noxnnpack"),
    )
    found = json.loads(result.stdout)
    assert (found["schema"], found["type"], found["n"]) == (1, "agreement", 10)
    first, second, third = found["backends"]
    assert first["status"] == third["status"] == "ok"
    assert first["agreement"] == third["agreement"] == found["matrix"][0][2] == 1
    assert third["score_difference"]["max"] < 0.05
    assert first["runtime"].startswith("ai-edge-litert")
    if second["status"] == "missing":  # one of the two runtimes may be missing
        assert result.exit_code == 5
        assert "pip install tflite-runtime" in second["reason"]
        assert found["matrix"][1] == [None, None, None]
    else:
        assert result.exit_code == 0


def test_the_table_for_people(int8_artifact: Path, digit_pictures: Path) -> None:
    words = ("--backend", "litert", "--backend", "litert-noxnnpack")
    result = _validate(int8_artifact, "--data", digit_pictures, "--split", "all", *words)
    assert result.exit_code == 0, result.output
    assert "reference  litert  on 10 pictures" in result.stdout
    assert "the same answers, in % of the pictures" in result.stdout
    assert result.stdout.count("100.00") >= 6


def test_files_of_one_model_stand_in_one_matrix(
    int8_artifact: Path, float16_artifact: Path, digit_pictures: Path
) -> None:
    result = _validate(
        *(int8_artifact, float16_artifact, "--data", digit_pictures, "--split", "all"),
        *("--backend", "litert", "--backend", "litert-noxnnpack", "--json"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [Path(b["path"]).stem for b in found["backends"]] == [
        *("digits_int8", "digits_float16") * 2
    ]
    assert found["reference"] == 0


def test_a_temperature_is_no_difference_of_runtimes(
    int8_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    tempered = tmp_path / "tempered.tflite"
    tempered.write_bytes(int8_artifact.read_bytes())
    set_scores(tempered, 3.0, 0.0, {})
    words = ("--backend", "litert", "--backend", "litert-noxnnpack", "--json")
    result = _validate(int8_artifact, tempered, "--data", digit_pictures, "--split", "all", *words)
    found = json.loads(result.stdout)["backends"]
    assert [one["score_difference"]["max"] for one in found[:2]] == [0, 0]


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (
            ("--backend", "litert", "--backend", "onnx"),
            1,
            "--backend onnx: runs none of the given files",
        ),
        (("--backend", "litert", "--backend", "edgetpu"), 1, "--backend edgetpu: runs none"),
        (("--backend", "litert", "--backend", "gpu"), 2, "no backend is called 'gpu'"),
        (
            ("--backend", "litert", "--backend", "cpu", "--reference", "x.keras"),
            2,
            "--reference needs a single --backend",
        ),
        (
            ("--backend", "litert", "--backend", "cpu", "--max-drop", "1"),
            2,
            "--max-drop needs a single --backend",
        ),
        ((), 2, "Missing option '--reference'"),
    ],
)
def test_words_that_do_not_fit_together(
    words: tuple[str, ...], code: int, part: str, int8_artifact: Path, digit_pictures: Path
) -> None:
    result = _validate(int8_artifact, "--data", digit_pictures, "--split", "all", *words)
    assert result.exit_code == code, result.output
    assert part in result.stderr
    assert "Traceback" not in result.output


def test_a_model_that_answers_with_nan_is_broken_everywhere(
    float16_artifact: Path, digit_pictures: Path, tmp_path: Path
) -> None:
    path, words = as_third_party(float16_artifact, tmp_path / "nan.tflite", bias={4: np.nan})
    result = _validate(
        *(path, *words, "--data", digit_pictures),
        *("--split", "all", "--json", "--backend", "litert", "--backend", "litert-noxnnpack"),
    )
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert [b["status"] for b in found["backends"]] == ["broken", "broken"]
    assert all("NaN" in b["reason"] for b in found["backends"])
    assert found["reference"] is None


def test_an_onnx_file_beside_a_tflite(built: Path, digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra [onnx] is not installed")
    converted = edgecls(
        "convert", built, "--data", digits, "--format", "onnx-int8", "--out", tmp_path
    )
    if converted.exit_code == 2:
        pytest.skip("no such format")
    (onnx,) = tmp_path.glob("*.onnx")
    result = _validate(
        *(built / "digits_int8.tflite", onnx, "--data", digits, "--json"),
        *("--backend", "litert", "--backend", "onnx"),
    )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert [b["backend"] for b in found["backends"]] == ["litert", "onnx"]
    assert found["matrix"][0][1] > 0.9
