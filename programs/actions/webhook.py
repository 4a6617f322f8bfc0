"""The kind `webhook`: the job's parameters sent as an event, signed as Standard Webhooks says."""

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks import Webhook

from jobsite.programs.actions import http
from jobsite.programs.context import PermanentError, Step
from jobsite.programs.parameters import secrets
from jobsite.values import masking, times

if TYPE_CHECKING:
    from jobsite.programs.context import Context

GONE = 410


def run_webhook(context: "Context", step: Step) -> object:
    """POST the event, signed with every secret of the action; any 2xx is success, 410 is final, else as with `http`.

    Secret parameters are sent as ••••. The `webhook-id` is the same in every run of the job, so that a receiver can
    recognize an event that it has already received.
    """
    now = datetime.now(UTC)
    event = {
        "type": context.program,
        "timestamp": times.format_time(now),
        "data": {
            "job": context.job_number,
            "parameters": masking.masked(context.claimed.parameters),
            "steps": context.steps,
        },
    }
    body = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    identity = f"msg_job-{context.job_number}-{step.digest.hex[:12]}"
    signatures = [Webhook(key).sign(identity, now, body) for key in _keys(step)]
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    answer = http.request(context, step, "POST", headers=headers, body=body.encode())
    if answer.status == GONE:
        raise PermanentError(f"{answer.url} answered 410: the receiver wants no more of these")
    http.check_status(context, answer, step.configuration)
    return http.as_result(context, answer)


def _keys(step: Step) -> list[str]:
    try:
        return list(secrets.opened({"secret": step.configuration["secret"]})[0]["secret"])
    except secrets.SecretLost as error:
        raise PermanentError(
            "the webhook's secret cannot be decrypted with any of JOBSITE_SECRET_KEYS; put back the key that it was "
            "encrypted with, or load the program again"
        ) from error
