"""Accept jobs: permitted, valid, within the quotas, captured, inserted in the caller's transaction."""

from jobsite.programs.submission import preparation, quotas
from jobsite.programs.submission.conflicts import refuse_duplicate
from jobsite.programs.submission.many import submit_many, submit_many_as
from jobsite.programs.submission.preparation import Known, Options, find_program
from jobsite.programs.submission.single import carry_as, program_deleted, retry_as, submit, submit_as

__all__ = [
    "Known",
    "Options",
    "carry_as",
    "find_program",
    "preparation",
    "program_deleted",
    "quotas",
    "refuse_duplicate",
    "retry_as",
    "submit",
    "submit_as",
    "submit_many",
    "submit_many_as",
]
