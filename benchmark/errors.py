"""Errors of evaluations, results and runs."""

from __future__ import annotations

from offlinemeta.envs.errors import OfflineMetaError


class AgentError(OfflineMetaError, RuntimeError):
    """An agent broke its contract: it raised, answered with a wrong shape or NaN, or wrote into its input."""


class ResultError(OfflineMetaError, ValueError):
    """A result file is damaged, of another schema, or does not fit the others."""


class RunError(OfflineMetaError, RuntimeError):
    """A training run cannot go on: another config, a damaged checkpoint, no space, no such device."""
