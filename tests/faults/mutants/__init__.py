"""Holds the mutants: copies of the product with one defect each, by the part of it that has it, or by subject."""

from typing import Final

from tests.faults.mutants import core, postgres, redis, sqlite, times

MUTANTS: Final = core.MUTANTS + postgres.MUTANTS + times.MUTANTS + sqlite.MUTANTS + redis.MUTANTS
