"""The benchmark: jobsite compared with its peers and its limits, on one machine, in one interleaved run.

Only the command `jobsite bench` imports this package. The command's own process drives the run and never touches
the database of the installation. Each contender has a process of its own that calls it (agent.py); the environment
of that process leads to servers that were started for the run (ground.py).
"""

__all__ = ["aims", "contenders", "ground", "measure", "report", "rule_costs", "run", "scheduling"]
