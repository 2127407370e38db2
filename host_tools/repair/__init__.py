"""From an int8 model that lost too much to one that did not, and what each step cost."""
