"""Writes the records of pools, shows that they live, and listens for messages to them."""
