"""Webhooks: the event as JSON, signed as Standard Webhooks says, sent by the guarded client."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from jobsite import outgoing
from jobsite.errors import Invalid
from jobsite.notifications.channels import one_line
from jobsite.notifications.channels.base import DeliveryFailed, Outgoing
from jobsite.values import times

SECONDS = 15.0  # for all of it, from the name's resolution to the answer's last byte
MAX_BYTES = 4 * 1024  # of an answer, of which one line is kept
LONGEST_WAIT = timedelta(days=1).total_seconds()
SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
GONE = 410
TRANSIENT = (408, 425, 429, *range(500, 600))


def send(message: Outgoing) -> str:
    """POST the event, signed with every secret there is, so that one can be replaced without a gap.

    Raises DeliveryFailed: final where the receiver refused it (4xx, a redirect) or the address guard did; to be tried
    again, no sooner than the receiver asked, after 408, 425, 429, 5xx and where no answer came.
    """
    now = datetime.now(UTC)
    body = _body(message)
    headers = _headers(message, body, now)
    try:
        # No redirects: an event that is redirected counts as not delivered, wherever it would have gone.
        answer = outgoing.send(
            "POST",
            message.address,
            seconds=min(SECONDS, message.seconds),
            headers=headers,
            body=body.encode(),
            max_bytes=MAX_BYTES,
            max_redirects=0,
        )
    except outgoing.OutgoingError as error:
        is_refused = isinstance(error, outgoing.OutgoingRefused)
        raise DeliveryFailed(one_line(str(error), limit=500), is_final=is_refused) from error
    return _judged(answer, now)


def check_address(address: str) -> str:
    """The URL as it is requested; raises Invalid for a scheme, port or form that is not allowed."""
    if not address.isprintable():
        raise Invalid("this is not a URL; expected one such as https://hooks.example.org/jobs")
    try:
        return str(outgoing.check_url(address.strip(" ")).copy_with(fragment=None))
    except outgoing.OutgoingRefused as error:
        raise Invalid(str(error)) from error


def _body(message: Outgoing) -> str:
    facts = {name: value for name, value in message.facts.items() if name != "user"}
    event = {
        "type": _type(message.event),
        "timestamp": times.format_time(message.happened_at),
        "data": facts | {"subject": message.subject, "text": message.text},
    }
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


def _type(event: str) -> str:
    """FAILED is `job.failed`, SCHEDULE_MISSED is `schedule.missed`."""
    about, _, what = event.lower().partition("_")
    return f"{about}.{what}" if about in ("program", "schedule") else f"job.{event.lower()}"


def _headers(message: Outgoing, body: str, now: datetime) -> dict[str, str]:
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message.identity,
        "webhook-timestamp": str(int(now.timestamp())),
    }
    try:
        signatures = [Webhook(secret).sign(message.identity, now, body) for secret in message.secrets]
    except (EmptyWebhookSecretError, ValueError):
        # The library's message might contain the secret.
        raise DeliveryFailed(
            "a secret of this webhook is not base64, as whsec_… is; replace it", is_final=True
        ) from None
    return headers | ({"webhook-signature": " ".join(signatures)} if signatures else {})


def _judged(answer: outgoing.Answer, now: datetime) -> str:
    words = one_line(answer.body.decode(errors="replace"))
    said = f"{answer.url} answered {answer.status}" + (f": {words}" if words else "")
    if answer.status in SUCCESS:
        return said
    if answer.status == GONE:
        said = f"{answer.url} answered 410: the receiver wants no more of these"
    if answer.status in REDIRECTS:
        said = f"{answer.url} answered {answer.status}: webhooks follow no redirects; name the URL that it leads to"
    is_transient = answer.status in TRANSIENT
    wait = _retry_after(answer.headers, now) if is_transient else None
    raise DeliveryFailed(said, is_final=not is_transient, retry_after=wait)


def _retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds, from a number of them or a date, at most a day; None where the header is missing or makes no sense."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds()), LONGEST_WAIT)
