"""Every statement that sets Job.status, one module for each move (docs/protocol.md, "Moves").

Nothing else sets it. Each function takes a cursor first, psycopg's or Django's, uses the database's clock only, and
leaves the transaction to its caller.
"""

__all__ = [
    "acknowledge",
    "cancel",
    "claim",
    "dispatch",
    "finish",
    "give_back",
    "hold",
    "overlap",
    "pause",
    "prune",
    "reap",
    "renew",
    "resolve",
    "spawn",
    "start",
    "submit",
]
