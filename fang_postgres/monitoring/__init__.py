"""Has the scripts for what an operator sees: history, lists, explanations."""
