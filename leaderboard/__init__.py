"""Submitted results and their table. Imports ``offlinemeta.benchmark`` only."""
