"""Measures Fang against other libraries and earlier commits: `make bench`, `make bench-all`, `make bench-quick`."""
