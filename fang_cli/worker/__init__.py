"""Runs pools: ``fang worker``."""
