"""Defines tasks: their classes, fields and options, and how a task is written to the text of a row and read back."""
