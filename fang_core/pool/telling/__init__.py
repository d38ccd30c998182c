"""Reports on a pool and its runs: its health, stuck runs, counts, and what it does now."""
