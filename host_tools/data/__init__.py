"""Data sets: finding labelled pictures, splitting them, loading them, augmenting them."""
