"""Gathers facts about the database for ``fang doctor``, and has the rules that judge them and name a remedy."""
