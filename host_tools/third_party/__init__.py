"""Third-party models: opened without running their code."""
