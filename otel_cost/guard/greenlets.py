"""Greenlets of gevent and eventlet: each spends the budget of whoever spawns it, as threads do.

A bare `greenlet.greenlet`, and what `gevent.spawn_raw` makes, begins with an empty context.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import cache
from typing import Any

import wrapt

from otel_cost.containment import contained


@cache
def follow() -> None:
    """Give every greenlet that is spawned from now on the context of where that is done. Once is enough."""
    wrapt.register_post_import_hook(_hook_gevent, "gevent.greenlet")
    wrapt.register_post_import_hook(_hook_eventlet, "eventlet.greenthread")


def _hook_gevent(module: Any) -> None:
    with contained("follow greenlets of gevent"):
        module.Greenlet.add_spawn_callback(_take_context)  # a compiled class, which cannot be wrapped


def _hook_eventlet(module: Any) -> None:
    def make(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = wrapped(*args, **kwargs)
        _take_context(instance)
        return result

    def spawn_n(
        wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        timer, greenlet = wrapped(*args, **kwargs)
        _take_context(greenlet)
        return timer, greenlet

    with contained("follow greenlets of eventlet"):
        wrapt.wrap_function_wrapper(module, "GreenThread.__init__", make)
        wrapt.wrap_function_wrapper(module, "_spawn_n", spawn_n)


def _take_context(greenlet: Any) -> None:
    with contained("carry the execution into a greenlet"):
        greenlet.gr_context = copy_context()
