"""scikit-learn's handwritten digits as a folder of pictures: real data that needs no download."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np

from edge_sdk.errors import WriteError
from host_tools.extras import require

_SIDE_PX = 32


def write_digits(folder: Path) -> Path:
    """Writes the 1,797 digits (UCI, 8x8 gray, 0..16) as 32x32 RGB PNG files, a folder per digit.

    The folder appears complete or not at all; an existing folder is left as it is.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        WriteError: the disk is full.
    """
    if folder.exists():
        return folder
    digits = require("sklearn.datasets").load_digits()
    unfinished = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        for index, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
            gray = np.round(image * (255 / 16)).astype(np.uint8)
            large = cv2.resize(gray, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_CUBIC)
            _, png = cv2.imencode(".png", cv2.cvtColor(large, cv2.COLOR_GRAY2BGR))
            (unfinished / str(digit)).mkdir(exist_ok=True)
            (unfinished / str(digit) / f"{index:04d}.png").write_bytes(png.tobytes())
        unfinished.chmod(0o755)
        unfinished.rename(folder)
    except OSError as error:
        if folder.exists():  # another process was faster
            return folder
        raise WriteError(
            f"{folder}: the digits could not be written ({error.strerror or error})"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder
