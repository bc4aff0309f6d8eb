"""The errors and warnings of this package. Every message shows the value and says what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import gymnasium

MOST_LISTED = 60
"""The largest number of names that a message lists."""


class OfflineMetaError(Exception):
    """The base class of all errors that this package raises on purpose.

    Attributes:
        exit_code: exit status of a command that ends with this error.
    """

    exit_code = 2


class UnknownNameError(OfflineMetaError, ValueError):
    """There is nothing of the given name, such as a family, a split or an option."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        known = list(known)
        folded = {k.lower(): k for k in known}
        close = difflib.get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
        listed = ", ".join(known[:MOST_LISTED]) + (f", ... ({len(known)} in all)" if len(known) > MOST_LISTED else "")
        hint = f"Did you mean {folded[close[0]]!r}?" if close else f"There are: {listed}."
        super().__init__(f"{kind} {name!r} does not exist. {hint}")


class TaskError(OfflineMetaError, ValueError):
    """The family does not have the task: its index is out of range, or it belongs to another family."""


class TaskFileError(OfflineMetaError, RuntimeError):
    """A frozen task list is missing, unreadable or inconsistent."""


class ActionError(OfflineMetaError, ValueError):
    """Actions have the wrong shape, or entries that are not finite."""


class ResetNeededError(OfflineMetaError, gymnasium.error.ResetNeeded):
    """A step was made before the first reset, after the end of an episode, or after a change of task."""


class ClosedError(OfflineMetaError, gymnasium.error.ClosedEnvironmentError):
    """An environment was used after ``close()``."""

    def __init__(self) -> None:
        super().__init__("The environment is closed. Make it anew.")


class NoSubEnvironmentError(OfflineMetaError, AttributeError):
    """A batch was asked for one of its environments, but it is one simulator and has no single environments."""


class NotRelabelableError(OfflineMetaError, TypeError):
    """The reward is not a function of recorded features (Meta-World), so it cannot be computed for another task."""


class MissingExtraError(OfflineMetaError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs an optional dependency. Install it with: pip install 'offlinemeta[{extra}]'")


class RenderError(OfflineMetaError, RuntimeError):
    """No picture can be drawn on this machine."""


class ReferenceWarning(UserWarning):
    """The installed physics is not the reference: returns may not compare with published ones."""


class ArgumentError(OfflineMetaError, ValueError):
    """An argument has a value that makes no sense, such as ``num_envs=0``."""
