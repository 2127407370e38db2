"""The commands that a device can run with the base installation."""

from __future__ import annotations

from edge_sdk.cli.classify import classify
from edge_sdk.cli.inspect import inspect
from edge_sdk.cli.run import run
from edge_sdk.cli.soak import soak

COMMANDS = (classify, run, inspect, soak)

__all__ = ["COMMANDS", "classify", "inspect", "run", "soak"]
