"""Makes `separable.npz` and `four_digits.npz`: networks that tests need trained.

    python -m tests.golden.make_weights

Takes a minute, and the extra [host]. Another processor makes other weights of them, as good as
these: tests must pass with those, too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from host_tools.data.digits import write_digits
from host_tools.third_party.keras import load_keras
from tests.integration.depthwise import pictures_of, untrained_network
from tests.integration.host import QUICK, edgecls, some_digits

_HERE = Path(__file__).parent


def main() -> None:
    """Trains both on the digits of the tests, and writes their weights beside this file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = write_digits(folder / "all")
        digits = some_digits(whole, folder / "four", (0, 1, 4, 7), 100)
        _write("separable", _separable(digits), np.float32)
        _write("four_digits", _four_digits(digits, folder / "run"), np.float16)


def _separable(digits: Path) -> Any:
    import keras

    pixels, labels = pictures_of(digits)
    model = untrained_network(4)
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(pixels.astype(np.float32), labels, batch_size=32, epochs=12, verbose=0)
    return model


def _four_digits(digits: Path, run: Path) -> Any:
    """Trained long enough to be right about most pictures, too short to be right about all."""
    more = ("--set", "training.epochs=3", "--set", "training.schedule=cosine")
    result = edgecls("train", "digits", "--data", digits, "--out", run, *QUICK, *more)
    assert result.exit_code == 0, result.output
    return load_keras(run / "model.keras")


def _write(name: str, model: Any, kind: type[np.floating[Any]]) -> None:
    weights = [weight.astype(kind) for weight in model.get_weights()]
    np.savez_compressed(_HERE / f"{name}.npz", *weights)


if __name__ == "__main__":
    main()
