"""Runs both modes on real input: ``fang demo``."""
