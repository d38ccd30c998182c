"""Connections of either mode: how they are set up, lent, bounded, and what their errors mean."""
