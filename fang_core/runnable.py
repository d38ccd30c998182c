"""Task classes: ``Runnable`` for threads, ``AsyncRunnable`` for asyncio, and their ``task_config``.

A task is a pydantic model: its fields are the payload. Its options stand in ``task_config``, a typed dictionary in a
class variable exactly like pydantic's own ``model_config``: type checkers see a wrong key or type there, which they do
not in the class keywords of a pydantic model.
"""

import abc
import difflib
import inspect
from typing import Annotated, Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from fang_core.backoff import DEFAULT_BACKOFF, Backoff
from fang_core.errors import DefinitionError, PayloadError
from fang_core.queueable import AsyncQueueable, Queueable
from fang_core.record import DEFAULT_MAX_RETRIES, DEFAULT_TASK_TYPE, HIGHEST_PRIORITY, LOWEST_PRIORITY
from fang_core.registry import REGISTRY, Mode
from fang_core.schedule import Cron, Schedule, ScheduleOnce, as_schedule

Name = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00]+$")]
Priority = Annotated[int, Field(ge=HIGHEST_PRIORITY, le=LOWEST_PRIORITY)]
MaxRetries = Annotated[int, Field(ge=0, le=1_000_000)]


def _schedule(value: Any) -> Schedule | None:
    return None if value is None else as_schedule(value)


@with_config(ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True))
class TaskConfig(TypedDict, total=False):
    """Options of a task class; a subclass inherits what it does not set, but for ``kind``, ``former_kinds``, ``cron``.

    Attributes:
        task_type: which pools take it; ``"common"`` unless told otherwise.
        kind: the name under which rows find this class again; the class's name unless told otherwise.
        former_kinds: the names under which older releases inserted tasks of this class, the oldest first. Its pools run
            those as well. The schedule of ``cron`` goes by the first of them.
        priority: -2 (first) to 2 (last); 0 unless told otherwise.
        max_retries: how often a failure leads to another run; 20 unless told otherwise.
        backoff: failures so far -> how long to wait; ``Exponential()`` unless told otherwise.
        uniq: whether a task is inserted only where no equal one is waiting or running; False unless told otherwise.
        cron: when a task of this class is due by itself: a pattern (in UTC), a ``Cron``, or a ``ScheduleOnce``. Such a
            class builds without arguments; it is tried once when it is defined.
    """

    task_type: Name
    kind: Name
    former_kinds: tuple[Name, ...]
    priority: Priority
    max_retries: MaxRetries
    backoff: Backoff
    uniq: bool
    cron: Annotated[str | Cron | ScheduleOnce | None, PlainValidator(_schedule)]


class Options:
    """A class's ``task_config`` with every option in its place."""

    __slots__ = ("backoff", "cron", "former_kinds", "kind", "max_retries", "priority", "task_type", "uniq")

    def __init__(self, kind: str, merged: TaskConfig) -> None:
        self.kind = kind
        self.former_kinds = merged.get("former_kinds", ())
        self.task_type = merged.get("task_type", DEFAULT_TASK_TYPE)
        self.priority = merged.get("priority", 0)
        self.max_retries = merged.get("max_retries", DEFAULT_MAX_RETRIES)
        self.backoff = merged.get("backoff", DEFAULT_BACKOFF)
        self.uniq = merged.get("uniq", False)
        self.cron = _schedule(merged.get("cron"))

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every name under which rows can hold tasks of the class."""
        return (self.kind, *self.former_kinds)

    @property
    def schedule_name(self) -> str:
        """The name of the class's schedule. It outlives a rename, so that old and new pools do not both make a tick."""
        return self.former_kinds[0] if self.former_kinds else self.kind


_CONFIG_CHECK: Final = TypeAdapter(TaskConfig)
_RESERVED: Final = frozenset({"type", "run", "task_config"})
_NOT_INHERITED: Final = frozenset({"kind", "former_kinds", "cron"})


class BaseRunnable(BaseModel):
    """What both kinds of task share. Derive from ``Runnable`` or ``AsyncRunnable``."""

    # NaN is refused where a model is built; what slips in by assignment stays visible in the JSON and is refused there.
    model_config = ConfigDict(
        allow_inf_nan=False, ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64"
    )

    task_config: ClassVar[TaskConfig] = TaskConfig()

    __fang_mode__: ClassVar[Mode]
    __fang_options__: ClassVar[Options]
    __fang_insertable__: ClassVar[bool] = False
    __fang_reader__: ClassVar[Any] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # pydantic hands us what is no key of its ConfigDict. Class keywords are invisible to type checkers here.
        if kwargs:
            unknown = ", ".join(sorted(kwargs))
            raise DefinitionError(
                f"{cls.__name__}: unknown class keyword {unknown}; options go into task_config = TaskConfig(...)"
            )
        super().__init_subclass__()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        own = _checked_config(cls)
        _refuse_reserved_fields(cls)
        cls.task_config = _merged_config(cls, own)
        cls.__fang_options__ = Options(own.get("kind", cls.__name__), cls.task_config)
        generic = cls.__pydantic_generic_metadata__
        cls.__fang_insertable__ = (
            not inspect.isabstract(cls)
            and hasattr(cls, "run")
            and hasattr(cls, "__fang_mode__")
            and not generic["origin"]
            and not generic["parameters"]
        )
        if cls.__fang_options__.kind in cls.__fang_options__.former_kinds:
            raise DefinitionError(f"{cls.__name__}.task_config.former_kinds names its present kind: remove it there")
        if cls.__fang_options__.cron is not None:
            _check_that_it_builds_alone(cls)
        if cls.__fang_insertable__:
            REGISTRY.add(cls.__fang_options__.kinds, cls)


def _require_queue_parameter(cls: type[BaseRunnable], right: str) -> None:
    """Workers call ``run`` with the queue and nothing else."""
    run = inspect.getattr_static(cls, "run", None)
    if not inspect.isfunction(run):
        return  # none yet, or a descriptor, which may take what it likes
    try:
        inspect.signature(run).bind("the task", "the queue")
    except TypeError:
        raise DefinitionError(f"{cls.__name__}.run must take the queue and nothing else: write '{right}'") from None


def _checked_config(cls: type[BaseRunnable]) -> TaskConfig:
    own = cls.__dict__.get("task_config", {})
    try:
        return _CONFIG_CHECK.validate_python(own)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":
            raise DefinitionError(f"{cls.__name__}.task_config: {_no_option(str(first['loc'][0]))}") from None
        where = ".".join(str(part) for part in ("task_config", *first["loc"][:1]))
        message = first["msg"].removeprefix("Value error, ")  # as_schedule's
        raise DefinitionError(f"{cls.__name__}.{where}: {message}") from None


def _no_option(name: str) -> str:
    known = sorted(TaskConfig.__annotations__)
    meant = "".join(f" (did you mean {near!r}?)" for near in difflib.get_close_matches(name, known, n=1))
    return f"there is no option {name!r}{meant}; options are {', '.join(known)}"


def _refuse_reserved_fields(cls: type[BaseRunnable]) -> None:
    taken = _RESERVED & set(cls.model_fields)
    if taken:
        names = ", ".join(sorted(taken))
        raise DefinitionError(f"{cls.__name__}: a task cannot have a field named {names}; rename it")


def _merged_config(cls: type[BaseRunnable], own: TaskConfig) -> TaskConfig:
    merged = TaskConfig()
    for base in reversed(cls.__mro__[1:]):
        inherited = base.__dict__.get("task_config")
        if inherited:
            merged.update({key: value for key, value in inherited.items() if key not in _NOT_INHERITED})  # type: ignore[typeddict-item]
    merged.update(own)
    return merged


def _check_that_it_builds_alone(cls: type[BaseRunnable]) -> None:
    """A schedule has no arguments to give: refuses a class that needs some, or whose defaults cannot be stored."""
    if not cls.__fang_insertable__:
        raise DefinitionError(f"{cls.__name__}: cron needs a class that can run, and is not inherited; set it there")
    if cls.__pydantic_complete__:
        _build_alone(cls)
        return
    # Forward references are open: nothing can be built yet.
    required = [name for name, field in cls.model_fields.items() if field.is_required()]
    if required:
        raise _not_alone(cls, f"field {required[0]} has no default")


def _build_alone(cls: type[BaseRunnable]) -> None:
    from fang_core.codec import encode  # it imports this module

    try:
        encode(cls())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = f"field {first['loc'][0]}" if first["loc"] else "the task"
        what = "has no default" if first["type"] == "missing" else "is refused by its own validation"
        raise _not_alone(cls, f"{where} {what}") from None
    except PayloadError as error:
        raise _not_alone(cls, str(error)) from None
    except Exception as error:
        raise _not_alone(cls, f"that raises {type(error).__name__}") from error


def _not_alone(cls: type[BaseRunnable], problem: str) -> DefinitionError:
    return DefinitionError(f"{cls.__name__}: cron builds the task without arguments, but {problem}")


class Runnable(BaseRunnable, abc.ABC):
    """A task for threads: heavy CPU work, or code that blocks."""

    __fang_mode__ = "threaded"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        run = getattr(cls, "run", None)  # it may come from a mixin
        if inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run):
            raise DefinitionError(f"{cls.__name__}.run must be a plain 'def run', or derive from AsyncRunnable")
        if inspect.isgeneratorfunction(run):
            raise DefinitionError(f"{cls.__name__}.run must not yield: nothing would run it")
        _require_queue_parameter(cls, "def run(self, queue: Queueable) -> None")

    @abc.abstractmethod
    def run(self, queue: Queueable) -> None:
        """Does the work. Returning is success; raising is a failure, but for ``Snooze`` and ``Cancel``."""


class AsyncRunnable(BaseRunnable, abc.ABC):
    """A task for asyncio: light, IO-bound work. Code that blocks in it holds up every other task of the process."""

    __fang_mode__ = "async"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        run = getattr(cls, "run", None)  # it may come from a mixin
        if run is not None and not inspect.iscoroutinefunction(run):
            raise DefinitionError(f"{cls.__name__}.run must be 'async def run' without yield, or derive from Runnable")
        _require_queue_parameter(cls, "async def run(self, queue: AsyncQueueable) -> None")

    @abc.abstractmethod
    async def run(self, queue: AsyncQueueable) -> None:
        """Does the work. Returning is success; raising is a failure, but for ``Snooze`` and ``Cancel``."""
