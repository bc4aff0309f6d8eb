"""What goes wrong in an evaluation or with a run, as types."""

from __future__ import annotations

from offlinemeta.envs.errors import OfflineMetaError


class AgentError(OfflineMetaError, RuntimeError):
    """An agent that breaks its contract: raises, answers with a wrong shape or NaN, or writes into its input."""


class ResultError(OfflineMetaError, ValueError):
    """A result file that is damaged, of another schema, or does not fit the others."""


class RunError(OfflineMetaError, RuntimeError):
    """A training run that cannot go on: another config, a damaged checkpoint, no space, no such device."""
