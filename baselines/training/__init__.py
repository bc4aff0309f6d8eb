"""Runs: their folders, loop, log and checkpoints, and grids of them. Reaches the papers only through the registry."""
