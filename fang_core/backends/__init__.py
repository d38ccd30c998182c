"""Defines what a pool asks of a backend, and has the memory backend."""
