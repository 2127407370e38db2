"""Findings about a device, each with the command that mends it.

``examine.examine`` asks every check of its table about a ``Context``: what can be read, run, loaded and
opened on this machine, or on one that a test makes up.
"""
