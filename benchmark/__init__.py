"""The evaluation of agents: protocols, the runner, metrics and results. It never imports torch."""
