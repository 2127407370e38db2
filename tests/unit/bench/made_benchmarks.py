"""Benchmarks that nobody measured, with noise of a known kind, for tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_sdk.bench.results import Benchmark, ModelResult, PictureSet, Samples, Settings
from edge_sdk.machine.facts import Machine

BLOCKS = 40


def machine(cpu: str = "Cortex-A72") -> Machine:
    """A board at rest."""
    return Machine(
        board="Raspberry Pi 4 Model B Rev 1.4",
        cpu=cpu,
        cores=4,
        usable_cores=4,
        architecture="aarch64",
        governor="ondemand",
        driver="cpufreq-dt",
        clock_mhz=1800.0,
        clock_max_mhz=1800.0,
        clock_allowed_mhz=1800.0,
        temperature_c=48.0,
        temperature_limit_c=80.0,
        throttling=None,
        undervoltage=False,
        memory_mb=3900.0,
        memory_available_mb=3200.0,
        swap_mb=100.0,
        swap_used_mb=0.0,
        load=(0.1, 0.1, 0.1),
        packages={"numpy": "2.0.0"},
        emulated=None,
        virtualised=None,
        container=None,
        kernel="6.6.20",
        os="Debian GNU/Linux 12 (bookworm)",
        python="3.11.2",
    )


def session(seed: tuple[int, ...], ms: float, blocks: int = BLOCKS, each: int = 12) -> Samples:
    """Timings as a board gives them.

    What differs from session to session (1 %), a drift with a memory of three seconds (1.5 %) and a
    trend (1 %), runs that scatter by 5 %, three outliers in a hundred of up to five times as long,
    and now and then a block in which something else ran.
    """
    chance = np.random.default_rng(seed)
    block_s, memory_s = 0.25, 3.0
    keep = np.exp(-block_s / memory_s)
    drift = np.empty(blocks)
    drift[0] = chance.normal()
    for index in range(1, blocks):
        drift[index] = keep * drift[index - 1] + np.sqrt(1 - keep**2) * chance.normal()
    trend = chance.normal(0, 0.01) * np.linspace(0, 1, blocks)
    level = ms * np.exp(chance.normal(0, 0.01) + 0.015 * drift + trend)
    level *= np.where(chance.random(blocks) < 0.05, chance.uniform(1.1, 1.6, blocks), 1.0)
    runs = level[:, None] * np.exp(chance.normal(0, 0.05, (blocks, each)))
    runs *= np.where(chance.random(runs.shape) < 0.03, chance.uniform(1.5, 5.0, runs.shape), 1.0)
    return samples(runs)


def samples(inference_ms: np.ndarray) -> Samples:
    """Timings of one block per row; the other stages take a tenth of a millisecond."""
    blocks, each = inference_ms.shape
    n = blocks * each
    return Samples(
        block=tuple(np.repeat(np.arange(blocks), each).tolist()),
        at_s=tuple((np.arange(n) / 100).tolist()),
        preprocess_ms=(0.08,) * n,
        inference_ms=tuple(inference_ms.ravel().tolist()),
        postprocess_ms=(0.02,) * n,
    )


def model(timed: Samples, name: str = "digits_int8") -> ModelResult:
    """A model with these timings."""
    return ModelResult(
        path=f"models/{name}.tflite",
        name=name,
        sha256="0" * 64,
        format="int8",
        backend="cpu",
        runtime="ai-edge-litert 2.1.0",
        xnnpack=True,
        threads=1,
        size_bytes=91_700,
        model_bytes=80_000,
        input_px=(32, 32),
        pictures=PictureSet("self-test", "", 4, (32, 32)),
        load_ms=8.0,
        first_ms=1.5,
        samples=timed,
    )


def benchmark(*models: ModelResult, on: Machine | None = None) -> Benchmark:
    """A benchmark of them."""
    return Benchmark(
        created="2026-11-21T12:00:00.000+00:00",
        edgecls="0.1.0",
        machine=on or machine(),
        settings=Settings(10.0, 1.0, 0),
        models=models,
    )


def slower(timed: Samples, factor: float) -> Samples:
    """The same timings with another inference."""
    return replace(timed, inference_ms=tuple(factor * ms for ms in timed.inference_ms))
