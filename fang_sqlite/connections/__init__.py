"""Manages the connections to a file: the gate before writers, transactions, forks, and connections of callers."""
