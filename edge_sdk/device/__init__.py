"""The machine itself: facts, findings, its service, whether it leaks."""
