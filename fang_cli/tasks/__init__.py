"""Lists, shows and changes tasks: ``fang tasks``."""
