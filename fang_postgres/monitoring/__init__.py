"""Scripts of what an operator sees: history, lists, explanations."""
