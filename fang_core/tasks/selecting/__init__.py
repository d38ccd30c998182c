"""Selects the tasks that a call for many is about, and goes through them."""
