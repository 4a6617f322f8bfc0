"""The benchmark: jobsite beside its peers and its limits, on one machine, in one interleaved run.

Nothing imports this but the command `jobsite bench`. The command's own process drives the run and never touches
the database of the installation: every contender is spoken to by a process of its own (agent.py), whose
environment leads to servers that were made for the run (ground.py).
"""

__all__ = ["aims", "contenders", "ground", "measure", "report", "run", "scheduling", "telling"]
