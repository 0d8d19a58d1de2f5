"""What is wrong with a file of the user's: all of it is collected, and refused in one error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_serve_chaos.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing in a file that cannot be used.

    Attributes:
        what: What is wrong.
        fix: The way out.
        where: The line, the object and the field; "" where it is the whole.
        refuses: False: the plugin gets around it by itself, and mentions it among others only.
    """

    what: str
    fix: str
    where: str = ""
    refuses: bool = True

    @property
    def line(self) -> str:
        """All of it in one line."""
        place = f"{self.where}: " if self.where else ""
        return f"{place}{self.what}. To fix this: {self.fix}" if self.refuses else f"{place}{self.what}: {self.fix}"


def refuse(title: str, problems: Sequence[Problem], fix: Sequence[str] = (), *, single: str = "") -> None:
    """Raises one error with all problems, if there are any that cannot be got around.

    Args:
        title: What cannot be used, and for what: ``ranker.yaml cannot run on kind``.
        problems: What was found.
        fix: The ways out of all of them, for an error with several.
        single: What is added to the way out of a problem that is alone.

    Raises:
        SettingsError: There are.
    """
    refusing = [problem for problem in problems if problem.refuses]
    if not refusing:
        return
    if len(problems) == 1:
        (only,) = problems
        raise SettingsError(
            f"{title}: {only.what}", checked=[only.where] if only.where else (), fix=[only.fix + single]
        )
    raise SettingsError(
        f"{title}: {len(refusing)} of its parts cannot be used, and all of them are listed here"
        if len(refusing) > 1
        else f"{title}: {refusing[0].what}",
        checked=[problem.line for problem in problems],
        fix=fix or ["change what is listed"],
    )
