"""The pictures whose answer a conversion changed: what both models said, and what they looked at."""
