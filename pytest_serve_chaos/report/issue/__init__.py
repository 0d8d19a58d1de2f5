"""An experiment as the text of an issue, with a picture, from its history alone."""

from __future__ import annotations

from pytest_serve_chaos.report.issue.document import ISSUE, PICTURE, issue_markdown
from pytest_serve_chaos.report.issue.subject import Subject, subject_of

__all__ = ["ISSUE", "PICTURE", "Subject", "issue_markdown", "subject_of"]
