"""Decides how many tasks a pool claims, where a claim starts, and when the pool looks again. It is pure: no I/O."""
