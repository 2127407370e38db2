"""How good a model is: figures from its scores, and how it bears worse pictures."""
