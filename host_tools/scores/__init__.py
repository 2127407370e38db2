"""Scores that mean something: a temperature, and a threshold for "unknown", fitted on an artifact."""
