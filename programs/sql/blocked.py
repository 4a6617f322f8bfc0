"""The column `blocked`: what a PENDING job waits for; NULL where dispatch may take it.

See docs/protocol.md, "Order, fairness, window".
"""

from jobsite.programs.rules.lifecycle import Blocked, Overlap

PROGRAM_IS_PAUSED = "p.status = 'PAUSED'"


def takes_turns(policy: str) -> str:
    """Whether a job of this overlap policy waits until it is let in: QUEUE."""
    return f"{policy} = '{Overlap.QUEUE}'"


WAITS_FOR_ITS_TURN = f"{takes_turns('j.overlap_policy')} AND j.attempts = 0"
"""Whether job `j` waits until its key is free; one that has run before keeps the key between its runs."""


def blocked(
    *, held: str | None = None, early: str | None = None, paused: str | None = None, turn: str | None = None
) -> str:
    """The value of `blocked`, by the first of these conditions that is true.

    They say whether the job is held, whether it is due later, whether its program is paused, and whether it waits for
    its turn among the jobs of its key. A statement leaves out the conditions that it need not ask.
    """
    reasons = (
        (held, Blocked.HELD),
        (early, Blocked.SCHEDULED),
        (paused, Blocked.PAUSED),
        (turn, Blocked.OVERLAP),
    )
    cases = [f"WHEN {asked} THEN '{reason}'" for asked, reason in reasons if asked is not None]
    return f"CASE {' '.join(cases)} END"
