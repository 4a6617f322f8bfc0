"""Logging: structlog over standard logging; key=value on a terminal, JSON lines elsewhere."""

import logging
import os
import sys

import structlog

FORMAT_VARIABLE = "JOBSITE_LOG_FORMAT"  # `lines`: for people; otherwise JSON where stderr is no terminal


# At INFO and DEBUG these loggers repeat what we log ourselves, or log details that nobody needs.
TALKATIVE = ("celery.app.trace", "celery.worker.strategy", "httpx2", "httpcore2")


def logging_configuration() -> dict[str, object]:
    """The dictConfig of every jobsite process: each event is one line on stderr, with the time in UTC."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "events": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*shared, structlog.stdlib.PositionalArgumentsFormatter()],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering()],
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "events"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
        "loggers": {name: {"level": "WARNING"} for name in TALKATIVE},
    }


def configure() -> None:
    """Send the events of structlog to standard logging. Called once during Django's set-up."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _rendering() -> list[structlog.typing.Processor]:
    if sys.stderr.isatty() or os.environ.get(FORMAT_VARIABLE) == "lines":
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module. Events are verbs with key=value, never formatted sentences."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def quiet() -> None:
    """Log only warnings and worse: for commands whose output a person reads."""
    logging.getLogger().setLevel(logging.WARNING)
