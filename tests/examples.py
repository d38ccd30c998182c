"""Which examples Hypothesis tries for a property: few in ``make test``, four times as many in ``make faults``.

Those of ``make test`` are the same in each run, so that it judges a change, and not its luck. ``make faults`` draws
them anew each time, and finds what these few do not show.
"""

from typing import Final

from hypothesis import settings

THOROUGH: Final = "thorough"
"""The profile of ``make faults``, chosen by ``--hypothesis-profile``."""


def register_profiles() -> None:
    """Registers both profiles and loads the quick one, which ``--hypothesis-profile`` overrides later."""
    # No deadline: how long an example takes depends on the machine's load, and says nothing about the property.
    base = settings.get_profile(settings.get_current_profile_name())
    settings.register_profile(THOROUGH, base, deadline=None, max_examples=100)
    settings.register_profile("quick", base, deadline=None, max_examples=25, derandomize=True)
    settings.load_profile("quick")


def as_often(factor: float) -> settings:
    """Decorates a property that needs more examples than the profile has, or, if one example takes long, fewer."""
    return settings(max_examples=round(factor * settings().max_examples))
