"""What the interpreter does that libraries have to know of: forks, the collector, imports, places in code."""
