"""The channels, against real servers: what arrives, and how each failure is reported."""

import json
import socket
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from ipaddress import ip_network

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobsite.errors import Invalid
from jobsite.notifications.channels import CHANNELS, one_line
from jobsite.notifications.channels.base import DeliveryFailed, Outgoing
from tests.notifications.smtp_sink import greeting, sinking
from tests.receiver import receiving

KEYS = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_b2xkIGtleSBvZiB0aGlzIHRlc3QgMDEyMw==")
DAY = 86_400
MESSAGE = Outgoing(
    identity="msg_delivery-7",
    event="FAILED",
    happened_at=datetime(2026, 3, 4, 5, 6, 7, 89_000, tzinfo=timezone(timedelta(hours=1))),
    subject="Grüße: Prüfung fehlgeschlagen 🚨",
    text="Hallo Zoë,\n\nder Lauf „Übertrag“ schlug fehl 💥\n",
    html="<p>Hallo Zoë,</p><p>der Lauf „Übertrag“ schlug fehl 💥</p>",
    language="de",
    address="bob@example.org",
    facts={"job": {"number": 7, "error": "Maß"}, "user": {"name": "Bob"}, "event": "FAILED"},
)


def failure(channel, message):
    """The error with which a channel fails to send this message."""
    with pytest.raises(DeliveryFailed) as caught:
        CHANNELS[channel].send(message)
    return caught.value


# ---- email -------------------------------------------------------------------------------------------------


@pytest.fixture
def smtp(settings):
    """Point Django's mail at a port of this machine: `smtp(port, user=…, password=…)`."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.DEFAULT_FROM_EMAIL = "Jobsite <jobs@mail.example.org>"
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_TIMEOUT = 5
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False

    def smtp(port, user="", password=""):
        settings.EMAIL_PORT, settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = port, user, password

    return smtp


@pytest.fixture
def sink(smtp):
    """A mail server that accepts everything; Django's mail uses it."""
    with sinking() as started:
        smtp(started.port)
        yield started


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as door:
        return door.getsockname()[1]


def test_text_and_html_arrive_as_they_were_written(sink):
    said = CHANNELS["email"].send(MESSAGE)

    [mail] = sink.mails
    assert said == f"127.0.0.1:{sink.port} took it for bob@example.org"
    assert (mail.sender, mail.recipients) == ("jobs@mail.example.org", ["bob@example.org"])
    assert mail.message["subject"] == MESSAGE.subject
    assert mail.message.get_content_type() == "multipart/alternative"
    text, html = mail.message.iter_parts()
    assert (text.get_content_type(), text.get_content()) == ("text/plain", MESSAGE.text.replace("\n", "\r\n"))
    assert (html.get_content_type(), html.get_content().strip()) == ("text/html", MESSAGE.html)


def test_the_headers_say_what_it_is_and_that_a_machine_wrote_it(sink):
    CHANNELS["email"].send(MESSAGE)

    message = sink.mails[0].message
    ours = ("to", "from", "message-id", "auto-submitted", "x-jobsite-event", "content-language")
    assert [message[name] for name in ours] == [
        "bob@example.org", "Jobsite <jobs@mail.example.org>", "<msg_delivery-7@mail.example.org>", "auto-generated",
        "FAILED", "de",
    ]  # fmt: skip
    assert abs(message["date"].datetime.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_mail_that_is_sent_again_has_the_same_message_id(sink):
    for identity in ("a", "a", "b"):
        CHANNELS["email"].send(replace(MESSAGE, identity=identity))

    first, again, other = (mail.message["message-id"] for mail in sink.mails)
    assert first == again != other


def test_without_html_only_text_is_sent(sink):
    CHANNELS["email"].send(replace(MESSAGE, html=""))

    assert sink.mails[0].message.get_content_type() == "text/plain"


@pytest.mark.parametrize(
    ("subject", "arrives"),
    [
        ("a\r\nBcc: evil@x.org", "a Bcc: evil@x.org"),
        ("a\nBcc: evil@x.org\n\nbody", "a Bcc: evil@x.org body"),
        ("ä\r\nBcc: evil@x.org", "ä Bcc: evil@x.org"),
        ("a\x00\x0b\x0c\x1b\x85\u2028\u2029b", "a b"),
        ("=?utf-8?q?a=0D=0ABcc:_evil@x.org?=", "= ?utf-8?q?a=0D=0ABcc:_evil@x.org?="),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("family 👨‍👩‍👧", "family 👨‍👩‍👧"),
        ("x" * 500, "x" * 200),
        ("ü" * 500, "ü" * 200),
        ("", ""),
    ],
)
def test_a_subject_is_always_one_line(sink, subject, arrives):
    CHANNELS["email"].send(replace(MESSAGE, subject=subject))

    [mail] = sink.mails
    assert mail.message["subject"].lstrip(" ") == arrives  # a long word is folded into a line of its own
    assert mail.recipients == ["bob@example.org"]
    assert "bcc" not in mail.message


@pytest.mark.parametrize("name", ["identity", "event", "language"])
def test_no_other_field_adds_a_header_either(sink, name):
    CHANNELS["email"].send(replace(MESSAGE, **{name: "a\r\nBcc: evil@x.org"}))

    assert "bcc" not in sink.mails[0].message
    assert sink.mails[0].recipients == ["bob@example.org"]


@pytest.mark.parametrize("end", ["\r\n.\r\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\r"])
def test_a_text_cannot_end_the_message_and_begin_another(sink, end):
    text = f"a{end}MAIL FROM:<evil@x.org>\r\nRCPT TO:<evil@x.org>\r\nDATA\r\nSubject: evil{end}"

    CHANNELS["email"].send(replace(MESSAGE, text=text))

    [mail] = sink.mails
    assert mail.recipients == ["bob@example.org"]
    assert "RCPT TO:<evil@x.org>" in mail.message.get_body(("plain",)).get_content()


def test_a_long_line_is_folded_only_for_transport(sink):
    CHANNELS["email"].send(replace(MESSAGE, text="ü" * 5_000))

    assert max(map(len, sink.mails[0].content.split(b"\r\n"))) < 1_000
    assert sink.mails[0].message.get_body(("plain",)).get_content().strip() == "ü" * 5_000


def test_a_text_that_cannot_be_encoded_fails_for_good(sink):
    failed = failure("email", replace(MESSAGE, text="\ud800"))

    assert failed.is_final
    assert str(failed).startswith("this cannot be written as an e-mail: ")


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (" bob@example.org ", "bob@example.org"),
        ("Bob.O'Hara+jobs@Example.ORG", "Bob.O'Hara+jobs@example.org"),
        ("info@münchen.example", "info@xn--mnchen-3ya.example"),
        ("info@MÜNCHEN.example", "info@xn--mnchen-3ya.example"),
        ("info@xn--mnchen-3ya.example", "info@xn--mnchen-3ya.example"),
        ("info@straße.example", "info@xn--strae-oqa.example"),
        ("info@例え.jp", "info@xn--r8jz45g.jp"),
        ("root@localhost", "root@localhost"),
        ("a" * 58 + "@" + ".".join(["b" * 60] * 3) + ".example.org", None),
    ],
)
def test_an_address_is_stored_as_dns_knows_it(address, kept):
    assert CHANNELS["email"].check_address(address) == (kept or address)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "bob",
        "@example.org",
        "bob@",
        "bob@example",
        "a@b.org\r\nBcc: x@y.org",
        "a@b.org\n",
        "a\n@b.org",
        "a@b.org, c@d.org",
        "a@b.org;c@d.org",
        "a@b.org c@d.org",
        "a@b.org,c@d.org",
        "a@b@c.org",
        "Bob <bob@example.org>",
        "<bob@example.org>",
        '"bob"@example.org',
        '"a@b.org,"@example.org',
        "bob(comment)@example.org",
        "bob@[127.0.0.1]",
        "bob@example.org\x00",
        "bob@exa\u2028mple.org",
        "bob@-bad.org",
        "bob@exam_ple.ü.org\u202e",
        "bob@" + "ü" * 80 + ".org",
        "bøb@example.org",
        "bob..b@example.org",
        "bob@example.org\ud800",
        "a" * 64 + "@" + ".".join(["b" * 60] * 3) + ".example.org",
        "x" * 1_000_000 + "@example.org",
        "x@" + "ü" * 1_000_000 + ".org",
    ],
)
def test_an_invalid_address_is_refused_and_nothing_is_sent_to_it(sink, address):
    began = time.monotonic()
    with pytest.raises(Invalid) as refused:
        CHANNELS["email"].check_address(address)
    failed = failure("email", replace(MESSAGE, address=address))

    assert (failed.is_final, str(failed), sink.mails) == (True, str(refused.value), [])
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)
    assert time.monotonic() - began < 2


def test_mail_to_an_international_domain_goes_to_its_dns_name(sink):
    CHANNELS["email"].send(replace(MESSAGE, address="info@straße.example"))

    [mail] = sink.mails
    assert mail.recipients == ["info@xn--strae-oqa.example"] == [mail.message["to"]]


@pytest.mark.parametrize(
    ("command", "answer", "is_final"),
    [
        ("RCPT", "451 greylisted, come back later", False),
        ("RCPT", "550 5.1.1 no such user here", True),
        ("RCPT", "552 mailbox full", True),
        ("RCPT", "421 too busy", False),
        ("MAIL", "451 try again", False),
        ("MAIL", "553 sender not allowed", True),
        ("MAIL", "421 shutting down", False),
        ("DATA", "451 local error", False),
        ("DATA", "554 looks like spam", True),
        ("DATA", "421 shutting down", False),
    ],
)
def test_the_servers_answer_decides_whether_it_is_retried(sink, command, answer, is_final):
    sink.answers[command] = answer

    failed = failure("email", MESSAGE)

    code, words = answer.split(" ", 1)
    assert str(failed) == f"127.0.0.1:{sink.port} answered {code} for bob@example.org: {words}"
    assert (failed.is_final, failed.retry_after, sink.mails) == (is_final, None, [])


def test_a_long_answer_of_a_server_is_quoted_in_one_line(sink):
    sink.answers["RCPT"] = "550-no\r\n550-no \x00and\r\n550 " + "no" * 200

    said = str(failure("email", MESSAGE))

    assert said.endswith("bob@example.org: no no and " + "no" * 95)


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
def test_mail_is_retried_if_the_server_hangs_up(sink, command):
    sink.answers[command] = "hang up"

    failed = failure("email", MESSAGE)

    assert (failed.is_final, sink.mails) == (False, [])
    assert str(failed).startswith(f"127.0.0.1:{sink.port} did not take it for bob@example.org: Connection unexpectedly")


def test_mail_is_retried_if_the_server_is_slow(sink, settings):
    settings.EMAIL_TIMEOUT, sink.seconds = 0.3, 2.0
    began = time.monotonic()

    failed = failure("email", MESSAGE)

    assert time.monotonic() - began < 1.5
    assert (failed.is_final, str(failed)) == (False, f"127.0.0.1:{sink.port} did not answer within 0.3 s")


def test_mail_is_retried_if_the_server_does_not_greet(smtp, settings):
    settings.EMAIL_TIMEOUT = 0.3
    with greeting(b"") as port:
        smtp(port)

        failed = failure("email", MESSAGE)

    assert (failed.is_final, str(failed)) == (False, f"127.0.0.1:{port} did not answer within 0.3 s")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (b"554 no service\r\n", "answered 554 for bob@example.org: no service"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "did not take it for bob@example.org: (-1, "),
    ],
)
def test_mail_is_retried_if_the_server_offers_no_mail_service(smtp, words, said):
    with greeting(words) as port:
        smtp(port)

        failed = failure("email", MESSAGE)

    assert not failed.is_final
    assert f"127.0.0.1:{port} {said}" in str(failed)


def test_mail_is_retried_if_nothing_listens(smtp):
    smtp(port := closed_port())

    failed = failure("email", MESSAGE)

    assert (failed.is_final, str(failed)) == (False, f"127.0.0.1:{port} cannot be reached: Connection refused")


def test_mail_is_retried_if_the_host_has_no_address(smtp, settings):
    smtp(25)
    settings.EMAIL_HOST = "mail.invalid"

    failed = failure("email", MESSAGE)

    assert not failed.is_final
    assert str(failed).startswith("mail.invalid:25 cannot be reached: ")


@pytest.mark.parametrize("kind", ["EMAIL_USE_TLS", "EMAIL_USE_SSL"])
def test_a_server_without_the_required_encryption_gets_nothing(sink, settings, kind):
    setattr(settings, kind, True)

    failed = failure("email", MESSAGE)

    assert (failed.is_final, sink.mails) == (False, [])
    assert str(failed).startswith(f"127.0.0.1:{sink.port} ")


def test_a_refused_login_fails_for_good_and_does_not_show_the_password(sink, smtp):
    smtp(sink.port, "jobs", "hunter2")

    failed = failure("email", MESSAGE)

    assert (failed.is_final, sink.logins[0]) == (True, b"jobs")
    assert str(failed).startswith(f"127.0.0.1:{sink.port} answered 535 for bob@example.org: ")
    assert "hunter2" not in str(failed)


def test_a_login_that_is_refused_temporarily_is_retried(sink, smtp):
    smtp(sink.port, "jobs", "hunter2")
    sink.answers["AUTH"] = "454 4.7.0 temporary authentication failure"

    failed = failure("email", MESSAGE)

    assert not failed.is_final
    assert "answered 454" in str(failed)


def test_with_the_right_password_it_is_sent(sink, smtp):
    smtp(sink.port, "jobs", "correct horse")

    CHANNELS["email"].send(MESSAGE)

    assert len(sink.mails) == 1


@pytest.mark.parametrize("parting", ["hang up", "500 what?", "421 no", "221 " + "bye" * 4_000], ids=len)
def test_accepted_mail_counts_as_sent_however_the_connection_ends(sink, parting):
    sink.answers["QUIT"] = parting

    assert CHANNELS["email"].send(MESSAGE)
    assert len(sink.mails) == 1


def test_a_connection_without_a_host_is_named_by_its_kind(settings, mailoutbox):
    assert CHANNELS["email"].send(MESSAGE) == "the mail connection locmem took it for bob@example.org"


# ---- webhook -----------------------------------------------------------------------------------------------


@pytest.fixture
def receiver(settings):
    """Answers with the items of `answers`, then with 200. It listens on loopback, which is allowed here."""
    settings.JOBSITE_ALLOWED_NETWORKS = (ip_network("127.0.0.0/8"),)
    answers = []

    def answer(request):
        status, body, headers = answers.pop(0) if answers else (200, b"", {})
        request.reply(status, body, **headers)

    with receiving(answer) as started:
        started.answers = answers
        yield started


def to(receiver, **changes):
    return replace(MESSAGE, **({"address": receiver.url("/hook"), "secrets": KEYS[:1]} | changes))


def test_a_webhook_says_what_happened_but_not_to_whom(receiver):
    receiver.answers.append((202, "schön,\r\ndanke\x00".encode(), {}))

    said = CHANNELS["webhook"].send(to(receiver))

    [seen] = receiver.seen
    assert said == f"{receiver.url('/hook')} answered 202: schön, danke"
    assert (seen.command, seen.path, seen.headers["content-type"]) == ("POST", "/hook", "application/json")
    assert json.loads(seen.body) == {
        "type": "job.failed",
        "timestamp": "2026-03-04T04:06:07.089Z",
        "data": {
            "job": {"number": 7, "error": "Maß"},
            "event": "FAILED",
            "subject": MESSAGE.subject,
            "text": MESSAGE.text,
        },
    }


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("SUBMITTED", "job.submitted"),
        ("LATE", "job.late"),
        ("PROGRAM_TERMINATED", "program.terminated"),
        ("SCHEDULE_MISSED", "schedule.missed"),
        ("SCHEDULE_RECOVERED", "schedule.recovered"),
    ],
)
def test_an_event_has_its_type(receiver, event, kind):
    CHANNELS["webhook"].send(to(receiver, event=event))

    assert json.loads(receiver.seen[0].body)["type"] == kind


def test_the_signature_follows_the_standard(receiver):
    CHANNELS["webhook"].send(to(receiver))

    [seen] = receiver.seen
    headers = dict(seen.headers)
    assert headers["webhook-id"] == "msg_delivery-7"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert Webhook(KEYS[0]).verify(seen.body, headers)["type"] == "job.failed"


@pytest.mark.parametrize("change", ["body", "webhook-id", "webhook-timestamp", "key"])
def test_an_altered_request_has_no_valid_signature(receiver, change):
    CHANNELS["webhook"].send(to(receiver))
    [seen] = receiver.seen
    headers = {name.lower(): value for name, value in seen.headers.items()}
    body = seen.body.replace(b"job.failed", b"job.passed") if change == "body" else seen.body
    if change == "webhook-id":
        headers[change] += "8"
    if change == "webhook-timestamp":
        headers[change] = str(int(headers[change]) + 1)

    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(KEYS[1] if change == "key" else KEYS[0]).verify(body, headers)


def test_with_two_secrets_both_sign(receiver):
    CHANNELS["webhook"].send(to(receiver, secrets=KEYS))

    [seen] = receiver.seen
    assert len(seen.headers["webhook-signature"].split(" ")) == 2
    for key in KEYS:
        assert Webhook(key).verify(seen.body, dict(seen.headers))


def test_a_webhook_that_is_sent_again_has_the_same_id(receiver):
    for _ in range(2):
        CHANNELS["webhook"].send(to(receiver))

    assert len({seen.headers["webhook-id"] for seen in receiver.seen}) == 1


def test_without_secrets_it_is_sent_unsigned(receiver):
    CHANNELS["webhook"].send(to(receiver, secrets=()))

    assert "webhook-signature" not in receiver.seen[0].headers
    assert receiver.seen[0].headers["webhook-id"] == "msg_delivery-7"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_abcde", "whsec_ä"])
def test_an_invalid_secret_is_not_used_and_not_shown(receiver, secret):
    failed = failure("webhook", to(receiver, secrets=(KEYS[0], secret)))

    assert (failed.is_final, receiver.seen) == (True, [])
    assert str(failed) == "a secret of this webhook is not base64, as whsec_… is; replace it"


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(400, True), (401, True), (404, True), (408, False), (413, True), (425, False), (429, False), (500, False),
     (502, False), (503, False), (599, False)],
)  # fmt: skip
def test_the_receivers_answer_decides_whether_it_is_retried(receiver, status, is_final):
    receiver.answers.append((status, b"no\nthanks", {}))

    failed = failure("webhook", to(receiver))

    assert str(failed) == f"{receiver.url('/hook')} answered {status}: no thanks"
    assert (failed.is_final, failed.retry_after) == (is_final, None)


def test_a_receiver_that_answers_410_gets_no_more(receiver):
    receiver.answers.append((410, b"", {"Retry_After": "5"}))

    failed = failure("webhook", to(receiver))

    assert (failed.is_final, failed.retry_after) == (True, None)
    assert str(failed) == f"{receiver.url('/hook')} answered 410: the receiver wants no more of these"


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("120", 120, 120),
        ("0", 0, 0),
        ("86401", DAY, DAY),
        ("9" * 400, DAY, DAY),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True), 80, 90),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(days=9), usegmt=True), DAY, DAY),
        ("Mon, 05 Jan 1998 00:00:00 GMT", 0, 0),
        ("Mon, 05 Jan 99999 00:00:00 GMT", None, None),
        ("soon", None, None),
        ("-5", None, None),
        ("", None, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_may_ask_for_a_delay(receiver, status, header, low, high):
    receiver.answers.append((status, b"", {"Retry_After": header() if callable(header) else header}))

    wait = failure("webhook", to(receiver)).retry_after

    assert wait is None if low is None else low <= wait <= high


def test_only_the_beginning_of_an_answer_is_read(receiver):
    def begin_and_stall(request):
        request.send_response(200)
        request.send_header("Content-Length", str(10**9))
        request.end_headers()
        request.wfile.write(b"x" * 20_000)
        time.sleep(5)

    receiver.answer = begin_and_stall
    began = time.monotonic()

    said = CHANNELS["webhook"].send(to(receiver))

    assert said == f"{receiver.url('/hook')} answered 200: " + "x" * 200
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("way", ["drip", "drip_headers"])
def test_a_webhook_to_a_slow_receiver_ends_in_time_and_is_retried(receiver, monkeypatch, way):
    monkeypatch.setattr("jobsite.notifications.channels.webhook.SECONDS", 0.4)
    receiver.answer = lambda request: getattr(request, way)()
    began = time.monotonic()

    failed = failure("webhook", to(receiver))

    assert time.monotonic() - began < 3
    assert (failed.is_final, str(failed)) == (False, f"{receiver.url('/hook')}: no answer within 0.4 s")


def test_a_webhook_is_retried_if_the_receiver_hangs_up(receiver):
    receiver.answer = lambda request: request.hang_up()

    failed = failure("webhook", to(receiver))

    assert not failed.is_final
    assert str(failed).startswith(f"{receiver.url('/hook')}: ")


def test_a_webhook_is_retried_if_nothing_listens(receiver):
    url = f"http://127.0.0.1:{closed_port()}/"

    failed = failure("webhook", to(receiver, address=url))

    assert not failed.is_final
    assert "Connection refused" in str(failed)


def test_nothing_is_sent_to_a_private_address(receiver, settings):
    settings.JOBSITE_ALLOWED_NETWORKS = ()

    failed = failure("webhook", to(receiver))

    assert (failed.is_final, receiver.seen) == (True, [])
    assert str(failed).startswith("127.0.0.1 is a loopback address, where nothing is sent")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("there", ["http://127.0.0.2:{port}/x", "http://169.254.169.254/latest/meta-data/", "/x"])
def test_a_webhook_follows_no_redirect(receiver, status, there):
    receiver.answers.append((status, b"", {"Location": there.format(port=receiver.port)}))

    failed = failure("webhook", to(receiver))

    assert (failed.is_final, len(receiver.seen)) == (True, 1)
    assert "webhooks follow no redirects" in str(failed)


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        (" https://Example.ORG/Hook?a=ä#part ", "https://example.org/Hook?a=%C3%A4"),
        ("https://example.org:443", "https://example.org"),
        ("https://straße.example/x", "https://xn--strae-oqa.example/x"),
        ("http://example.org:8080/", "http://example.org:8080/"),
    ],
)
def test_a_url_is_stored_as_it_is_requested(address, kept):
    assert CHANNELS["webhook"].check_address(address) == kept


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("", "only http:// and https:// are allowed"),
        ("example.org/hook", "only http:// and https:// are allowed"),
        ("ftp://example.org/", "not ftp"),
        ("file:///etc/passwd", "not file"),
        ("https://", "has no valid host"),
        ("https://bob:hunter2@example.org/", "carries a user name or password"),
        ("https://example.org:25/", "port 25 belongs to another service"),
        ("https://example.org/\r\nX: y", "is not a URL"),
    ],
)
def test_an_unusable_url_is_refused(address, why):
    with pytest.raises(Invalid, match=why) as refused:
        CHANNELS["webhook"].check_address(address)

    assert "hunter2" not in str(refused.value)


# ---- inbox, and all of them --------------------------------------------------------------------------------


def test_the_inbox_needs_a_user():
    assert CHANNELS["inbox"].send(replace(MESSAGE, address="", user_id=7)) == "in the inbox"
    assert failure("inbox", replace(MESSAGE, address="")).is_final


def test_the_inbox_has_no_address():
    assert CHANNELS["inbox"].check_address(" ") == ""
    with pytest.raises(Invalid, match="takes no address"):
        CHANNELS["inbox"].check_address("bob@example.org")


def test_a_channel_is_imported_when_it_is_used():
    heavy = "{'jobsite.notifications.channels.email', 'jobsite.notifications.channels.webhook', 'httpx2', 'django'}"
    code = f"import sys, jobsite.notifications.channels as c; print(list(c.CHANNELS), {heavy} & set(sys.modules))"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said == "['email', 'webhook', 'inbox'] set()\n"


def test_one_line_removes_line_breaks_and_control_characters():
    assert one_line("  a\r\n\tb\x00c \u2028 d  ") == "a b c d"
    assert one_line("abc def", limit=4) == "abc"
