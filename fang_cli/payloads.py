"""Reads what people write as fields of a task, and finds its class. Everything raises ``UsageError``, in one line."""

import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fang_cli.settings import settings
from fang_cli.targets import import_modules
from fang_core.errors import UnreadablePayload, UsageError
from fang_core.tasks.payloads import codec
from fang_core.tasks.registry import REGISTRY
from fang_core.tasks.runnable import BaseRunnable


def known_classes(modules: Sequence[str]) -> None:
    """Imports the modules that define task classes: those that are named, or else those of the setting ``app``."""
    import_modules(modules or settings().app)


def class_of(kind: str) -> type[BaseRunnable]:
    """Returns the class of a kind."""
    cls = REGISTRY.get(kind)
    if cls is not None:
        return cls
    known = [kind for cls in REGISTRY.classes() for kind in cls.__fang_options__.kinds if cls.__fang_insertable__]
    if not known:
        module, is_pair, name = kind.partition(":")  # as fang worker and fang schedules put name things
        how = f"write {name:.60} --app {module:.60}" if is_pair else "name its module with --app, or in the setting app"
        raise UsageError(f"the class of {kind!r:.60} is not known: {how}; or write it --unchecked")
    meant = _meant(kind, known) or f"; there are {', '.join(sorted(set(known))[:20])}"
    raise UsageError(f"no class has the kind {kind!r:.60}{meant}")


def class_or_stand_in(kind: str) -> type[BaseRunnable]:
    """Returns the class of a kind; one that takes any fields if it is not known."""
    from fang_core.tasks.payloads.unchecked import stand_in

    return REGISTRY.get(kind) or stand_in(kind)


def fields_in(name: str, text: str) -> dict[str, Any]:
    """Returns the fields in a JSON object."""
    given = json_in(name, text)
    if not isinstance(given, dict):
        raise UsageError(f"""{name} must be a JSON object, as in '{{"day": "today"}}'""")
    return given


def json_in(name: str, text: str) -> Any:
    """Returns the value of a JSON text."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deeply") from None


def task_of(cls: type[BaseRunnable], text: str, name: str) -> BaseRunnable:
    """Returns a task of this class with the fields in a JSON object, which was written as ``name``."""
    return task_with(cls, fields_in(name, text), name)


def task_with(
    cls: type[BaseRunnable], fields: Mapping[str, Any], name: str, *, known: Collection[str] = ()
) -> BaseRunnable:
    """Returns a task of this class with these fields, as its class reads them; some may be there of old, ``known``."""
    _check_names(cls, [field for field in fields if field not in known], name)
    try:
        return codec.decode(cls, json.dumps(fields))
    except UnreadablePayload as error:
        raise UsageError(f"{name}: {error}") from None
    except RecursionError:  # of json.dumps, which ends a little before json.loads does
        raise UsageError(f"{name} is nested too deeply") from None


def _check_names(cls: type[BaseRunnable], given: Iterable[str], where: str) -> None:
    """Refuses a field that the class lacks: pydantic would ignore it, and a task without it would be stored."""
    if cls.model_config.get("extra") == "allow":
        return
    known = set(cls.model_fields)
    known |= {alias for field in cls.model_fields.values() if isinstance(alias := field.validation_alias, str)}
    for name in given:
        if name not in known:
            raise UsageError(f"{where}: {cls.__name__} has no field {name!r:.60}{_meant(name, known)}")


def _meant(word: str, known: Iterable[str]) -> str:
    return "".join(f" (did you mean {near!r}?)" for near in difflib.get_close_matches(word, list(known), n=1))
