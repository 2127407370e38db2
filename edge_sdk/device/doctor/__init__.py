"""Findings about a device, each with a command that fixes it."""
