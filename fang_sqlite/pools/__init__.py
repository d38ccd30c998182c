"""Writes the records of pools, shows that they live, and takes back the tasks of dead ones."""
