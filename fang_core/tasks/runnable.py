"""Defines task classes: ``Runnable`` for threads, ``AsyncRunnable`` for asyncio, and their ``task_config``.

A task is a pydantic model: its fields are the payload. Its options are in ``task_config``, a class variable that holds
a typed dictionary, like pydantic's own ``model_config``: type checkers see a wrong key or type there, but not in the
class keywords of a pydantic model.
"""

import abc
import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, ClassVar, Final, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from fang_core.errors import DefinitionError, PayloadError, UsageError
from fang_core.flow.keys import By, checked_by, fields_of, key_of, no_key
from fang_core.flow.limits import Fair, FlowRule, Limit, Rate, by_of, checked_rules
from fang_core.record import DEFAULT_MAX_RETRIES, DEFAULT_TASK_TYPE
from fang_core.schedules.schedule import Cron, Schedule, ScheduleOnce, as_schedule
from fang_core.tasks.arguments import checked_span
from fang_core.tasks.async_queueable import AsyncQueueable
from fang_core.tasks.backoff import DEFAULT_BACKOFF, Backoff
from fang_core.tasks.middleware import Middleware, checked_middleware
from fang_core.tasks.options import COLUMNS, MaxRetries, Name, Priority, Timeout, Uniq
from fang_core.tasks.queueable import Queueable
from fang_core.tasks.registry import REGISTRY, Mode
from fang_core.tasks.uniqueness import ALL_FIELDS, Unique
from fang_core.words.naming import no_option


def _schedule(value: Any) -> Schedule | None:
    return None if value is None else as_schedule(value)


def _middleware(value: Any) -> tuple[Middleware, ...]:
    return checked_middleware(value, ValueError)


def _limits(value: Any) -> tuple[FlowRule, ...]:
    rules = checked_rules(value)
    if any(isinstance(rule, Fair) for rule in rules):
        raise ValueError("Fair goes into fair_by: fair_by=Fair(...)")
    return rules


def _fair_by(value: Any) -> By | Fair | None:
    return value if value is None or isinstance(value, Fair) else checked_by(value)


Isolation = Literal["pool", "process"]
_Lifetime = Annotated[timedelta, PlainValidator(partial(checked_span, "expires"))]
_MemoryLimit = Annotated[int, Field(ge=2**20)]


@with_config(ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True))
class TaskConfig(TypedDict, total=False):
    """Options of a task class; a subclass inherits those it does not set, except ``kind``, ``former_kinds``, ``cron``.

    Attributes:
        task_type: decides which pools take the tasks; ``"common"`` unless set.
        kind: the name of this class in the rows of its tasks; the class's name unless set.
        former_kinds: the names under which older releases inserted tasks of this class, the oldest first. Its pools run
            those tasks too. The schedule of ``cron`` is named after the first of them.
        priority: -2 (first) to 2 (last); 0 unless set.
        max_retries: how often a failure leads to another run; 20 unless set.
        backoff: maps the failures so far to the delay before the next run; ``Exponential()`` unless set.
        uniq: whether a task is inserted only if no equal one is waiting or running; False unless set. A ``Unique`` sets
            which tasks are equal, for how long one counts, and what an insert does then.
        cron: when pools insert a task of this class by themselves: a pattern (in UTC), a ``Cron``, or a
            ``ScheduleOnce``. It must be possible to build such a class without arguments; this is tried once when it is
            defined.
        middleware: functions from a run to a context manager that goes around it, the first one outermost; none unless
            set. They go inside the middleware of the pool.
        timeout: how long each run may take; None, which is no limit, unless set.
        expires: how long a task may wait from when it is due: no run begins later, and a pool that claims the task then
            cancels it. None unless set.
        isolation: ``"pool"`` runs the tasks in the pool's process, ``"process"`` in a child process; ``"pool"`` unless
            set.
        memory_limit: how many bytes of memory such a process may take, a mebibyte at least; None unless set. It needs
            ``isolation="process"``.
        limits: how many tasks of the task type run at once, and how fast they start, in all pools together, for the
            type and for each key: ``[Limit(5), Rate(10, by="tenant")]``. All classes of one task type must have the
            same ones. None unless set.
        fair_by: makes the key by which tasks of the task type take turns: the name of a field, several names, or a
            function of the task; a ``Fair`` has weights too. All keys of one class must be the same. None unless set.
    """

    task_type: Annotated[Name, Field(default=DEFAULT_TASK_TYPE)]
    kind: Name
    former_kinds: Annotated[tuple[Name, ...], Field(default=())]
    priority: Annotated[Priority, Field(default=0)]
    max_retries: Annotated[MaxRetries, Field(default=DEFAULT_MAX_RETRIES)]
    backoff: Annotated[Backoff, Field(default=DEFAULT_BACKOFF)]
    uniq: Annotated[Uniq, Field(default=False)]
    cron: Annotated[str | Cron | ScheduleOnce | None, PlainValidator(_schedule), Field(default=None)]
    middleware: Annotated[Sequence[Middleware], PlainValidator(_middleware), Field(default=())]
    timeout: Annotated[Timeout | None, Field(default=None)]
    expires: Annotated[_Lifetime | None, Field(default=None)]
    isolation: Annotated[Isolation, Field(default="pool")]
    memory_limit: Annotated[_MemoryLimit | None, Field(default=None)]
    limits: Annotated[Sequence[Limit | Rate], PlainValidator(_limits), Field(default=())]
    fair_by: Annotated[By | Fair | None, PlainValidator(_fair_by), Field(default=None)]


_CONFIG_CHECK: Final = TypeAdapter(TaskConfig)
_DEFAULTS: Final = _CONFIG_CHECK.validate_python({})


class Options:
    """Holds a class's ``task_config`` with the defaults filled in.

    Attributes:
        config: all options except ``kind``.
        columns: the values of the options that inserts store, in the order of ``COLUMNS``.
        rules: the limits and rates, and the fairness, of the class's task type.
        by: makes the key of a task; None if no rule counts by key.
        lane_of: makes the lane of a task, which is its key; None for a class without rules.
        unique: how tasks of the class are unique if they are.
    """

    __slots__ = (
        "backoff",
        "by",
        "columns",
        "config",
        "cron",
        "expires",
        "former_kinds",
        "isolation",
        "kind",
        "lane_of",
        "memory_limit",
        "middleware",
        "rules",
        "task_type",
        "uniq",
        "unique",
    )

    def __init__(self, kind: str, merged: TaskConfig) -> None:
        self.config: TaskConfig = {**_DEFAULTS, **merged}
        self.columns: tuple[Any, ...] = tuple(self.config.get(name) for name in COLUMNS)
        self.kind = kind
        self.former_kinds = self.config["former_kinds"]
        self.task_type = self.config["task_type"]
        self.backoff = self.config["backoff"]
        self.uniq = self.config["uniq"]
        self.unique = self.uniq if isinstance(self.uniq, Unique) else ALL_FIELDS
        self.expires = self.config["expires"]
        self.isolation = self.config["isolation"]
        self.memory_limit = self.config["memory_limit"]
        self.middleware = tuple(self.config["middleware"])
        self.cron = _schedule(self.config["cron"])
        fair = self.config["fair_by"]
        fairness = () if fair is None else (fair if isinstance(fair, Fair) else Fair(fair),)
        self.rules = checked_rules((*self.config["limits"], *fairness))
        self.by = by_of(self.rules)
        keyed = no_key if self.by is None else partial(key_of, by=self.by, kind=kind)
        self.lane_of: Callable[[object], str] | None = keyed if self.rules else None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind that rows can have for tasks of the class."""
        return (self.kind, *self.former_kinds)

    @property
    def schedule_name(self) -> str:
        """The name of the class's schedule. It outlives a rename, so that old and new pools do not both make a tick."""
        return self.former_kinds[0] if self.former_kinds else self.kind


_RESERVED: Final = frozenset({"type", "run", "task_config"})
_NOT_INHERITED: Final = frozenset({"kind", "former_kinds", "cron"})


class BaseRunnable(BaseModel):
    """The base of ``Runnable`` and ``AsyncRunnable``: derive from one of these."""

    # NaN is refused when a model is built; one that is assigned later stays visible in the JSON and is refused there.
    model_config = ConfigDict(
        allow_inf_nan=False, ser_json_inf_nan="constants", ser_json_bytes="base64", val_json_bytes="base64"
    )

    task_config: ClassVar[TaskConfig] = TaskConfig()

    __fang_mode__: ClassVar[Mode]
    __fang_options__: ClassVar[Options]
    __fang_insertable__: ClassVar[bool] = False
    __fang_isolated__: ClassVar[bool] = False
    __fang_reader__: ClassVar[Any] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # Pydantic passes on the class keywords that are not in its ConfigDict; type checkers do not check these.
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
        try:
            cls.__fang_options__ = Options(own.get("kind", cls.__name__), cls.task_config)
        except UsageError as error:  # about options of which each is good by itself
            raise DefinitionError(f"{cls.__name__}.task_config: {error}") from None
        cls.__fang_isolated__ = cls.__fang_options__.isolation == "process"
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
        if cls.__fang_insertable__ and cls.__fang_options__.memory_limit is not None and not cls.__fang_isolated__:
            raise DefinitionError(
                f"{cls.__name__}.task_config.memory_limit limits child processes only: add isolation='process'"
            )
        if cls.__fang_insertable__:
            _check_key(cls)
            _check_unique(cls)
        if cls.__fang_options__.cron is not None:
            _check_that_it_builds_alone(cls)
        if cls.__fang_insertable__:
            REGISTRY.add(cls.__fang_options__.kinds, cls)


def _require_queue_parameter(cls: type[BaseRunnable], right: str) -> None:
    """Refuses a class whose ``run`` cannot be called with the queue and nothing else, as workers do."""
    run = inspect.getattr_static(cls, "run", None)
    if not inspect.isfunction(run):
        return  # there is none yet, or it is a descriptor, which may take any arguments
    try:
        inspect.signature(run).bind("the task", "the queue")
    except TypeError:
        raise DefinitionError(f"{cls.__name__}.run must take the queue and nothing else: write '{right}'") from None


def _check_unique(cls: type[BaseRunnable]) -> None:
    """Refuses a ``Unique`` that names fields that are not stored, or that the ticks of a schedule cannot follow."""
    unique = cls.__fang_options__.unique
    for name in unique.fields or ():
        field = cls.model_fields.get(name)
        if field is None:
            raise DefinitionError(f"{cls.__name__}.task_config.uniq compares the field {name!r:.60}: there is none")
        if field.exclude:
            raise DefinitionError(f"{cls.__name__}.task_config.uniq compares the field {name}, which is not stored")
    if cls.__fang_options__.cron is not None and not unique.is_plain:
        raise DefinitionError(
            f"{cls.__name__}.task_config: ticks of a schedule are unique while they wait or run, or not at all; "
            "with cron= a Unique can have by= only"
        )


def _checked_config(cls: type[BaseRunnable]) -> TaskConfig:
    own = cls.__dict__.get("task_config", {})
    try:
        checked = _CONFIG_CHECK.validate_python(own)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "extra_forbidden":
            unknown = no_option(str(first["loc"][0]), TaskConfig.__annotations__)
            raise DefinitionError(f"{cls.__name__}.task_config: {unknown}") from None
        where = ".".join(str(part) for part in ("task_config", *first["loc"][:1]))
        message = first["msg"].removeprefix("Value error, ")  # pydantic puts it before the text of as_schedule
        raise DefinitionError(f"{cls.__name__}.{where}: {message}") from None
    return cast("TaskConfig", {name: value for name, value in checked.items() if name in own})  # without defaults


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


def _check_key(cls: type[BaseRunnable]) -> None:
    by = cls.__fang_options__.by
    for name in () if by is None else fields_of(by):
        if name not in cls.model_fields:
            fields = ", ".join(cls.model_fields) or "none"
            raise DefinitionError(
                f"{cls.__name__}.task_config: its key {name!r:.100} is no field of the class; "
                f"its fields are {fields:.300}; a function of the task makes any other key"
            )


def _check_that_it_builds_alone(cls: type[BaseRunnable]) -> None:
    """Refuses a scheduled class that needs arguments, or has defaults that cannot be stored."""
    if not cls.__fang_insertable__:
        raise DefinitionError(f"{cls.__name__}: cron needs a class that can run, and is not inherited; set it there")
    if cls.__pydantic_complete__:
        _build_alone(cls)
        return
    # Forward references are open, so the task cannot be built yet.
    required = [name for name, field in cls.model_fields.items() if field.is_required()]
    if required:
        raise _not_alone(cls, f"field {required[0]} has no default")


def _build_alone(cls: type[BaseRunnable]) -> None:
    from fang_core.tasks.payloads.codec import encode  # codec imports this module

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
    """The base of tasks for threads: heavy CPU work, or code that blocks."""

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
        """Does the work. Returning is success; raising is a failure, except for ``Snooze`` and ``Cancel``."""


class AsyncRunnable(BaseRunnable, abc.ABC):
    """The base of tasks for asyncio: light, IO-bound work. Code that blocks holds up all other tasks of the process."""

    __fang_mode__ = "async"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        run = getattr(cls, "run", None)  # it may come from a mixin
        if run is not None and not inspect.iscoroutinefunction(run):
            raise DefinitionError(f"{cls.__name__}.run must be 'async def run' without yield, or derive from Runnable")
        _require_queue_parameter(cls, "async def run(self, queue: AsyncQueueable) -> None")

    @abc.abstractmethod
    async def run(self, queue: AsyncQueueable) -> None:
        """Does the work. Returning is success; raising is a failure, except for ``Snooze`` and ``Cancel``."""
