"""Reads a file for people: lists, counts, history, explanations, the audit, and its health."""
