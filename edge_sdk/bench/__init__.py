"""Benchmarks: measurement, validity, comparison, reports."""
