"""Public data sets, read as they were downloaded."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

from host_tools.data.layouts import find_pictures
from host_tools.data.pictures import read_picture


def test_ten_classes_of_tiny_imagenet(public_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(public_data / "tiny-imagenet-10.zip") as archive:
        archive.extractall(tmp_path)
    folder = find_pictures(tmp_path / "tiny-imagenet-10")
    assert folder.layout == "tiny-imagenet"
    assert folder.classes[:3] == ("goldfish", "black stork", "walking stick")
    counts = Counter((picture.label, picture.split) for picture in folder.pictures)
    assert counts == {(i, s): n for i in range(10) for s, n in (("train", 500), ("test", 50))}
    # Every goldfish is called after its class in train; in val only the annotations know.
    first = next(picture for picture in folder.pictures if picture.split == "test")
    lines = (tmp_path / "tiny-imagenet-10/val/val_annotations.txt").read_text().splitlines()
    wnids = {line.split("\t")[0]: line.split("\t")[1] for line in lines}
    beside = [p for p in folder.pictures if p.split == "train" and p.label == first.label]
    assert {p.path.name.split("_")[0] for p in beside} == {wnids[first.path.name]}
    pixels = read_picture(first).pixels
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
