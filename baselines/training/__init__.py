"""Runs: their loop, checkpoints, grids of them, diagnostics. Reaches the papers only through the registry."""
