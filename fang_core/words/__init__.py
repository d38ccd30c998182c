"""Writes lengths of time, counts and names for people, and reads the lengths of time that people write."""
