"""Structured logs: one line of JSON a record, or a readable one on a terminal; never what a person wrote.

What a line may hold is a closed list. `event` is a record's message as the code spells it, with numbers filled in and
words left out; what is worth saying goes in `extra` under a name in FIELDS, and is dropped under any other. An
exception is its type and the places in our code it came through; its text may quote a customer and is left out. All
text is redacted, shortened, and has no character that could end a line or steer a terminal.

    logger.info("request served", extra={"request_id": …, "route": "/v1/score", "status": 200, "ms": 7.7})
"""

from __future__ import annotations

import json
import logging
import logging.config
import math
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from pipeline.redact import redact

FIELDS = (
    *("request_id", "method", "route", "status", "ms", "key_id", "trace_id"),
    *("bundle", "version", "revision", "queue", "policy"),
    *("webhook", "event_id", "kind", "host", "attempt", "wait", "check", "reason", "count", "bytes", "port"),
)
LONGEST_TEXT = 200
MOST_FRAMES = 12
MOST_CAUSES = 5
OURS = ("serving", "pipeline")

_SPOKEN = "Uvicorn running on"  # a message of uvicorn's whose words are its own address
_HEX = re.compile(r"[0-9a-f]{32}")  # an id of our own making; part of one may look like a telephone number
_PLACEHOLDER = re.compile(r"%%|%(\(\w+\))?[#0\- +]*(?:\d+|\*)?(?:\.(?:\d+|\*))?[a-zA-Z]")


def entry(record: logging.LogRecord) -> dict[str, Any]:
    """What a record may say, in order. Never raises."""
    said: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": clean(record.name),
        "event": clean(_message(record)),
    }
    for name in FIELDS:
        value = _value(record.__dict__.get(name))
        if value is not None:
            said[name] = value
    if record.exc_info and record.exc_info[1] is not None:
        said["error"] = _error(record.exc_info[1])
    return said


def clean(text: str) -> str:
    """Text without personal data, without characters that do not print, and not too long."""
    whole = len(text) <= 4 * LONGEST_TEXT
    if not _HEX.fullmatch(text):
        text = (
            redact(text) if whole else redact(text[: 4 * LONGEST_TEXT])[:-LONGEST_TEXT]
        )  # half an address is not found
    if len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    return text if text.isprintable() else "".join(map(_printable, text))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        return json.dumps(entry(record), ensure_ascii=False, separators=(",", ":"))


class TextFormatter(logging.Formatter):
    """A record as a line that is easy to read."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it the places an exception came through."""
        said = entry(record)
        error = said.pop("error", None)
        fixed = [said.pop(name) for name in ("time", "level", "logger", "event")]
        rest = "".join(f"  {name}={value}" for name, value in said.items())
        line = f"{fixed[0][11:23]} {fixed[1]:<8} {fixed[2]}  {fixed[3]}{rest}"
        if error is None:
            return line
        causes = "".join(f" < {cause}" for cause in error["causes"])
        return "\n".join([f"{line}  {error['type']}{causes}", *(f"    {place}" for place in error["frames"])])


class QuietHandler(logging.StreamHandler[TextIO]):
    """Writes to standard error, and says nothing where it cannot: logging's own complaint would quote the record."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Nothing."""


def log_config(terminal: bool, level: str = "INFO") -> dict[str, Any]:
    """A configuration for `logging.config.dictConfig`, and for uvicorn's `log_config`.

    Simmer's loggers and uvicorn's log from `level`, all others from warnings on. Uvicorn's access log is off, because
    it writes addresses and whole paths; the API logs its requests itself.
    """
    formatter = TextFormatter if terminal else JsonFormatter
    ours = {"level": level, "propagate": True, "handlers": []}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"simmer": {"()": formatter}},
        "handlers": {"simmer": {"()": QuietHandler, "formatter": "simmer", "stream": "ext://sys.stderr"}},
        "loggers": {
            "simmer": ours,
            "uvicorn": ours,
            "uvicorn.error": {"level": level},
            "uvicorn.access": {"level": "CRITICAL", "propagate": False, "handlers": []},
        },
        "root": {"level": "WARNING", "handlers": ["simmer"]},
    }


def configure(level: str = "INFO") -> None:
    """Log to standard error from now on: to read if it is a terminal, as JSON otherwise."""
    logging.config.dictConfig(log_config(sys.stderr.isatty(), level))


def _message(record: logging.LogRecord) -> str:
    """The first line of the message as the code spells it, with numbers filled in and words as an ellipsis."""
    template = str(record.msg).partition("\n")[0]
    if not record.args or template.startswith(_SPOKEN):
        return _filled(template, record.args)
    return _filled(*_without_words(template, record.args))


def _without_words(template: str, values: tuple[object, ...] | Mapping[str, object]) -> tuple[str, Any]:
    """A template and its values with an ellipsis in the place of every value that is no number."""
    if isinstance(values, Mapping):
        return _PLACEHOLDER.sub(_any_value, template), {name: _numeral(value) for name, value in values.items()}
    left = iter(values)

    def spell(match: re.Match[str]) -> str:
        return match[0] if match[0] == "%%" or isinstance(next(left, None), int | float) else "%s"

    return _PLACEHOLDER.sub(spell, template), tuple(_numeral(value) for value in values)


def _any_value(match: re.Match[str]) -> str:
    if match[0] == "%%":
        return match[0]
    return f"%{match[1]}s" if match[1] else "…"


def _filled(template: str, values: Any) -> str:
    try:
        return template % values if values else template
    except Exception:
        return template  # how it was called is a fault of the code's, which must not silence it


def _numeral(value: object) -> object:
    return value if isinstance(value, int | float) else "…"


def _value(value: object) -> str | int | float | None:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, float):
        return round(value, 3) if math.isfinite(value) else None
    return value if isinstance(value, int) else None


def _printable(character: str) -> str:
    return character if character.isprintable() else f"\\u{ord(character):04x}"


def _error(error: BaseException) -> dict[str, Any]:
    return {
        "type": _type(error),
        "causes": [_type(cause) for cause in _causes(error)],
        "frames": list(_frames(error.__traceback__))[-MOST_FRAMES:],
    }


def _type(error: BaseException) -> str:
    kind = type(error)
    return clean(kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an exception came from: the members of a group, else its cause or context, and theirs."""
    seen, waiting = {id(error)}, [error]
    while waiting and len(seen) <= MOST_CAUSES:
        last = waiting.pop(0)
        group = list(last.exceptions) if isinstance(last, BaseExceptionGroup) else []
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        for cause in [*group, *([before] if before else [])]:
            if id(cause) not in seen and len(seen) <= MOST_CAUSES:
                seen.add(id(cause))
                waiting.append(cause)
                yield cause


def _frames(trace: TracebackType | None) -> Iterator[str]:
    """The places in our code an exception came through, and the very last, wherever it is."""
    frames = [
        (frame.f_globals.get("__name__", "?"), line, frame.f_code.co_name) for frame, line in traceback.walk_tb(trace)
    ]
    for index, (module, line, function) in enumerate(frames):
        if str(module).partition(".")[0] in OURS or index == len(frames) - 1:
            yield clean(f"{module}:{line} {function}")
