"""Logs: one line a record, nothing a person wrote, nothing that forges a line or steers a terminal."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.operation import logs
from serving.operation.logs import FIELDS, LONGEST_TEXT, JsonFormatter, QuietHandler, TextFormatter, clean, log_config
from tests.conftest import ROOT

SECRET = "I want my money back, says Zebedee"
EMAIL = "zebedee@example.com"
PHONE = "+44 20 7946 0958"
CARD = "4111 1111 1111 1111"

Log = Callable[[], str]


@pytest.fixture
def lines() -> Iterator[Log]:
    """Logging as JSON into memory; what was written so far."""
    yield from _logging(terminal=False)


@pytest.fixture
def text() -> Iterator[Log]:
    """Logging for a terminal into memory; what was written so far."""
    yield from _logging(terminal=True)


def _logging(terminal: bool) -> Iterator[Log]:
    root, out = logging.getLogger(), io.StringIO()
    before = (root.handlers[:], root.level)
    config = log_config(terminal)
    config["handlers"]["simmer"]["stream"] = out
    logging.config.dictConfig(config)
    yield out.getvalue
    root.handlers[:], root.level = before
    for name in ("simmer", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.level, logger.propagate = [], logging.NOTSET, True


def the_one(lines: Log) -> dict[str, Any]:
    (line,) = lines().splitlines()
    decoded: dict[str, Any] = json.loads(line)
    return decoded


def record(message: object, *arguments: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("simmer.x", logging.INFO, "x.py", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_request_is_one_line_of_json(lines: Log) -> None:
    extra = {"request_id": "abc", "route": "/v1/conversations/{id}", "status": 200, "ms": 7.71234, "key_id": "abcd"}
    logging.getLogger("simmer.api").info("request served", extra=extra)
    said = the_one(lines)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", said.pop("time"))
    assert list(said) == ["level", "logger", "event", "request_id", "route", "status", "ms", "key_id"]
    assert said == {"level": "info", "logger": "simmer.api", "event": "request served", **extra, "ms": 7.712}


def test_what_is_not_on_the_list_is_dropped(lines: Log) -> None:
    logging.getLogger("simmer.api").info("x", extra={"text": SECRET, "body": SECRET, "route": ["a", SECRET]})
    assert the_one(lines).keys() == {"time", "level", "logger", "event"}


def test_words_in_a_message_are_left_out_and_numbers_stay(lines: Log) -> None:
    logging.getLogger("simmer.api").warning("%s waited %.1f s for %d of %s, 100%%", SECRET, 1.26, 3, {"a": SECRET})
    assert the_one(lines)["event"] == "… waited 1.3 s for 3 of …, 100%"


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("%d", (SECRET,)),
        ("%s", ({SECRET: SECRET},)),
        ("%(a)s", ({"a": SECRET},)),
        ("%s %s", (SECRET,)),
        ("%", (SECRET,)),
        ("none", (SECRET,)),
        ("%*d", (SECRET, 2)),
        ("%(b)s", ({"a": SECRET},)),
        ("%y", (1,)),
        (b"%s", (SECRET,)),
        (ValueError("x"), ()),
    ],
)
def test_no_way_of_calling_quotes_or_raises(message: object, arguments: tuple[object, ...]) -> None:
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "Zebedee" not in formatter.format(record(message, *arguments))


@pytest.mark.parametrize("personal", [EMAIL, PHONE, CARD, "https://u:p@example.com/x?token=abc"])
def test_personal_data_is_redacted_wherever_it_stands(lines: Log, personal: str) -> None:
    logging.getLogger("simmer.api").info(f"seen {personal} here", extra={"request_id": personal, "reason": personal})
    logging.getLogger("other").error(f"seen {personal}")
    assert personal not in lines()
    assert "token=abc" not in lines()


def test_an_id_of_our_own_is_left_alone() -> None:
    assert clean("4111111111111111" * 2) == "4111111111111111" * 2
    assert clean("4111111111111111") == "[CARD]"


@given(st.integers(0, 900), st.sampled_from([EMAIL, CARD]), st.text(max_size=30))
def test_no_cut_leaves_half_of_an_address(before: int, personal: str, after: str) -> None:
    for filling in ("x ", "https://a.example/?" + "q" * before + " "):
        said = clean(filling * (before // len(filling)) + " " + personal + " " + after)
        assert "zebedee" not in said
        assert "4111" not in said


def test_an_exception_is_its_type_and_our_places_and_says_nothing(lines: Log) -> None:
    def parse() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error

    try:
        clean_through_our_code(parse)
    except ValueError:
        logging.getLogger("simmer.api").exception("request %s failed", "abc", extra={"request_id": "abc"})
    said = the_one(lines)
    assert "Zebedee" not in lines()
    assert said["event"] == "request … failed"
    assert said["error"]["type"] == "ValueError"
    assert said["error"]["causes"] == ["KeyError"]
    ours, innermost = said["error"]["frames"]
    assert re.fullmatch(r"serving\.operation\.logs:\d+ clean", ours)
    assert re.fullmatch(r"tests\..*:\d+ parse", innermost)


def clean_through_our_code(broken: Callable[[], None]) -> None:
    """Raise from a function that the project's code calls."""

    class Broken(str):
        def __len__(self) -> int:
            broken()
            return 0

    clean(Broken("x"))


def test_groups_and_circles_of_exceptions_end() -> None:
    first, second = ValueError(SECRET), KeyError(SECRET)
    first.__cause__, second.__cause__ = second, first
    group = BaseExceptionGroup(SECRET, [first, *(OSError(SECRET) for _ in range(50))])
    made = record("x")
    made.exc_info = (type(group), group, None)
    said = json.loads(JsonFormatter().format(made))["error"]
    assert said["type"] == "ExceptionGroup"
    assert said["frames"] == []
    assert said["causes"] == ["ValueError", *["OSError"] * 4]


def test_only_the_first_line_of_a_message_counts(lines: Log) -> None:
    logging.getLogger("asyncio").error(f"Task exception was never retrieved\nfuture: <Task {SECRET}>")
    assert the_one(lines)["event"] == "Task exception was never retrieved"


@given(st.text(), st.text())
def test_no_text_makes_a_second_line_or_a_command_for_a_terminal(one: str, other: str) -> None:
    made = record(one, request_id=other, reason=f"{one}\x1b[2J\r\n{other}\x9b\u2028")
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(made)
        assert line.isprintable()
        line.encode("utf-8")
    said = json.loads(JsonFormatter().format(made))
    assert len(said["event"]) <= 6 * LONGEST_TEXT


@given(st.dictionaries(st.text() | st.sampled_from(FIELDS), st.floats() | st.integers() | st.none() | st.binary()))
def test_every_line_is_strict_json(extra: dict[str, object]) -> None:
    made = record("x")
    made.__dict__.update({name: value for name, value in extra.items() if name not in made.__dict__})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    json.loads(JsonFormatter().format(made), parse_constant=refuse)


def test_on_a_terminal_it_reads(text: Log) -> None:
    logger = logging.getLogger("simmer.api")
    logger.info("request served", extra={"route": "/v1/score", "status": 200})
    try:
        raise OSError(SECRET)
    except OSError:
        logger.exception("broken")
    first, second, place = text().splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} info     simmer.api  request served  route=/v1/score  status=200", first
    )
    assert second.endswith("error    simmer.api  broken  OSError")
    assert place.startswith("    tests.")


def test_uvicorn_says_where_it_listens_and_logs_no_paths(lines: Log) -> None:
    logging.getLogger("uvicorn.error").info("Uvicorn running on %s://%s:%d (Press CTRL+C to quit)", "http", "::1", 80)
    logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "10.0.0.1", "GET", f"/v1/{SECRET}", "1.1", 200)
    logging.getLogger("uvicorn.error").info('%s - "WebSocket %s" 403', "10.0.0.1", f"/{SECRET}")
    first, second = map(json.loads, lines().splitlines())
    assert first["event"] == "Uvicorn running on http://::1:80 (Press CTRL+C to quit)"
    assert second["event"] == '… - "WebSocket …" 403'


def test_others_are_heard_from_warnings_on(lines: Log) -> None:
    logging.getLogger("httpx").info("HTTP Request: POST https://example.com/?q=1")
    logging.getLogger("sqlalchemy.engine").info("INSERT")
    logging.getLogger("simmer.x").debug("x")
    assert lines() == ""
    logging.getLogger("httpx").warning("x")
    assert the_one(lines)["logger"] == "httpx"


def test_an_output_that_is_gone_stops_nothing_and_is_not_complained_about(capsys: pytest.CaptureFixture[str]) -> None:
    closed = io.StringIO()
    closed.close()
    handler = QuietHandler(closed)
    handler.handle(record(SECRET))
    assert capsys.readouterr().err == ""


def test_a_process_that_is_not_on_a_terminal_logs_json() -> None:
    program = (
        "import logging; from serving.operation.logs import configure; configure('DEBUG');"
        "logging.getLogger('simmer').debug('ready', extra={'port': 8000})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stderr)
    assert (said["event"], said["port"], said["level"]) == ("ready", 8000, "debug")
    assert done.stdout == ""


def test_configure_reads_well_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[dict[str, Any]] = []
    monkeypatch.setattr(logs.logging.config, "dictConfig", used.append)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    logs.configure()
    assert used == [log_config(terminal=True)]
