"""Tests what applications call: the methods of a queue."""
