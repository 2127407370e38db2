"""The report of a real run: figures, pictures and the page, on data with names made to break it."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("tensorflow", reason="the extra [host] is not installed")

from edge_sdk.errors import TrainingError
from host_tools import workflow
from host_tools.data.load import DataPlace, load_for
from host_tools.evaluate.figures import evaluate
from host_tools.predict import load_scores
from host_tools.report import pictures
from host_tools.report.page import predictor, write_page, write_report
from host_tools.report.pictures import TILE_PX, Answered, draw_sheets
from host_tools.run_directory import RunDirectory, find_trained
from tests.integration.host import QUICK, edgecls

# Markup, a formula of matplotlib's that is broken, quotes; and a letter that its font lacks.
_RARE, _COMMON = "<script>alert(1)", '$\\frac "& 数'


class _Page(HTMLParser):
    """What a browser would see: every tag, and the text of headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.headings: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "h2" and data.strip():
            self.headings.append(data.strip())


@pytest.fixture(scope="module")
def two(all_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build on two classes, one rarer; one test picture is damaged while it is under way."""
    folder = tmp_path_factory.mktemp("two")
    for name, digit, each in ((_RARE, 3, 30), (_COMMON, 8, 90)):
        (folder / "data" / name).mkdir(parents=True)
        for picture in sorted((all_digits / str(digit)).glob("*.png"))[:each]:
            shutil.copy(picture, folder / "data" / name)
    usual = workflow.validate

    def validate_one_less(*words: object, **options: object) -> object:
        trained = find_trained(folder / "run")
        assert trained.recipe is not None
        dataset = load_for(trained.recipe, DataPlace(folder / "data"), lambda _: None)
        damaged = dataset.splits["test"].pictures[0].path
        damaged.write_bytes(damaged.read_bytes()[:60])
        return usual(*words, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "validate", validate_one_less)
        result = edgecls(
            *("build", "digits", "--data", folder / "data", "--out", folder / "run", *QUICK),
            *("--set", "conversion.formats=['int8']", "--set", "training.epochs=2"),
        )
    assert result.exit_code in (0, 4), result.output
    return folder / "run"


def test_the_report_says_everything_of_the_test_split(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    found, saved = report["evaluation"], load_scores(built / "reference_scores.npz")
    assert found["split"] == "test"
    assert found["n"] == len(saved.scores)
    assert found["accuracy"] == report["validation"]["reference"]["accuracy"]
    assert found["calibration"]["ece"] == report["validation"]["reference"]["ece"]
    assert set(found) == {
        *("split", "n", "accuracy", "accuracy_ci95", "top5", "log_loss", "labels", "confusion"),
        *("per_class", "macro", "weighted", "positive", "roc_auc", "average_precision", "roc"),
        *("pr", "calibration", "confused", "robustness"),
    }
    borne = found["robustness"]
    assert min(100, found["n"]) <= borne["n"] <= found["n"]
    kinds = [one["kind"] for one in borne["kinds"]]
    assert kinds == ["noise", "blur", "low light", "jpeg", "contrast"]
    assert all(len(one["accuracy"]) == 5 for one in borne["kinds"])


def test_artifacts_have_top5_and_calibration_too(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    for artifact in report["validation"]["artifacts"]:
        assert artifact["top5"] is None  # four classes
        assert abs(artifact["ece"] - report["evaluation"]["calibration"]["ece"]) < 0.05


def test_the_page_has_every_section_and_the_first_figures_first(built: Path) -> None:
    page = _Page((built / "report.html").read_text())
    assert page.headings == [
        "The cost of conversion",
        "How good it is: test split, float model",
        "Confusion",
        "The worst mistakes",
        "Class by class",
        "Accuracy on corrupted pictures",
        "Calibration of the scores",
        "Training",
        "Training pictures",
        "The network",
        "How it was made",
    ]
    assert (built / "report.html").stat().st_size < 1_500_000


def test_sheets_of_pictures_lie_beside_the_page_and_in_it(built: Path) -> None:
    page = (built / "report.html").read_text()
    for name in ("mistakes", "examples"):
        sheet = cv2.imread(str(built / "plots" / f"{name}.jpg"))
        assert sheet is not None
        assert f".{name} {{ background-image: url(data:image/jpeg;base64,/9j/" in page
        for x, y in re.findall(rf'{name}" style="background-position: -(\d+)px -(\d+)px"', page):
            assert int(x) + TILE_PX <= sheet.shape[1]
            assert int(y) + TILE_PX <= sheet.shape[0]


def test_two_classes_have_curves_and_a_positive_class(two: Path) -> None:
    found = json.loads((two / "report.json").read_text())["evaluation"]
    assert found["positive"] == _RARE
    assert 0 <= found["roc_auc"] <= 1
    assert len(found["roc"]["fpr"]) == len(found["roc"]["tpr"])
    for plot in ("roc", "pr"):
        assert (two / "plots" / f"{plot}.png").stat().st_size > 1000
    page = _Page((two / "report.html").read_text())
    assert "Finding" in " ".join(page.headings)


def test_worse_pictures_are_measured_only_where_that_is_asked_for(two: Path, built: Path) -> None:
    assert json.loads((built / "report.json").read_text())["evaluation"]["robustness"] is not None
    assert json.loads((two / "report.json").read_text())["evaluation"]["robustness"] is None
    assert "Accuracy on corrupted pictures" not in _Page((two / "report.html").read_text()).headings


def test_labels_cannot_break_the_page(two: Path) -> None:
    text = (two / "report.html").read_text()
    page = _Page(text)
    assert "script" not in page.tags
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert page.tags.count("svg") == 8


def test_a_picture_lost_on_the_way_is_still_in_the_evaluation(two: Path) -> None:
    report = json.loads((two / "report.json").read_text())
    assert len(report["validation"]["unreadable"]) == 1
    assert report["evaluation"]["n"] == report["validation"]["reference"]["n"] + 1
    assert sum(row["n"] for row in report["evaluation"]["per_class"]) == report["evaluation"]["n"]


def test_a_run_without_validation_pictures_has_an_empty_evaluation(
    built: Path, digits: Path, tmp_path: Path
) -> None:
    run = RunDirectory(Path(shutil.copytree(built, tmp_path / "run")))
    trained = find_trained(run.path)
    assert trained.recipe is not None
    dataset = load_for(trained.recipe, DataPlace(digits), lambda _: None).all_for_training()
    report = {**run.read_report(), "validation": None}

    def never(_: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise AssertionError("there is nothing to ask")

    write_report(run, report, dataset, "validation", np.empty((0, 4), np.float32), never)
    found = run.read_report()["evaluation"]
    assert (found["n"], found["accuracy"], found["robustness"]) == (0, None, None)
    assert not (run.path / "plots" / "mistakes.jpg").exists()  # that was of the test split
    headings = _Page(run.page.read_text()).headings
    assert headings == ["Training", "Training pictures", "The network", "How it was made"]


def test_a_model_that_answers_with_nan_is_said() -> None:
    class Broken:
        def predict_on_batch(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((len(pixels), 2), np.nan, np.float32)

    with pytest.raises(TrainingError, match="NaN instead of scores; train it again"):
        predictor(Broken())(np.zeros((1, 8, 8, 3), np.uint8))


# ---------------------------------------------------------------- sheets of pictures


def _answered(n: int, classes: int, side: int = 8) -> Answered:
    """Pictures whose brightness is their number; one in three is answered wrongly."""
    random = np.random.default_rng(0)
    truth = np.arange(n) % classes
    answers = np.where(np.arange(n) % 3 == 0, (truth + 1) % classes, truth)
    scores = random.random((n, classes)).astype(np.float32) * 0.4
    scores[np.arange(n), answers] = 0.5 + 0.5 * random.random(n).astype(np.float32)
    pixels = np.repeat(np.arange(n, dtype=np.uint8), side * side).reshape(n, side, side, 1)
    names = [f"{i}.png" for i in range(n)]
    labels = tuple(f"c{i}" for i in range(classes))
    return Answered(scores, truth, labels, names, lambda rows: pixels[rows])


def _brightness(sheet: bytes, shown: pictures.ShownPicture) -> float:
    pixels = cv2.imdecode(np.frombuffer(sheet, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    tile = pixels[shown.y + 8 : shown.y + TILE_PX - 8, shown.x + 8 : shown.x + TILE_PX - 8]
    return float(tile.mean())


def test_the_worst_mistakes_are_the_surest_wrong_answers() -> None:
    answered = _answered(200, 5)
    found = draw_sheets(answered)
    assert found.n_mistakes == 67
    assert len(found.mistakes) == pictures.MOST_MISTAKES
    scores = [shown.score for shown in found.mistakes]
    assert scores == sorted(scores, reverse=True)
    wrong = answered.scores.argmax(axis=1) != answered.truth
    assert scores[0] == pytest.approx(answered.scores.max(axis=1)[wrong].max())
    for shown in found.mistakes:
        row = int(shown.name.removesuffix(".png"))
        assert shown.truth == answered.labels[answered.truth[row]] != shown.answer
        assert _brightness(found.mistakes_jpeg, shown) == pytest.approx(row, abs=2)


def test_examples_are_of_their_class_and_side() -> None:
    found = draw_sheets(_answered(200, 5))
    assert [one.label for one in found.examples] == ["c0", "c1", "c2", "c3", "c4"]
    for one in found.examples:
        assert len(one.right) == len(one.wrong) == pictures.EACH
        for shown in (*one.right, *one.wrong):
            assert shown.truth == one.label
            assert (shown.answer == shown.truth) == (shown in one.right)
            row = int(shown.name.removesuffix(".png"))
            assert _brightness(found.examples_jpeg, shown) == pytest.approx(row, abs=2)


def test_of_many_classes_those_with_the_lowest_recall_are_shown() -> None:
    found = draw_sheets(_answered(250, 125))
    assert found.n_classes == 125
    assert len(found.examples) == pictures.MOST_CLASSES
    assert all(one.wrong for one in found.examples)
    labels = [int(one.label[1:]) for one in found.examples]
    assert labels == sorted(labels)
    assert len(found.examples_jpeg) < 300_000


def test_without_mistakes_there_is_no_sheet_of_them() -> None:
    answered = _answered(2, 2)
    right = Answered(
        np.eye(2, dtype=np.float32), np.arange(2), answered.labels, "ab", answered.pixels_of
    )
    found = draw_sheets(right)
    assert (found.mistakes, found.mistakes_jpeg, found.n_mistakes) == ((), b"", 0)
    assert [len(one.right) for one in found.examples] == [1, 1]


@pytest.mark.slow
def test_a_page_of_two_hundred_classes_stays_light(built: Path, tmp_path: Path) -> None:
    answered = _answered(255, 200)
    run = RunDirectory(Path(shutil.copytree(built, tmp_path / "run")))
    found = evaluate(answered.scores, answered.truth, answered.labels, "test")
    report = {**run.read_report(), "evaluation": dataclasses.asdict(found), "validation": None}
    run.write_report(report)
    write_page(run, draw_sheets(answered))
    text = run.page.read_text()
    assert "The 30 of 200 classes with the lowest F1" in text
    assert "the 20 of 200 classes with the lowest recall" in text
    assert len(text) < 1_500_000
