"""Django's and Celery's settings, derived from the environment (jobsite/env.py). The import starts nothing."""

import os
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from jobsite import embedded, env
from jobsite.logs import logging_configuration

ENVIRONMENT = env.load(os.environ)
BASE_DIR = Path(__file__).resolve().parent.parent

_servers = embedded.servers(ENVIRONMENT.home)
_keys = embedded.keys(ENVIRONMENT.home) if ENVIRONMENT.is_embedded else None

# ---- Django ---------------------------------------------------------------------------------------------

DEBUG = ENVIRONMENT.debug
SECRET_KEY = ENVIRONMENT.secret_key or (_keys.django_secret_key if _keys else "")
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts) or ["localhost", "127.0.0.1", "[::1]"]
CSRF_TRUSTED_ORIGINS = list(ENVIRONMENT.csrf_trusted_origins)

INSTALLED_APPS = [
    "jobsite",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "django_celery_results",
    "jobsite.tenants",
    "jobsite.notifications",
    "jobsite.programs",
    "jobsite.cli",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "jobsite.urls"
ASGI_APPLICATION = "jobsite.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]


DATABASE_OPTIONS: dict[str, object] = {
    "application_name": "jobsite",
    # A submission must fail within five seconds when the database is down.
    "connect_timeout": 4,
    # A server whose machine or network is gone does not answer. With these settings a client notices it after twenty
    # seconds, half the length of a lock, instead of a quarter of an hour. They have no effect on Unix sockets.
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def _database(url: str, variable: str) -> dict[str, object]:
    try:
        parts = conninfo_to_dict(url)
    except ProgrammingError as error:
        raise env.ConfigurationError(f"{variable} is not a valid PostgreSQL URL: {error}") from error
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.pop("dbname", ""),
        "USER": parts.pop("user", ""),
        "PASSWORD": parts.pop("password", ""),
        "HOST": parts.pop("host", ""),
        "PORT": str(parts.pop("port", "")),
        "OPTIONS": DATABASE_OPTIONS | parts,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASES = {"default": _database(ENVIRONMENT.database_url or _servers.database_url, "DATABASE_URL")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True

STATIC_URL = "static/"
STATIC_ROOT = None if ENVIRONMENT.is_embedded else BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True  # serve the admin's files without a collectstatic run
LOGIN_URL = "admin:login"

SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = not ENVIRONMENT.is_embedded
SECURE_SSL_REDIRECT = not ENVIRONMENT.is_embedded
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_HSTS_SECONDS = 0 if ENVIRONMENT.is_embedded else int(timedelta(days=365).total_seconds())
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = not ENVIRONMENT.is_embedded
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}

LOGGING = logging_configuration()


def _email(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    if parts.scheme == "console":
        return {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}
    return {
        "EMAIL_HOST": parts.hostname or "localhost",
        "EMAIL_PORT": parts.port or {"smtp": 25, "smtp+tls": 587, "smtps": 465}[parts.scheme],
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
        "EMAIL_TIMEOUT": 10,
    }


DEFAULT_FROM_EMAIL = ENVIRONMENT.email_from or "jobsite@localhost"
globals().update(_email(ENVIRONMENT.email_url or "console://"))

# ---- jobsite --------------------------------------------------------------------------------------------

JOBSITE_HOME = ENVIRONMENT.home
JOBSITE_EMBEDDED_DATABASE = ENVIRONMENT.is_embedded
JOBSITE_EMBEDDED_BROKER = ENVIRONMENT.broker_url is None and len(ENVIRONMENT.queue_broker_urls) < len(
    ENVIRONMENT.queues
)
JOBSITE_QUEUES = ENVIRONMENT.queues
JOBSITE_BROKER_URLS = {
    queue: ENVIRONMENT.queue_broker_urls.get(queue) or ENVIRONMENT.broker_url or _servers.broker_url
    for queue in ENVIRONMENT.queues
}
JOBSITE_LOCK_SECONDS = ENVIRONMENT.lock_seconds
JOBSITE_RENEW_SECONDS = ENVIRONMENT.renew_seconds
JOBSITE_SWEEP_SECONDS = ENVIRONMENT.sweep_seconds
JOBSITE_SECRET_KEYS = ENVIRONMENT.secret_keys or (_keys.secret_keys if _keys else ())
JOBSITE_ACTIONS = ENVIRONMENT.actions
JOBSITE_ALLOWED_NETWORKS = ENVIRONMENT.allowed_networks
JOBSITE_TENANT = ENVIRONMENT.tenant
JOBSITE_MAX_DATABASE_BYTES = ENVIRONMENT.max_database_bytes
SYSTEM_JOBS_ALERT_EMAIL = ENVIRONMENT.alert_email
JOBSITE_TENANT_SETUP: list[str] = ["jobsite.notifications.setup.begin"]  # called with each new tenant
JOBSITE_NOTIFICATION_FACTS = "jobsite.programs.inspection.facts.facts"  # the facts that messages are made from
JOBSITE_NOTIFICATION_SUBJECT = "jobsite.programs.inspection.facts.subject"  # where the admin shows their subject

# ---- Celery (the reasons: programs/README.md, "Settings of Celery") -------------------------------------

CELERY_BROKER_URL = ENVIRONMENT.broker_url or JOBSITE_BROKER_URLS[JOBSITE_QUEUES[0]]
# Each installation has its own prefix, the database's name, so that two can share a Redis.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": f"jobsite:{DATABASES['default']['NAME']}:",
    "visibility_timeout": 3600,
    # kombu drops a half-open connection after once or twice this time. Its BRPOP lasts one second.
    "socket_timeout": 5,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
    "health_check_interval": 10,
}
CELERY_BROKER_CONNECTION_TIMEOUT = 4
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_RESULT_BACKEND = "django-db"
CELERY_TASK_DEFAULT_QUEUE = JOBSITE_QUEUES[0]
CELERY_TASK_CREATE_MISSING_QUEUES = True
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_DISABLE_PREFETCH = True
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 25.0
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BEAT_SCHEDULER = "jobsite.programs.worker.beat:Scheduler"
CELERY_TIMEZONE = TIME_ZONE
