"""How fast it is, beside others and beside what it was: `make bench`, `make bench-all`, `make bench-quick REF=...`."""
