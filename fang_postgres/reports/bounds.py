"""Says how much the statements of reports read, and with which settings."""

from typing import Final

MOST_TYPES: Final = 200
"""The most task types that are looked at one by one, in the order of their names."""

MOST_SCHEDULES: Final = 200
"""The most schedules that are paused, or that no pool serves, that are shown."""

SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_nestloop": "on",
}
"""Settings with which the walks go through their indexes, whatever the statistics and the role's settings are."""
