"""What a pool tells of itself and of its runs: its health, stuck runs, counts, and what it does now."""
