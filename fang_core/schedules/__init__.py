"""Computes when a schedule ticks, and the task that is inserted for each tick."""
