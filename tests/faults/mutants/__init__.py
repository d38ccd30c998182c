"""Holds the mutants: copies of the product with one defect each, by the part of the product that has it."""

from typing import Final

from tests.faults.mutants import core, postgres, redis, sqlite

MUTANTS: Final = core.MUTANTS + postgres.MUTANTS + sqlite.MUTANTS + redis.MUTANTS
