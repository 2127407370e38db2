"""Latency reports: measure, judge, compare, show."""
