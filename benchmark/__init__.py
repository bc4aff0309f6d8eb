"""What is measured, and the command line. Imports ``offlinemeta.envs`` and ``offlinemeta.datasets``, never torch."""
