"""Findings about a device, each with the command that mends it."""
