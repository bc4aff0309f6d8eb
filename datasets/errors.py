"""What goes wrong with data, as types. Every message shows the value and says what to do next."""

from __future__ import annotations

from offlinemeta.envs.errors import OfflineMetaError


class DatasetError(OfflineMetaError, RuntimeError):
    """A dataset that cannot be used, built, or moved."""


class DatasetMissingError(DatasetError, FileNotFoundError):
    """The dataset is not on this machine, and was not to be fetched or built."""


class DamagedDatasetError(DatasetError):
    """Files that are truncated, altered, or not what their hash says; ``reason`` is the bare finding."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class OtherContentError(DatasetError):
    """A build whose content is not that of the manifest."""


class OtherVersionError(DatasetError):
    """Data of another version of the family, or in a format that this version does not read."""


class BusyError(DatasetError):
    """Another process is building the same dataset."""


class RemoteError(DatasetError):
    """A remote that is down, refuses, or answers with garbage."""
