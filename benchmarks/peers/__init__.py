"""Holds the measured systems: a file for each, which `host.py` runs in the system's own interpreter."""
