"""The loop: frame sampling, decisions, the run itself, and the service around it."""
