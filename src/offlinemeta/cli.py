"""The command ``offlinemeta``, put together from what each folder offers."""

from __future__ import annotations

from offlinemeta.baselines import cli as baselines
from offlinemeta.benchmark.cli import app, main

app.command(
    epilog=baselines.TRAIN_EPILOG,
    context_settings={"ignore_unknown_options": True},  # fields of the config,
)(baselines.train)
app.command(epilog=baselines.STUDY_EPILOG)(baselines.study)
app.command(epilog="Example:\n\n  offlinemeta demo --out out")(baselines.demo)

__all__ = ["app", "main"]
