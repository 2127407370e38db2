"""The loop: which frames, what is decided about them, how it runs and ends."""
