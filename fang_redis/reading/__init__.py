"""Reads a server for people: lists, counts, history, explanations, the audit, and its health."""
