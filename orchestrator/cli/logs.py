"""Logs: structlog to stderr, with the transaction and the step as context.

What is logged is names, durations and outcomes; never parameters, payloads or environments.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger


def set_up_logs(level: str, form: str) -> None:
    """Remember how to log; structlog itself is imported when the first line is written.

    Args:
        level: debug, info, warning or error.
        form: text or json.
    """
    _Setting.level = getattr(logging, level.upper())
    _Setting.form = form
    _Setting.configured = False


def wants_many_lines() -> bool:
    """Logs at info or below: they would tear a live display apart."""
    return wants(logging.INFO)


def wants(level: int) -> bool:
    """Whether a line of this level would be written: structlog takes as long to import as
    pydantic, and is not imported for nothing."""
    return _Setting.level <= level


class _Setting:
    level = logging.WARNING
    form = "text"
    configured = False


def logger() -> FilteringBoundLogger:
    """The logger of this program; bind context with `structlog.contextvars`."""
    import structlog

    if not _Setting.configured:
        structlog.configure(
            processors=_processors(),
            wrapper_class=structlog.make_filtering_bound_logger(_Setting.level),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=False,
        )
        _Setting.configured = True
    log: FilteringBoundLogger = structlog.get_logger("mkupgrade")
    return log


def _processors() -> list[Any]:
    import structlog

    first = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if _Setting.form == "json":
        return [
            *first,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(),
        ]
    from orchestrator.cli.terminal import wants_colour

    renderer = structlog.dev.ConsoleRenderer(
        colors=wants_colour(sys.stderr), exception_formatter=structlog.dev.plain_traceback
    )
    return [*first, structlog.processors.format_exc_info, _clean_values, renderer]


def _clean_values(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    from orchestrator.cli.terminal import clean, clean_block

    trace = event.pop("exception", None)
    event = {k: clean(v) if isinstance(v, str) else v for k, v in event.items()}
    return event | {"exception": clean_block(trace)} if trace else event
