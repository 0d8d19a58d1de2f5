"""The times of a history as times of day, as programs take them that know no history."""

from __future__ import annotations

from datetime import datetime, timezone

from pytest_serve_chaos.history import History

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def unix_nanoseconds(history: History, at: float | None = None) -> int:
    """The Unix time of a moment; where the history does not say when it began, it began in 1970.

    Args:
        history: Of this run, or from a file.
        at: On its clock, in seconds; None: when it began.
    """
    since = (history.began or _EPOCH) - _EPOCH  # whole numbers: floating point would not have the nanoseconds
    began = ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
    return began if at is None else began + round((at - history.origin) * 1e9)
