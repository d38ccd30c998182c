"""Carries out a run, from the claimed task to the outcome that is written for it."""
