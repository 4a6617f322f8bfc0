"""What a rule is, and how it is asked: SQL that reads rows once and says which of them break which rule."""

from dataclasses import dataclass

from jobsite.programs.rules.lifecycle import OPEN, TERMINAL, listed


@dataclass(frozen=True)
class Rule:
    """One sentence that must hold of each row of a look.

    `broken` is SQL over the row, whose columns may be called `looked.…`; NULL breaks nothing. `said` describes a row
    that breaks the rule, with its columns in braces.
    """

    invariant: str
    sentence: str
    broken: str
    said: str


@dataclass(frozen=True)
class Look:
    """Rows, read once: `number` is the job's, or NULL; `numbers` are the jobs where a row is about several.

    `%(now)s` is the moment of the look. What a live system puts right by itself breaks a rule only once it has lasted
    for `%(patience)s` seconds, that is since before LATEST.
    """

    rows: str
    rules: tuple[Rule, ...]

    @property
    def statement(self) -> str:
        """All rules in one statement, (place of the rule, count, row as JSON): a healthy row is read once."""
        any_broken = " OR ".join(f"({rule.broken})" for rule in self.rules)
        broken = " UNION ALL ".join(
            f"SELECT {place} AS place, looked.* FROM suspect looked WHERE {rule.broken}"
            for place, rule in enumerate(self.rules)
        )
        return f"""
            WITH suspect AS MATERIALIZED (SELECT * FROM ({self.rows}) looked WHERE {any_broken}),
            broken AS ({broken}),
            ranked AS (
                SELECT broken.*, row_number() OVER (PARTITION BY place ORDER BY number) AS nth,
                       count(*) OVER (PARTITION BY place) AS total
                FROM broken
            )
            SELECT place, total, to_jsonb(ranked)::text FROM ranked WHERE nth <= %(named)s ORDER BY place, nth
        """


ENDED, GOING = listed(TERMINAL), listed(OPEN)
LATEST = "%(now)s::timestamptz - %(patience)s * interval '1 second'"
