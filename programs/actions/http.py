"""The kinds `http` and `heartbeat`: one request by the guarded client, judged by its status."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from jobsite import outgoing
from jobsite.programs.actions.templates import render, render_all
from jobsite.programs.context import PermanentError, Step
from jobsite.programs.rules.stops import JobTimeout
from jobsite.values import storable

if TYPE_CHECKING:
    from jobsite.programs.context import Context

SUCCESS = ((200, 299),)
MAX_BODY = 32 * 1024
MAX_TEXT = 8 * 1024  # of a body that does not fit into a result whole: as JSON, a character may take six
MAX_QUOTED = 200
MAX_HEADERS = 100
MAX_HEADER = 1024


class WrongStatus(Exception):
    """The status was not an expected one. 408, 425, 429 and 5xx are retried, after at least `retry_after` seconds."""

    says_all = True

    def __init__(self, message: str, *, code: int, retry_after: float | None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class HeartbeatFailed(PermanentError):
    """The service answered, but not with an expected status."""

    says_all = True


def run_http(context: "Context", step: Step) -> object:
    """Send the request; its answer is the result. A status that is not expected fails the job."""
    configuration = step.configuration
    body, kind = _body(configuration.get("body"), context)
    headers = {"Content-Type": kind} if kind else {}
    answer = request(context, step, str(configuration.get("method", "GET")), headers=headers, body=body)
    check_status(context, answer, configuration)
    return as_result(context, answer)


def run_heartbeat(context: "Context", step: Step) -> object:
    """Ask a service whether it is alive. A status that is not expected is a permanent failure."""
    answer = request(context, step, "GET")
    if wrong := _wrong(context, answer, step.configuration):
        raise HeartbeatFailed(wrong)
    return {"status": answer.status, "seconds": round(answer.seconds, 3)}


def request(
    context: "Context", step: Step, method: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> outgoing.Answer:
    """Send the request of a step within its time limit, with headers that tell the receiver which job this is.

    `Idempotency-Key` is the same in every run of the job, as long as the action is not edited. `Jobsite-Fence` grows
    with each claim, so that a receiver can refuse a worker that has lost the job to another.
    """
    configured = {name: render(value, context) for name, value in step.configuration.get("headers", {}).items()}
    ours = {"jobsite-job": context.job_number, "jobsite-attempt": context.attempt, "jobsite-fence": context.fence}
    sent = {"idempotency-key": f"job-{context.job_number}-{step.digest.hex[:12]}"}
    for some in (headers or {}, configured, ours):
        sent |= {name.lower(): str(value) for name, value in some.items()}
    url = render(step.configuration["url"], context)
    # An expected redirect is itself the answer. A webhook's event is not sent on to another address.
    is_awaited = any(low < 400 and high >= 300 for low, high in _expected(step.configuration))
    seconds = context.seconds_left
    redirects = 0 if is_awaited or step.kind == "webhook" else outgoing.MAX_REDIRECTS
    try:
        answer = outgoing.send(method, url, seconds=seconds, headers=sent, body=body, max_redirects=redirects)
    except outgoing.OutgoingTimeout as error:
        raise JobTimeout from error
    context.log.info("%s %s: %d in %.3f s", method, answer.url, answer.status, answer.seconds)
    return answer


def check_status(context: "Context", answer: outgoing.Answer, configuration: Mapping[str, Any]) -> None:
    """Raise WrongStatus unless the answer has a status that is expected."""
    if wrong := _wrong(context, answer, configuration):
        raise WrongStatus(wrong, code=answer.status, retry_after=_retry_after(answer.headers))


def as_result(context: "Context", answer: outgoing.Answer) -> dict[str, Any]:
    """An answer as a result: status, headers, and the body as JSON if it is JSON, else as text; secrets as ••••."""
    text = _text(context, answer)
    is_cut = answer.is_cut or len(answer.body) > MAX_BODY
    headers = list(answer.headers.items())[:MAX_HEADERS]
    result: dict[str, Any] = {
        "status": answer.status,
        "url": storable.text(answer.url, limit=MAX_HEADER, mask=context.mask),
        "headers": {name: storable.text(value, limit=MAX_HEADER, mask=context.mask) for name, value in headers},
        "body": text[:MAX_BODY] if is_cut else _parsed(answer, text),
        "is_cut": is_cut,
        "seconds": round(answer.seconds, 3),
    }
    try:
        storable.result(result, mask=context.mask)
    except storable.NotStorable:
        result |= {"headers": {}, "body": storable.text(text, limit=MAX_TEXT), "is_cut": True}
    return result


def _text(context: "Context", answer: outgoing.Answer) -> str:
    """The body as text. Secrets are hidden before it is cut; half a secret at the end of a cut body is removed."""
    text = answer.body.decode(errors="replace")
    if context.mask is None:
        return text
    text = context.mask.text(text)
    return text[: -context.mask.longest] if answer.is_cut else text


def _parsed(answer: outgoing.Answer, text: str) -> object:
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            return text
    return text


def _body(configured: object, context: "Context") -> tuple[bytes, str]:
    """The bytes to send and their content type. A text is sent as text, anything else as JSON."""
    if configured is None:
        return b"", ""
    if isinstance(configured, str):
        return render(configured, context).encode(), "text/plain; charset=utf-8"
    return json.dumps(render_all(configured, context), ensure_ascii=False).encode(), "application/json"


def _expected(configuration: Mapping[str, Any]) -> Sequence[Sequence[int]]:
    expected: Sequence[Sequence[int]] = configuration.get("expected_status", SUCCESS)
    return expected


def _wrong(context: "Context", answer: outgoing.Answer, configuration: Mapping[str, Any]) -> str | None:
    expected = _expected(configuration)
    if any(low <= answer.status <= high for low, high in expected):
        return None
    ranges = ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in expected)
    quoted = " ".join(_text(context, answer)[: 4 * MAX_QUOTED].split())[:MAX_QUOTED]
    return f"{answer.url} answered {answer.status}, expected {ranges}" + (f": {quoted}" if quoted else "")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, from a number of seconds or a date; None if the header is missing or malformed."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
