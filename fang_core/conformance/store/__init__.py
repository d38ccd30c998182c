"""Tests what pools call: the methods of a store and of a heart."""
