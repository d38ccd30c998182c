"""Defines what an operator sees: history, lists, explanations. Pure types and rules."""
