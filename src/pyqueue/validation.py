"""The base of all option models: frozen, snake or camel case, with errors that say fact, value and remedy.

Turns pydantic's ValidationError into `ConfigurationError`, and an option that does not exist into `UnknownOption`,
which names the nearest one that does. Called by the modules of options and by `repeat`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo
from pydantic.alias_generators import to_camel

from pyqueue.durations import MAX_SAFE_INTEGER, milliseconds, whole_seconds
from pyqueue.errors import ConfigurationError, UnknownOption
from pyqueue.lazy_modules import LazyModule
from pyqueue.names import check_text

if TYPE_CHECKING:
    import difflib
else:
    difflib = LazyModule("difflib")


class OptionModel(BaseModel):
    """Frozen options; keywords in snake case, dictionaries in snake or BullMQ's camel case."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
        loc_by_alias=False,
        defer_build=True,
    )

    hints: ClassVar[Mapping[str, str]] = {}
    """Names that users of BullMQ may try, and what to use instead."""

    def __init__(self, **options: Any) -> None:
        """Validate; raises ConfigurationError for a bad value, UnknownOption for a bad name."""
        try:
            super().__init__(**options)
        except ValidationError as error:
            raise _configuration_error(type(self), error) from None

    @classmethod
    def model_validate(cls, obj: Any, **kwargs: Any) -> Self:
        """Validate a dictionary (or return an instance as it is); raises as the constructor does."""
        try:
            return super().model_validate(obj, **kwargs)
        except ValidationError as error:
            raise _configuration_error(cls, error) from None


def unknown_option(name: str, known: Iterable[str], hints: Mapping[str, str]) -> UnknownOption:
    """The error for an option that does not exist, with the nearest known name."""
    hint = hint_of(name, known, hints)
    if hint:
        return UnknownOption(f"unknown option {name!r}: {hint}")
    likely = nearest(name, known)
    if likely:
        return UnknownOption(f"unknown option {name!r}: did you mean {likely!r}?")
    return UnknownOption(f"unknown option {name!r}: the options are {', '.join(sorted(known))}")


def hint_of(name: str, known: Iterable[str], hints: Mapping[str, str]) -> str | None:
    """What to use instead of this name, in whatever spelling; None if nothing is known, or an option is spelled so."""
    if name in hints or _spelling(name) in map(_spelling, known):
        return hints.get(name)
    return next((hint for other, hint in hints.items() if _spelling(other) == _spelling(name)), None)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is spelled most like this one, whatever the case; None if none is."""
    by_spelling = {_spelling(option): option for option in known}
    found = difflib.get_close_matches(_spelling(name), by_spelling, n=1)
    return by_spelling[found[0]] if found else None


def check_many(values: object, name: str, one: type[object], shape: str) -> None:
    """Refuse what is no collection of jobs: None, a text, a single job (`one`, or a dictionary).

    Raises ConfigurationError, which tells the `shape` of an item.
    """
    is_one = isinstance(values, (Mapping, one))
    if is_one or isinstance(values, (str, bytes)) or not _is_iterable(values):
        remedy = "put a single one into a list, as in [...]" if is_one else f"give a list of jobs, each {shape}"
        raise ConfigurationError(f"{name} is {shown(values)}: {remedy}")


def _is_iterable(values: Any) -> bool:
    """Whatever `for` takes, which is more than the abstract class."""
    try:
        iter(values)
    except TypeError:
        return False
    return True


def shown(value: object) -> str:
    """A value for a message, shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _spelling(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def _configuration_error(model: type[OptionModel], error: ValidationError) -> ConfigurationError:
    problems = [_problem(model, detail) for detail in error.errors(include_url=False)]
    kind = UnknownOption if any(isinstance(problem, UnknownOption) for problem in problems) else ConfigurationError
    return kind("; ".join(map(str, problems)))


def _problem(model: type[OptionModel], detail: Mapping[str, Any]) -> Exception:
    where = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        return unknown_option(where, model.model_fields, model.hints)
    if detail["type"] == "missing":
        return ConfigurationError(f"{where} is missing: {model.__name__} needs it")
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, Exception):  # raised by a validator of ours, whose text is complete
        text = str(cause)
        complete = text if not where or text.startswith(where) else f"{where}: {text}"
        return type(cause)(complete) if isinstance(cause, ConfigurationError) else ConfigurationError(complete)
    remedy = detail["msg"].replace("Input should be", "it should be")
    return ConfigurationError(f"{where or model.__name__} is {shown(detail['input'])}: {remedy}")


def _duration(value: object, info: ValidationInfo) -> int:
    return milliseconds(value, info.field_name or "duration")


def _positive_duration(value: object, info: ValidationInfo) -> int:
    return milliseconds(value, info.field_name or "duration", minimum=1)


def _age(value: object, info: ValidationInfo) -> int:
    return whole_seconds(value, info.field_name or "age")


def _moment(value: object, info: ValidationInfo) -> int:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{info.field_name} is {value!r}: it has no time zone; give an aware datetime")
        value = round(value.timestamp() * 1000)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_SAFE_INTEGER:
        raise ValueError(f"{info.field_name} is {shown(value)}: give unix milliseconds or an aware datetime")
    return value


def _text(value: object, info: ValidationInfo) -> str:
    return check_text(value, info.field_name or "text")


#: A text, not empty, that UTF-8 can encode.
Text = Annotated[str, PlainValidator(_text)]
#: Integers; neither booleans, nor floats, nor texts.
Count = Annotated[int, Field(strict=True, ge=0, le=MAX_SAFE_INTEGER)]
SignedCount = Annotated[int, Field(strict=True, ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)]
PositiveCount = Annotated[int, Field(strict=True, ge=1, le=MAX_SAFE_INTEGER)]
Switch = Annotated[bool, Field(strict=True)]
#: Integer milliseconds, given as such or as a timedelta.
Duration = Annotated[int, BeforeValidator(_duration)]
PositiveDuration = Annotated[int, BeforeValidator(_positive_duration)]
#: Integer seconds, given as such or as a timedelta; may be negative.
Age = Annotated[int, BeforeValidator(_age)]
#: Unix milliseconds, given as such or as an aware datetime.
Moment = Annotated[int, BeforeValidator(_moment)]
