"""The web page of a running loop: what the camera sees, what the model says, a picture of one's own."""
