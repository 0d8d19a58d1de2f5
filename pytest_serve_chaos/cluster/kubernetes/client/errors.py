"""What the Kubernetes client's errors say, in one line."""

from __future__ import annotations

from pytest_serve_chaos.json_text import read_json


def reason(error: Exception) -> str:
    """What an error of the client says: it puts headers and body into its text."""
    body = body_of(error)
    try:
        said = read_json(body)
    except ValueError:
        said = None
    message = str(said["message"]) if isinstance(said, dict) and "message" in said else body
    message = message or str(getattr(error, "reason", None) or error)
    status = getattr(error, "status", None)
    kind = f"status {status}" if status else type(error).__name__
    return f"{kind}: {' '.join(message.split())[:400]}"


FORBIDDEN, NOT_FOUND, CONFLICT = 403, 404, 409
"""Statuses of the API server: this user may not; there is no such object; the object was changed meanwhile."""


def status_of(error: BaseException) -> int | None:
    """The status of the answer that refused a request, given the error of ours that says so; None: there was none."""
    status = getattr(error.__cause__, "status", None)
    return status if isinstance(status, int) else None


def body_of(error: Exception) -> str:
    """The body of the answer that an error of the client carries; "" where it has none."""
    body = getattr(error, "body", None) or ""
    return body.decode("utf-8", "replace") if isinstance(body, bytes) else str(body)
