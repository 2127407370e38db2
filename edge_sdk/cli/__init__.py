"""The commands that a device can run with the base installation."""

from __future__ import annotations

from edge_sdk.cli.bench import bench
from edge_sdk.cli.classify import classify
from edge_sdk.cli.doctor import doctor
from edge_sdk.cli.inspect import inspect
from edge_sdk.cli.run import run
from edge_sdk.cli.service import service
from edge_sdk.cli.soak import soak

COMMANDS = (classify, run, bench, inspect, soak, doctor, service)

__all__ = ["COMMANDS", "bench", "classify", "doctor", "inspect", "run", "service", "soak"]
