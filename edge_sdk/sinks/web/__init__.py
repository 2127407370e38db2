"""The web page of a running loop: live view, answers, and classification of uploads."""
