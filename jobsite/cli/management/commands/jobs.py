"""jobsite jobs: look at jobs and steer them."""

from typing import Any

from jobsite.cli import acting, all_jobs, job_options, job_pages, log_pages
from jobsite.cli.base import GroupCommand
from jobsite.programs.inspection import queries


class Command(GroupCommand):
    """Entry point."""

    help = "Look at jobs and steer them."

    def add_commands(self) -> None:
        """Add the sub-commands."""
        listing = self.sub("list", job_pages.list_jobs, "Jobs, the newest first.", json=True)
        all_jobs.add_filter(listing)
        listing.add_argument("--limit", type=int, default=queries.DEFAULT_LIMIT, metavar="N")
        listing.add_argument("--cursor", metavar="C", help="next_cursor of the previous page")
        self._one("show", job_pages.show_job, "One job with its attempts, steps and children.", json=True)
        logs = self._one("logs", log_pages.show_logs, "The log of a job.", json=True)
        logs.add_argument("--follow", action="store_true", help="go on until the job ends")
        self._one("why", job_pages.explain_job, "Why a job is not running, or where it is.", json=True)
        self._add_acts()

    def _add_acts(self) -> None:
        cancel = self._one_or_all("cancel", acting.cancel, "Cancel waiting jobs, ask running ones to stop.")
        # For a hold, --until is its end.
        hold = self._one_or_all("hold", acting.hold, "Keep waiting jobs from running.", until="--submitted-until")
        hold.add_argument("--until", metavar="TIME", help="release them automatically at this time")
        release = self._one_or_all("release", acting.release, "Let held jobs go on.")
        retry = self._one_or_all(
            "retry", acting.retry, "Submit ended jobs again; a single one also with edited parameters."
        )
        job_options.add_parameters(retry)
        job_options.add_asker_and_wait(retry)
        acknowledge = self.sub("acknowledge", acting.acknowledge, "Say that you have seen why jobs failed.")
        acknowledge.add_argument("numbers", nargs="*", type=int, metavar="N", help="the jobs' numbers")
        all_jobs.add_all(acknowledge)
        expire = self.sub("expire", acting.expire, "End jobs that run past their time limit; others are not touched.")
        expire.add_argument(
            "numbers", nargs="*", type=int, metavar="N", help="only these (default: all that are stuck)"
        )
        choice = expire.add_mutually_exclusive_group()
        choice.add_argument("--retry", action="store_const", const="RETRY", dest="policy", default="")
        choice.add_argument("--fail", action="store_const", const="FAIL", dest="policy")
        for parser in (cancel, hold, release, retry, acknowledge, expire):
            parser.add_argument("--reason", default="", help="kept in the audit")

    def _one_or_all(self, name: str, run: Any, help: str, *, until: str = "--until") -> Any:
        parser = self.sub(name, run, help)
        parser.add_argument("number", nargs="?", type=int, metavar="N", help="the job's number")
        all_jobs.add_all(parser, until=until)
        return parser

    def _one(self, name: str, run: Any, help: str, *, json: bool = False) -> Any:
        parser = self.sub(name, run, help, json=json)
        parser.add_argument("number", type=int, metavar="N", help="the job's number")
        return parser
