"""How good a model is: figures from its scores, and its accuracy on corrupted pictures."""
