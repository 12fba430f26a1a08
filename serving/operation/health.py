"""Whether this process should be sent requests: named checks, run in the background and when asked.

A check that fails, that does not come back in time or whose last good result is old makes the process not ready, and
the report says which one and why. Knows nothing of what is checked.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic

from pydantic import Field

from pipeline.config import Config
from serving.answers import Shape

logger = logging.getLogger("simmer.health")


_FAILED = (logging.WARNING, "a check fails")


class HealthConfig(Config):
    """How often checks run, and how long their results count."""

    every_s: float = Field(default=5.0, gt=0, description="pause between two runs of a check in the background")
    timeout_s: float = Field(default=3.0, gt=0, description="a check that takes longer has failed")
    fresh_s: float = Field(default=1.0, ge=0, description="a result that is older is renewed when somebody asks")
    answer_s: float = Field(default=1.0, gt=0, description="how long a question waits for that")


class NotReady(RuntimeError):
    """What a check raises where the process should not be sent requests; the message says why."""


class CheckResult(Shape):
    """One check: whether it is well, why not, how long it took, and how long ago that was (seconds)."""

    ok: bool
    detail: str | None
    seconds: float | None
    age: float | None


class Report(Shape):
    """Whether the process should be sent requests, the first reason why not, and every check by name."""

    ready: bool
    reason: str | None
    checks: dict[str, CheckResult]


@dataclass
class _Check:
    name: str
    run: Callable[[], Awaitable[None]]
    failure: str | None = "has not run yet"
    at: float | None = None
    seconds: float | None = None
    running: asyncio.Task[None] | None = None


@dataclass
class Health:
    """Collects checks. `stop` makes the process not ready for good, which is how draining begins."""

    config: HealthConfig = field(default_factory=HealthConfig)
    now: Callable[[], float] = monotonic
    _checks: dict[str, _Check] = field(default_factory=dict)
    _stopped: str | None = None

    def add(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Add a check: it returns where all is well and raises, NotReady or anything else, where it is not."""
        self._checks[name] = _Check(name, run)

    def stop(self, reason: str) -> None:
        """Not ready from now on."""
        self._stopped = self._stopped or reason

    async def watch(self) -> None:
        """Run the checks for ever."""
        while True:
            await asyncio.gather(*(self._run(check) for check in self._checks.values()))
            await asyncio.sleep(self.config.every_s)

    async def ask(self) -> Report:
        """The report, after renewing what is not fresh, for which it waits `answer_s` at most."""
        if self._stopped is None:
            old = [check for check in self._checks.values() if self._age(check) >= self.config.fresh_s]
            if old:
                await asyncio.wait([self._start(check) for check in old], timeout=self.config.answer_s)
        return self.report()

    def report(self) -> Report:
        """What is known now."""
        results = {name: self._result(check) for name, check in self._checks.items()}
        failed = next((f"{name}: {result.detail}" for name, result in results.items() if not result.ok), None)
        reason = self._stopped or failed
        return Report(ready=reason is None, reason=reason, checks=results)

    def _result(self, check: _Check) -> CheckResult:
        age, failure = self._age(check), check.failure
        if failure is None and age > 2 * (self.config.every_s + self.config.timeout_s):
            failure = f"last well {age:.0f} s ago"
        known = check.at is not None
        return CheckResult(ok=failure is None, detail=failure, seconds=check.seconds, age=age if known else None)

    def _age(self, check: _Check) -> float:
        return float("inf") if check.at is None else max(0.0, self.now() - check.at)

    def _start(self, check: _Check) -> asyncio.Task[None]:
        """The run that is under way, or a new one: a check never runs twice at a time."""
        if check.running is None or check.running.done():
            check.running = asyncio.create_task(self._measure(check))
        return check.running

    async def _run(self, check: _Check) -> None:
        await asyncio.wait([self._start(check)], timeout=2 * self.config.timeout_s)

    async def _measure(self, check: _Check) -> None:
        began, before = self.now(), check.failure
        try:
            async with asyncio.timeout(self.config.timeout_s):
                await check.run()
            check.failure = None
        except TimeoutError:
            check.failure = f"no answer within {self.config.timeout_s:g} s"
        except Exception as error:
            check.failure = str(error) or type(error).__name__
        check.at = self.now()
        check.seconds = check.at - began
        if (check.failure is None) != (before is None):
            level, event = (logging.INFO, "a check is well") if check.failure is None else _FAILED
            logger.log(level, event, extra={"check": check.name, "reason": check.failure})


def in_thread(function: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """A blocking check as one that the event loop can wait for.

    It has a daemon thread of its own, so that one which hangs holds up neither other work nor the end of the process;
    while it hangs no second one is started.
    """
    busy = threading.Lock()

    async def check() -> None:
        if not busy.acquire(blocking=False):
            raise NotReady("the run before has not come back")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            failure: Exception | None = None
            try:
                function()
            except Exception as error:
                failure = error
            busy.release()
            if not loop.is_closed():
                loop.call_soon_threadsafe(_settle, done, failure)

        threading.Thread(target=work, name="health-check", daemon=True).start()
        await done

    return check


def _settle(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():  # it came back after its time
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(failure)
