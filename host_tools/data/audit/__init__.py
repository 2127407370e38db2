"""The audit of a data set before training: ``edgecls data check``."""
