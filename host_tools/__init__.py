"""edgecls on the workstation: train, convert, validate, report."""
