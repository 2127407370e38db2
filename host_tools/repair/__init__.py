"""The search for an int8 model within a budget of accuracy, and the cost of each step."""
