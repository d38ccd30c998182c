"""Shows and changes, by hand, how task types and schedules are to be treated."""
