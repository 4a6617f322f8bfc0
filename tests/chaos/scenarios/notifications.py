"""R29: every notification arrives although half of the tries fail and senders are killed."""

import re
import signal
import threading
from collections import Counter

from jobsite.notifications import operations
from jobsite.notifications.rules import Wanted
from jobsite.tenants import principals
from tests.chaos.chaos import Chaos
from tests.chaos.registry import scenario
from tests.notifications.smtp_sink import TAKEN, sinking
from tests.receiver import Request, receiving

IDENTITY = re.compile(rb"msg_[0-9a-f-]{36}")
ADDRESSES = ("ops@example.org", "boss@example.org")
MOST_IN_A_ROW = 3
DELIVERIES = """
SELECT 'msg_' || identity, address, event, job_number, status, attempts, channel FROM jobsite_delivery ORDER BY id
"""
# The recipients of each end: both addresses for a failure, the URL for a success.
WANTED = """
SELECT j.number, j.status, t.address
FROM jobsite_job j JOIN jobsite_program p ON p.id = j.program_id AND p.notification_group_id IS NOT NULL
CROSS JOIN LATERAL (SELECT unnest(CASE j.status WHEN 'FAILED' THEN %s::text[] ELSE ARRAY[%s] END) AS address) t
"""


class Failures:
    """Decides which tries fail: about half of them, but never more than three in a row for one message."""

    def __init__(self, chaos: Chaos) -> None:
        self._random, self._lock = chaos.random, threading.Lock()
        self._failures: Counter[str] = Counter()
        self.failed = 0
        self.taken: Counter[tuple[str, str]] = Counter()

    def is_bad(self, identity: str) -> bool:
        """Whether this try fails."""
        with self._lock:
            if self._failures[identity] >= MOST_IN_A_ROW or self._random.random() < 0.5:
                self._failures[identity] = 0
                return False
            self._failures[identity] += 1
            self.failed += 1
            return True

    def take(self, identity: str, address: str) -> None:
        """Note that a message has arrived."""
        with self._lock:
            self.taken[identity, address] += 1

    def any_of(self, *ways: str) -> str:
        """Choose one of several ways to fail."""
        with self._lock:
            return self._random.choice(ways)


@scenario("R29", limit=240)
def half_of_the_tries_fail(chaos: Chaos) -> None:
    """Mail server and webhook receiver fail half of the time, senders are killed: each message arrives, few twice."""
    count = chaos.count(60)
    mood = Failures(chaos)
    chaos.fleet.service()

    def mail(content: bytes) -> str:
        found = IDENTITY.search(content)
        assert found, "a message without its identity"
        if not mood.is_bad(found[0].decode()):
            return "250 OK"
        return mood.any_of("451 busy", "hang up", TAKEN)

    def hook(request: Request) -> None:
        identity = request.headers["webhook-id"]
        if mood.is_bad(identity):
            way = mood.any_of("503", "hang up", "take it and hang up")
            if way.startswith("take"):
                mood.take(identity, request.path)
            return request.reply(503) if way == "503" else request.hang_up()
        mood.take(identity, request.path)
        return request.reply(204)

    with sinking() as sink, receiving(hook) as receiver:
        sink.mood = mail
        principal = principals.local(chaos.tenant(), login="chaos")
        operations.create_group(principal, "ops")
        operations.create_rule(principal, "ops", Wanted("FAILED", to_addresses=ADDRESSES))
        operations.create_rule(principal, "ops", Wanted("COMPLETED", channel="webhook", to_url=receiver.url("/hook")))
        works = chaos.program("works", notification_group="ops")
        fails = chaos.program("fails", target="fail", notification_group="ops")
        environment = {
            "EMAIL_URL": f"smtp://127.0.0.1:{sink.port}",
            "JOBSITE_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        for place in range(2):
            chaos.fleet.worker(f"w{place}", concurrency=2, environment=environment)
        for program in (works, fails):
            chaos.insert(program, count)
        _kill_senders(chaos, 6)
        chaos.all_ended(seconds=60, meanwhile=chaos.restart_ended_workers)
        chaos.until(
            lambda: not chaos.database.one("SELECT count(*) FROM jobsite_delivery WHERE status = 'PENDING'"),
            "every delivery is sent",
            seconds=120,
            meanwhile=chaos.restart_ended_workers,
        )
        came = Counter(mood.taken)
        for one in sink.mails:
            found = IDENTITY.search(one.content)
            assert found
            came.update((found[0].decode(), address) for address in one.recipients)
        _look(chaos, mood, came, url=receiver.url("/hook"))


def _kill_senders(chaos: Chaos, times: int) -> None:
    """Kill a worker with all its processes while deliveries are being sent, `times` times."""
    for turn in range(times):
        chaos.until(
            lambda: chaos.database.one(
                "SELECT count(*) FROM jobsite_delivery WHERE status = 'PENDING' AND lock_token IS NOT NULL"
            ),
            "a delivery is being sent",
            seconds=60,
            meanwhile=chaos.restart_ended_workers,
        )
        worker = chaos.fleet.workers[f"w{turn % 2}"]
        if worker.is_running:
            worker.send_all(signal.SIGKILL)
            chaos.fault("sender killed", worker.name)
        chaos.sleep(2.0, "others go on", meanwhile=chaos.restart_ended_workers)


def _look(chaos: Chaos, mood: Failures, came: Counter[tuple[str, str]], *, url: str) -> None:
    rows = chaos.database.rows(DELIVERIES)
    wanted = Counter(
        (number, status, address) for number, status, address in chaos.database.rows(WANTED, list(ADDRESSES), url)
    )
    found = Counter((row[3], row[2], row[1]) for row in rows)
    chaos.expect(found == wanted, f"{len(wanted - found)} deliveries are missing, {len(found - wanted)} too many")
    unsent = [row for row in rows if row[4] != "SENT"]
    chaos.expect(not unsent, f"{len(unsent)} deliveries were not sent: {unsent[:3]}")
    for identity, address, _, _, _, attempts, channel in rows:
        times = came.pop((identity, address if channel == "email" else "/hook"), 0)
        chaos.expect(1 <= times <= attempts, f"{identity} came {times} times in {attempts} tries")
    chaos.expect(not came, f"{len(came)} messages came to the wrong recipient: {list(came)[:3]}")
    chaos.expect(mood.failed >= len(rows) // 4, f"{mood.failed} of the messages failed")
    chaos.figure("deliveries", len(rows))
    chaos.figure("tries", sum(row[5] for row in rows))
    chaos.figure("failed on purpose", mood.failed)
