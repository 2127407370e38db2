"""From an image file to a frame, from a frame to a model's input, from its output to scores."""
