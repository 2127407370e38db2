"""`edgecls data check`: every finding on real pictures, and no false findings."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from host_tools.data.layouts import find_pictures
from tests.integration.host import edgecls

_JSON = Path(__file__).parents[2] / "docs" / "json.md"

Pixels = NDArray[np.uint8]

_HOSTILE = '<script>alert("1")</script>'.replace("/", "\N{FRACTION SLASH}")


def _check(data: Path, *words: object) -> tuple[int, dict[str, Any]]:
    result = edgecls("data", "check", data, "--json", *words)
    return result.exit_code, json.loads(result.stdout)


def _found(report: dict[str, Any], part: str) -> list[str]:
    """The severities of the findings that say so."""
    return [f["severity"] for f in report["findings"] if part in f["what"]]


@pytest.fixture
def split_digits(digits: Path, tmp_path: Path) -> Path:
    """Fours and sevens, ready splits of different pictures."""
    root = tmp_path / "data"
    for digit in ("4", "7"):
        pictures = sorted((digits / digit).iterdir())
        for split, some in (("train", pictures[:30]), ("val", pictures[30:40])):
            (root / split / digit).mkdir(parents=True)
            for picture in some:
                shutil.copy(picture, root / split / digit)
        (root / "test" / digit).mkdir(parents=True)
        for picture in pictures[40:50]:
            shutil.copy(picture, root / "test" / digit)
    return root


@pytest.fixture(scope="session")
def photographs(public_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two classes of TrashNet, in train and test, none of them a copy."""
    root = tmp_path_factory.mktemp("photographs") / "waste"
    with zipfile.ZipFile(public_data / "trashnet.zip") as archive:
        for label in ("plastic", "trash"):
            names = sorted(n for n in archive.namelist() if f"/{label}/" in n and n[-1] != "/")[:45]
            for place, name in enumerate(names):
                folder = root / ("train" if place < 30 else "test") / label
                folder.mkdir(parents=True, exist_ok=True)
                (folder / Path(name).name).write_bytes(archive.read(name))
    return root


def test_digits_have_no_faults(digits: Path) -> None:
    code, report = _check(digits)
    assert code == 0
    assert report["findings"] == []
    assert report["near_copies"]["groups"] == 0  # no seven is taken for another
    assert report["classes"][0] == {"label": "0", "n": 100, "splits": {}}
    result = edgecls("data", "check", digits)
    assert "no findings" in result.stdout
    assert re.search(r"^4 +100$", result.stdout, re.MULTILINE)


def test_all_1797_digits_have_no_near_copies(all_digits: Path) -> None:
    code, report = _check(all_digits)
    assert code == 0
    assert report["n"] == 1797
    assert report["near_copies"]["pictures"] == 0


def test_the_json_of_clean_splits(split_digits: Path) -> None:
    code, report = _check(split_digits)
    assert code == 0
    assert (
        list(report)
        == (
            "schema type path layout n ready_splits classes imbalance size_px tiny elongated gray "
            "unreadable misnamed not_read exact_copies near_copies pairs straddling_groups findings"
        ).split()
    )
    assert (report["schema"], report["type"], report["layout"]) == (1, "data_check", "folders")
    assert report["ready_splits"] == ["train", "validation", "test"]
    splits = {"train": 30, "validation": 10, "test": 10}
    assert report["classes"][1] == {"label": "7", "n": 50, "splits": splits}
    assert report["size_px"]["width"] == {"min": 32, "median": 32, "max": 32}
    assert report["imbalance"] == 1
    assert report["findings"] == []
    keys = set(re.findall(r"`([a-z_]+)`", _JSON.read_text("utf-8")))
    assert set(report) - {"schema", "type"} <= keys


def test_an_exact_copy_in_two_splits_is_a_leak(split_digits: Path) -> None:
    first = min((split_digits / "train" / "4").iterdir())
    shutil.copy(first, split_digits / "test" / "4" / "again.png")
    code, report = _check(split_digits, "--near", 0)
    assert code == 3
    assert report["exact_copies"] == {"groups": 1, "pictures": 2, "conflicts": 0, "leaks": 1}
    assert report["near_copies"] is None
    assert _found(report, "exact copy in an earlier split") == ["error"]
    (pair,) = report["pairs"]["first"]
    assert (pair["kind"], pair["leak"], pair["conflict"]) == ("exact", True, False)
    assert {side["split"] for side in pair["pictures"]} == {"train", "test"}
    result = edgecls("data", "check", split_digits)
    assert result.exit_code == 3
    assert "leak" in result.stderr
    assert "error: 1 picture of validation or test with an exact copy" in result.stdout


def test_copies_in_folders_that_are_not_split_do_not_leak(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    shutil.copy(min((tmp_path / "data" / "7").iterdir()), tmp_path / "data" / "7" / "again.png")
    code, report = _check(tmp_path / "data")
    assert code == 0
    assert report["exact_copies"]["leaks"] == 0
    assert _found(report, "1 picture is an exact copy") == ["note"]


def test_a_picture_in_two_classes_is_a_conflict(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits, tmp_path / "data")
    shutil.copy(min((tmp_path / "data" / "7").iterdir()), tmp_path / "data" / "1" / "seven.png")
    code, report = _check(tmp_path / "data")
    assert code == 0
    assert report["exact_copies"]["conflicts"] == 1
    assert _found(report, "in several classes") == ["warning"]
    assert "1 and 7" in str(report["findings"])


def _compressed(pixels: Pixels) -> Pixels:
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 40])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def _brighter(pixels: Pixels) -> Pixels:
    return np.clip(pixels.astype(int) + 25, 0, 255).astype(np.uint8)


def _smaller(pixels: Pixels) -> Pixels:
    return cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _colourless(pixels: Pixels) -> Pixels:
    return np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("change", [_compressed, _brighter, _smaller, _colourless])
def test_a_near_copy_in_two_splits_is_a_leak(
    change: Callable[[Pixels], Pixels], photographs: Path, tmp_path: Path
) -> None:
    shutil.copytree(photographs, tmp_path / "data")
    original = min((tmp_path / "data" / "train" / "plastic").iterdir())
    copy = tmp_path / "data" / "test" / "plastic" / "copy.png"
    cv2.imwrite(str(copy), change(cv2.imread(str(original))))
    code, report = _check(tmp_path / "data")
    assert code == 3
    assert report["near_copies"]["leaks"] == 1
    assert _found(report, "near copy in an earlier split") == ["error"]
    (pair,) = (pair for pair in report["pairs"]["first"] if pair["leak"])
    assert {side["path"] for side in pair["pictures"]} == {str(original), str(copy)}
    assert _check(tmp_path / "data", "--near", 0)[0] == 0


def test_photographs_of_similar_things_do_not_leak(photographs: Path) -> None:
    code, report = _check(photographs)
    assert code == 0
    assert report["near_copies"]["leaks"] == 0


def test_a_digit_that_was_enlarged_is_a_near_copy(split_digits: Path) -> None:
    original = min((split_digits / "train" / "4").iterdir())
    large = cv2.resize(
        cv2.imread(str(original)), None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC
    )
    cv2.imwrite(str(split_digits / "test" / "4" / "large.png"), large)
    code, report = _check(split_digits)
    assert code == 3
    assert report["near_copies"]["leaks"] == 1
    assert len(report["pairs"]["first"]) == 1


def test_near_copies_may_be_separated_by_chance(photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs / "train", tmp_path / "data")
    original = min((tmp_path / "data" / "plastic").iterdir())
    pixels = _compressed(cv2.imread(str(original)))
    cv2.imwrite(str(tmp_path / "data" / "plastic" / "copy.png"), pixels)
    code, report = _check(tmp_path / "data")
    assert code == 0
    assert _found(report, "near copies of each other") == ["warning"]


def test_a_patient_in_two_splits_is_a_leak(digits: Path, tmp_path: Path) -> None:
    rows = ["image,label,patient_id,split"]
    for digit in ("4", "7"):
        for place, picture in enumerate(sorted((digits / digit).iterdir())[:12]):
            shutil.copy(picture, tmp_path / picture.name)
            split = "test" if place >= 8 else "train"
            patient = "IP_7" if place in (3, 9) else f"IP_{digit}{place}"
            rows.append(f"{picture.name},{digit},{patient},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    code, report = _check(tmp_path)
    assert code == 3
    assert report["straddling_groups"] == {"n": 1, "first": ["IP_7"]}
    assert _found(report, "1 group has pictures in several splits (IP_7)") == ["error"]
    assert report["not_read"]["others"]["n"] == 0  # the table belongs to its layout
    (tmp_path / "table.csv").write_text(
        "\n".join(row.replace("IP_7,test", "P,test") for row in rows)
    )
    assert _check(tmp_path)[0] == 0


def test_one_picture_of_two_patients_is_said(digits: Path, tmp_path: Path) -> None:
    rows = ["image,label,patient_id"]
    for digit in ("4", "7"):
        for place, picture in enumerate(sorted((digits / digit).iterdir())[:8]):
            shutil.copy(picture, tmp_path / f"{digit}_{place}.png")
            rows.append(f"{digit}_{place},{digit},IP_{digit}{place}")
    shutil.copy(tmp_path / "4_1.png", tmp_path / "4_again.png")
    (tmp_path / "table.csv").write_text("\n".join([*rows, "4_again,4,IP_46"]))
    report = _check(tmp_path)[1]
    assert _found(report, "1 picture has exact copies in several groups") == ["warning"]
    assert any("IP_41 and IP_46" in finding["what"] for finding in report["findings"])
    (tmp_path / "table.csv").write_text("\n".join([*rows, "4_again,4,IP_41"]))
    assert not _found(_check(tmp_path)[1], "in several groups")


def test_files_that_cannot_be_read_or_are_not(digits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    good = min((data / "0").iterdir())
    (data / "0" / "cut.png").write_bytes(good.read_bytes()[:100])
    shutil.move(good, good.with_suffix(".jpg"))
    (data / "1" / "phone.HEIC").write_bytes(b"ftypheic")
    (data / "1" / "Thumbs.db").write_bytes(b"thumbs")
    (data / "1" / ".DS_Store").write_bytes(b"hidden")
    (data / "README.md").write_text("about the data")
    shutil.copy(min((data / "4").iterdir()), data / "lying about.png")
    code, report = _check(data)
    assert code == 0
    assert [Path(u["path"]).name for u in report["unreadable"]] == ["cut.png"]
    assert "cut off" in report["unreadable"][0]["reason"]
    assert report["misnamed"]["first"] == [{"path": str(good.with_suffix(".jpg")), "kind": "PNG"}]
    not_read = {name: [Path(p).name for p in n["first"]] for name, n in report["not_read"].items()}
    assert not_read == {
        "foreign": ["phone.HEIC"],
        "unlabelled": ["lying about.png"],
        "others": ["Thumbs.db"],
    }
    assert _found(report, "1 picture cannot be read") == ["warning"]
    assert _found(report, "1 picture is of another format") == ["note"]
    assert _found(report, "phone.HEIC") == ["warning"]
    assert _found(report, "belongs to no class") == ["warning"]
    assert _found(report, "Thumbs.db") == ["note"]


def test_nothing_is_odd_about_tiny_imagenet(public_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(public_data / "tiny-imagenet-10.zip") as archive:
        archive.extractall(tmp_path)
    code, report = _check(tmp_path / "tiny-imagenet-10")
    assert code == 0
    assert report["n"] == 5500
    assert not any(report["not_read"][kind]["n"] for kind in report["not_read"])
    assert report["misnamed"]["n"] == report["near_copies"]["groups"] == 0
    assert [finding["severity"] for finding in report["findings"]] == ["note"]
    assert _found(report, "without colours") == ["note"]


def test_sizes_and_shapes(digits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    one, other = sorted((data / "0").iterdir())[:2]
    cv2.imwrite(str(one), cv2.resize(cv2.imread(str(one)), (20, 24)))
    cv2.imwrite(str(other), cv2.resize(cv2.imread(str(other)), (330, 64)))
    _, report = _check(data)
    assert (report["tiny"], report["elongated"]) == (1, 1)
    assert report["size_px"]["width"] == {"min": 20, "median": 32, "max": 330}
    assert report["size_px"]["height"] == {"min": 24, "median": 32, "max": 64}
    assert _found(report, "20 x 24") == ["note"]
    assert _found(report, "330 x 64") == ["note"]


def test_an_imbalance_of_ten_to_one_is_noted(digits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits / "1", data / "1")
    (data / "7").mkdir()
    sevens = sorted((digits / "7").iterdir())
    for seven in sevens[:10]:
        shutil.copy(seven, data / "7")
    code, report = _check(data)
    assert (code, report["imbalance"]) == (0, 10)
    assert _found(report, "10 to 1") == ["note"]
    assert 'training.class_weights = "balanced"' in str(report["findings"])
    shutil.copy(sevens[10], data / "7")
    assert _check(data)[1]["findings"] == []


def test_a_class_that_is_missing_in_the_test_split_is_named(split_digits: Path) -> None:
    shutil.rmtree(split_digits / "test" / "7")
    code, report = _check(split_digits)
    assert code == 0
    assert _found(report, "in test for 7") == ["warning"]


def test_one_class_is_said_to_be_no_classification(digits: Path, tmp_path: Path) -> None:
    shutil.copytree(digits / "4", tmp_path / "data" / "4")
    code, report = _check(tmp_path / "data")
    assert code == 0
    assert _found(report, "only one class, 4") == ["warning"]


def test_gray_pictures_among_coloured_ones_are_counted(photographs: Path, tmp_path: Path) -> None:
    shutil.copytree(photographs, tmp_path / "data")
    gray = min((tmp_path / "data" / "train" / "trash").iterdir())
    cv2.imwrite(str(gray), _colourless(cv2.imread(str(gray))))
    _, report = _check(tmp_path / "data")
    assert report["gray"] == 1
    assert _found(report, "without colours") == ["note"]


@pytest.mark.parametrize("broken", [False, True])
def test_no_pictures_at_all_is_bad_data(broken: bool, tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    if broken:
        (tmp_path / "data" / "a" / "1.jpg").write_bytes(b"no picture")
    result = edgecls("data", "check", tmp_path / "data", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    expected = "none of its 1 pictures can be read, first" if broken else "no pictures in it"
    assert expected in result.stderr


def test_what_is_not_there_and_what_is_no_layout(digits: Path, tmp_path: Path) -> None:
    assert edgecls("data", "check", tmp_path / "nowhere").exit_code == 1
    result = edgecls("data", "check", digits, "--layout", "folder")
    assert result.exit_code == 1
    assert "did you mean folders?" in result.stderr


def test_the_page_shows_samples_and_pairs_and_no_label_is_obeyed(
    split_digits: Path, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        (split_digits / split / "7").rename(split_digits / split / _HOSTILE)
    first = min((split_digits / "train" / "4").iterdir())
    shutil.copy(first, split_digits / "test" / _HOSTILE / "again.png")
    page = tmp_path / "out" / "data-check.html"
    result = edgecls("data", "check", split_digits, "--page", page)
    assert result.exit_code == 3
    text = page.read_text("utf-8")
    assert f"wrote {page}" in result.stderr
    assert _HOSTILE not in text
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "the same pixels, two splits, two classes" in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched
    # Eight samples of two classes, and two sides of a pair.
    images = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(images) == 2 * 8 + 2
    again = edgecls("data", "check", split_digits, "--page", page)
    assert again.exit_code == 3
    assert page.read_text("utf-8") == text


def test_colours_are_right_on_the_page(tmp_path: Path) -> None:
    for name, rgb in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (tmp_path / "data" / name).mkdir(parents=True)
        pixels = np.full((300, 100, 3), rgb[::-1], np.uint8)
        cv2.imwrite(str(tmp_path / "data" / name / "1.png"), pixels)
    page = tmp_path / "page.html"
    assert edgecls("data", "check", tmp_path / "data", "--page", page).exit_code == 0
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text("utf-8"))
    decoded = [
        cv2.imdecode(np.frombuffer(base64.b64decode(d), np.uint8), cv2.IMREAD_COLOR) for d in data
    ]
    assert [image.shape for image in decoded] == [(96, 32, 3)] * 2
    assert [int(image[50, 16].argmax()) for image in decoded] == [0, 2]  # BGR: blue, then red


def test_a_page_says_what_it_leaves_out(digits: Path, tmp_path: Path) -> None:
    pictures = sorted(path for path in digits.rglob("*.png"))
    for number in range(110):
        folder = tmp_path / "data" / f"class {number:03d}"
        folder.mkdir(parents=True)
        shutil.copy(pictures[number], folder / "1.png")
        shutil.copy(pictures[number], folder / "2.png")
    page = tmp_path / "page.html"
    assert edgecls("data", "check", tmp_path / "data", "--page", page).exit_code == 0
    text = page.read_text("utf-8")
    assert "The first 100 of 110 classes." in text
    assert "The first 40 of 110 pairs" in text


def test_batches_without_files_of_their_own_can_be_checked(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from host_tools.data.audit.examine import examine
    from host_tools.data.pictures import Picture, PictureFolder, read_picture

    folder = find_pictures(digits)
    inside = [
        Picture(Path("batch") / f"{i:05d}", p.label, None, pixels=read_picture(p).pixels)
        for i, p in enumerate(folder.pictures[::10])
    ]
    batch = PictureFolder(tmp_path / "batch.tar.gz", folder.classes, tuple(inside), "cifar10")
    seen = examine(batch)
    assert len(seen.pictures) == 40
    assert seen.misnamed == ()
    assert seen.strays.others == ()


def test_a_name_cannot_steer_the_terminal(digits: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(digits, data)
    (data / "0" / "\x1b[2Jcut.png").write_bytes(b"\x89PNG")
    result = edgecls("data", "check", data)
    assert "cut.png" in result.stdout
    assert "\x1b" not in result.stdout


def test_a_name_that_is_no_text_is_told_all_the_same(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "data" / "0").mkdir(parents=True)
    (tmp_path / "data" / "0" / "1.png").write_bytes(min((digits / "0").iterdir()).read_bytes())
    strange = os.fsencode(tmp_path / "data" / "0") + b"/caf\xe9.png"
    Path(os.fsdecode(strange)).write_bytes(b"")
    Path(os.fsdecode(strange.replace(b"caf", b"other"))).write_bytes(
        min((digits / "1").iterdir()).read_bytes()
    )
    page = tmp_path / "page.html"
    result = edgecls("data", "check", tmp_path / "data", "--page", page)
    assert result.exit_code == 0
    assert "caf\\udce9.png" in result.stdout
    assert "other\\udce9.png" in page.read_text("utf-8")
    assert _check(tmp_path / "data")[1]["unreadable"][0]["path"].endswith("caf\udce9.png")


def test_jpegs_that_are_damaged_inside_are_named_and_a_link_in_circles_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            noise = np.random.default_rng(number + 4 * (label == "dog"))
            pixels = cv2.resize(noise.integers(0, 256, (16, 16, 3), np.uint8), (96, 96))
            data = cv2.imencode(".jpg", pixels)[1].tobytes()
            if number == 2:
                data = data[: len(data) * 2 // 3] + b"\xff\xd9"
            (tmp_path / label / f"{number}.jpg").write_bytes(data)
    loop = tmp_path / "cat" / "loop.jpg"
    loop.symlink_to(loop)
    result = edgecls("data", "check", tmp_path, "--json")
    report = json.loads(result.stdout)
    assert [(Path(u["path"]).parts[-2:]) for u in report["unreadable"]] == [
        ("cat", "2.jpg"),
        ("dog", "2.jpg"),
    ]
    assert all("damaged inside" in u["reason"] for u in report["unreadable"])
    assert _found(report, "2 pictures cannot be read") == ["warning"]
    assert _found(report, "1 picture belongs to no class") == ["warning"]
    assert f"{loop}: left out, a symbolic link that loops" in caplog.text
