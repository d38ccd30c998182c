"""What is read for people: the figures of ``fang status``."""
