"""Reads the figures of ``fang status``."""
