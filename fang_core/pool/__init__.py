"""A worker pool: its services, written once for both modes, and what they share."""
