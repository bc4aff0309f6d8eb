"""Runs: their folders, loop, log and checkpoints, and grids of runs. Papers are reached through the registry only."""
