"""Models that others made: opened without running their code."""
