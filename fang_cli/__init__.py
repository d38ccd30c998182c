"""Holds the `fang` command, and the demo."""
