"""What an error of a database means: whose fault it is, and whether trying again may help. Knows no operation.

SQLite's result codes: https://www.sqlite.org/rescode.html; PostgreSQL's classes of SQLSTATE: appendix A of its manual.
"""

from __future__ import annotations

from enum import Enum

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from pipeline.errors import InputError

_SQLITE_ITSELF = {3, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 23, 26}  # permission, busy, full, read-only, corrupt and so on
_POSTGRESQL_ITSELF = ("08", "25006", "53", "55P03", "57", "58", "F0", "XX")
_COLLISIONS = ("40001", "40P01", "23505", "23503")  # another replica was there first
_TOLD = 300  # characters of what a database says


class StoreUnavailable(RuntimeError):
    """The database cannot be read or written now; the message says why. Nothing was acknowledged."""


class StoreBusy(StoreUnavailable):
    """More writes wait than may; try again shortly."""


class StoreRefused(InputError):
    """A store that cannot be opened at all: a bad URL, or a database of a newer version."""


class StoreFault(RuntimeError):
    """The database would not take what an operation wrote: a fault of ours that trying again does not mend."""


class Fault(Enum):
    """Whose fault an error is."""

    OPERATION = "operation"
    COLLISION = "collision"  # with another replica, or a connection lost midway: the operation may be run again
    DATABASE = "database"


def fault(error: BaseException) -> Fault:
    """Whose fault an error raised within a transaction is."""
    if isinstance(error, PoolExhausted):
        return Fault.DATABASE
    if not isinstance(error, DBAPIError):
        return Fault.OPERATION
    if error.connection_invalidated:
        return Fault.COLLISION
    code = getattr(error.orig, "sqlite_errorcode", None)
    if code is not None:
        return Fault.DATABASE if code & 0xFF in _SQLITE_ITSELF else Fault.OPERATION
    return _postgresql(error)


def _postgresql(error: DBAPIError) -> Fault:
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # psycopg itself: no connection, or a value it cannot send
        return Fault.DATABASE if "OperationalError" in type(error).__name__ else Fault.OPERATION
    if state in _COLLISIONS:
        return Fault.COLLISION
    return Fault.DATABASE if state.startswith(_POSTGRESQL_ITSELF) else Fault.OPERATION


def reason(error: BaseException) -> str:
    """What a database said, in one line, without the statement, its values and its rows."""
    original = getattr(error, "orig", None) or error
    primary = getattr(getattr(original, "diag", None), "message_primary", None)
    return " ".join(str(primary or original).split())[:_TOLD] or type(original).__name__


def told(error: BaseException) -> BaseException:
    """The error that a caller is given for one that was raised within a transaction."""
    if not isinstance(error, SQLAlchemyError):
        return error
    if fault(error) is Fault.OPERATION or isinstance(error, IntegrityError):
        return StoreFault(reason(error))
    return StoreUnavailable(reason(error))
