"""Deals with the interpreter: forks, the garbage collector, imports, places in code."""
