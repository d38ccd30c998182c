"""Says how many tasks of a type run at once, how fast they start, and who is next: limits, rates, fairness, pauses."""
