"""A systemd unit that keeps ``edgecls run`` alive: its text, its installation, how it is.

``edge_sdk.loop.service`` and ``edge_sdk.systemd`` are the other side of it: the process that it starts.
"""
