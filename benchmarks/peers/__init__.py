"""The systems that are measured: a file for each, run by `host.py` in the system's own interpreter."""
