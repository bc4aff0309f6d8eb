"""The command ``offlinemeta``, put together from what each folder offers."""

from __future__ import annotations

from offlinemeta.baselines import cli as baselines
from offlinemeta.benchmark.cli import app, main

app.command(
    epilog=baselines.TRAIN_EPILOG,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)(baselines.train)

__all__ = ["app", "main"]
