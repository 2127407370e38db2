"""Calibrated scores: a temperature, and a threshold for "unknown", fitted on an artifact."""
