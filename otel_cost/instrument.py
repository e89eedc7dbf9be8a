"""Zero-code set-up: the processor on a provider, instrumentors for the installed libraries, a root span.

`install` is for programs that set OpenTelemetry up themselves. `pre_instrument` is the entry point that
`opentelemetry-instrument` calls after it made a provider and before it loads instrumentors; `otel-cost run`
leads there too.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import wrapt
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from otel_cost import instrumentors
from otel_cost.budgets import NO_LIMIT_ADVICE, Policy
from otel_cost.config import FALSE, TRUE, Config, setting
from otel_cost.containment import contained
from otel_cost.errors import ConfigError
from otel_cost.exporter import DEFAULT_ENDPOINT, ResilientExporter, guard_default_exporters
from otel_cost.guard import children, clients
from otel_cost.policy_report import unknown_variables
from otel_cost.policy_values import Problems
from otel_cost.pricing import process_book
from otel_cost.process import Ending, Root, is_server, is_worker, join_parent, script_name, start_root
from otel_cost.sampling import meter_dropped_spans

if TYPE_CHECKING:
    from otel_cost.processor import CostSpanProcessor

logger = logging.getLogger("otel_cost")

EXPORTER_NAME = "otel_cost"
"""Name of `ResilientExporter` in OTEL_TRACES_EXPORTER."""
BAD_SETTINGS = 2
"""Exit status of a program that was not started; as for bad input on the command line."""
NOT_STARTED = "otel-cost: {program} was not started, because its limits and settings cannot be used:\n{error}"

_install_lock = threading.RLock()
_waiting: list[CostSpanProcessor] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentConfig(Config):
    """The processor's settings and those of zero-code set-up."""

    instrumentors: tuple[str, ...] = setting(
        "OTEL_COST_INSTRUMENTORS",
        ("official", "openinference", "openllmetry"),
        "Which project's instrumentor to prefer, and `library=project` to fix one "
        "(`openai=openllmetry`, `anthropic=official`, `groq=none`).",
    )
    root_span: bool = setting(
        "OTEL_COST_ROOT_SPAN", True, "Put a span around a script, so that its model calls are one execution."
    )
    flush_timeout_s: int = setting(
        "OTEL_COST_FLUSH_TIMEOUT_S", 5, "How long the end of the process may wait for spans to be sent, in s."
    )
    strict: bool = setting(
        "OTEL_COST_STRICT", False, "Fail at start when zero-code set-up fails, instead of running unmeasured."
    )


def install(
    tracer_provider: trace.TracerProvider | None = None, *, config: Config | None = None
) -> CostSpanProcessor:
    """Put the cost processor on a provider, once, ahead of its exporters, and guard the limits that are set.

    Model calls that the provider's sampler drops are metered too; they are still not exported.

    Args:
        tracer_provider: Default: the global one. Where none is set yet, the next one to be set.
        config: Default: the `OTEL_COST_*` variables.

    Returns:
        The processor, the same one when called again for the same provider.

    Raises:
        ConfigError: A setting cannot be used.
    """
    policy = Policy.load()
    if policy.is_limited or children.is_child():
        clients.ensure(policy)
    given = tracer_provider or trace.get_tracer_provider()
    provider = _sdk_provider(given)
    with _install_lock:
        if provider is None:
            _warn_of_other_kinds(given)
            return _install_on_next_provider(config)
        present = _present_processor(provider)
        if present is None:
            present = _new_processor(config)
            _put_first(provider, present)
        with contained("wrap the sampler"):
            meter_dropped_spans(provider)
        if _drops_suppressed(provider):
            present.leaves_alone = _is_suppressed
        return present


def _new_processor(config: Config | None) -> CostSpanProcessor:
    from otel_cost.processor import CostSpanProcessor

    return CostSpanProcessor(config)


def _sdk_provider(provider: object) -> TracerProvider | None:
    """Return the SDK's provider, also from inside a wrapper such as Logfire's; None when there is none."""
    for _ in range(4):
        if isinstance(provider, TracerProvider):
            return provider
        provider = getattr(provider, "provider", None) or getattr(provider, "_tracer_provider", None)
    return None


def _warn_of_other_kinds(provider: object) -> None:
    """Say so when the provider is another vendor's: it takes no span processors, so nothing can be priced."""
    if not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
        kind = f"{type(provider).__module__}.{type(provider).__qualname__}"
        logger.warning("%s is not OpenTelemetry's TracerProvider; its spans are not priced here", kind)


def _processors(provider: TracerProvider) -> list[SpanProcessor]:
    """Return a provider's processors, those inside groups and wrappers included."""
    found: list[SpanProcessor] = []
    queue: list[Any] = [provider._active_span_processor]
    while queue and len(found) < 1000:
        processor = queue.pop(0)
        found.append(processor)
        queue += getattr(processor, "_span_processors", ())
        inner = getattr(processor, "processor", None)
        queue += [inner] if isinstance(inner, SpanProcessor) else []
    return found


def _present_processor(provider: TracerProvider) -> CostSpanProcessor | None:
    from otel_cost.processor import CostSpanProcessor

    return next((found for found in _processors(provider) if isinstance(found, CostSpanProcessor)), None)


def _drops_suppressed(provider: TracerProvider) -> bool:
    """Return whether the provider's exporters never see spans that start inside `suppress_instrumentation`.

    Logfire's do not. It calls the Anthropic SDK that way, whose own spans would otherwise win over Logfire's
    and then not be there.
    """
    names = {type(processor).__name__ for processor in _processors(provider)}
    return "CheckSuppressInstrumentationProcessorWrapper" in names


def _is_suppressed() -> bool:
    return not is_instrumentation_enabled()


def _put_first(provider: TracerProvider, processor: SpanProcessor) -> None:
    """Add a processor ahead of the others, or behind them where the SDK's group has another shape."""
    group: Any = provider._active_span_processor
    lock, members = getattr(group, "_lock", None), getattr(group, "_span_processors", None)
    if lock is None or not isinstance(members, tuple):
        provider.add_span_processor(processor)
        return
    with lock:
        group._span_processors = (processor, *group._span_processors)


def _install_on_next_provider(config: Config | None) -> CostSpanProcessor:
    """Have the processor put on the provider that the program is going to set."""
    if _waiting:
        return _waiting[0]
    processor = _new_processor(config)
    _waiting.append(processor)
    _watch_for_provider(config)
    return processor


def _watch_for_provider(config: Config | None) -> None:
    def set_provider(
        wrapped: Callable[..., Any], instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = wrapped(*args, **kwargs)
        with contained("install the processor"), _install_lock:
            provider = _sdk_provider(trace.get_tracer_provider())
            if _waiting and provider is not None:
                _put_first(provider, _waiting.pop())
                install(provider, config=config)
        return result

    wrapt.wrap_function_wrapper(trace, "_set_tracer_provider", set_provider)


def environment(environ: MutableMapping[str, str]) -> MutableMapping[str, str]:
    """Add to an environment what makes a Python program in it instrument itself.

    Spans go where the standard variables say, and to the port of `otel-cost up` where they say nothing.
    What is set already stays as it is.
    """
    from opentelemetry.instrumentation import auto_instrumentation

    hook = str(Path(auto_instrumentation.__file__).parent)
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != hook]
    environ["PYTHONPATH"] = os.pathsep.join([hook, *paths])
    defaults = {
        "OTEL_TRACES_EXPORTER": EXPORTER_NAME,
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    if not any(name.startswith("OTEL_EXPORTER_OTLP_") and name.endswith("ENDPOINT") for name in environ):
        defaults["OTEL_EXPORTER_OTLP_ENDPOINT"] = DEFAULT_ENDPOINT
    for name, text in defaults.items():
        environ.setdefault(name, text)
    return environ


def check(environ: Mapping[str, str]) -> None:
    """Make sure that a program in an environment can be guarded and measured as it is asked for.

    Raises:
        ConfigError: With every mistake in the policy, its price files and the settings.
    """
    if _is_disabled(environ):
        return
    problems = Problems()
    with problems.gathered():
        process_book(Policy.load(environ=environ).prices)
    with problems.gathered():
        config = cast("InstrumentConfig", InstrumentConfig.load(environ))
        instrumentors.parse_order(config.instrumentors)
    problems.tell()


def pre_instrument() -> None:
    """Set everything up for this process. Called by `opentelemetry-instrument` through an entry point.

    A policy that cannot be used ends the process, which has not begun to spend by then: without limits that
    somebody believes in it must not run. Whatever else fails is logged, and the program goes on unmeasured,
    unless OTEL_COST_STRICT is set.
    """
    if _is_disabled(os.environ):
        return
    try:
        _guard()
    except ConfigError as error:
        _refuse_to_start(error)
    except Exception as error:
        _give_up("guards nothing", error)
    try:
        _start(cast("InstrumentConfig", InstrumentConfig.load()))
    except Exception as error:
        _give_up("measures nothing", error)


def _is_disabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_COST_ENABLED", "true").strip().lower() in FALSE


def _give_up(what: str, error: Exception) -> None:
    logger.error("otel_cost %s: %s", what, error)
    if os.environ.get("OTEL_COST_STRICT", "").strip().lower() in TRUE:
        _refuse_to_start(error)


def _refuse_to_start(error: Exception) -> None:
    """End the process before its program begins."""
    sys.stderr.write(NOT_STARTED.format(program=script_name() or "the program", error=error) + "\n")
    sys.stderr.flush()
    if _is_before_program():
        # Python calls any exception here, SystemExit too, a fatal error of its own, with its own traceback.
        os._exit(BAD_SETTINGS)
    raise SystemExit(BAD_SETTINGS)


def _is_before_program() -> bool:
    """Return whether the interpreter is still starting, as when `sitecustomize` sets everything up."""
    return bool(getattr(getattr(sys.modules.get("site"), "__spec__", None), "_initializing", False))


def _start(config: InstrumentConfig) -> None:
    _take_over_loading()
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return
    disabled = [
        name.strip() for name in os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    ]
    choices = instrumentors.plan(config.instrumentors, disabled=disabled)
    provider = _provider()
    install(provider, config=config)
    with contained("guard the default exporters"):
        guard_default_exporters(provider)
    root = _root() if config.root_span else None
    Ending(provider, root, timeout_s=config.flush_timeout_s).watch()
    instrumentors.enable(choices)
    watched = ", ".join(f"{choice.library.name} ({choice.family})" for choice in choices if choice.family)
    logger.info("otel_cost watches %s", watched or "no library")


def _guard() -> None:
    """Guard this process's model calls, and watch them for waste. It holds without any instrumentation."""
    policy = Policy.load()
    clients.ensure(policy)
    for note in unknown_variables(os.environ):
        logger.warning("%s", note)
    if not policy.is_limited:
        logger.info("%s", NO_LIMIT_ADVICE)


def _root() -> Root | None:
    """Start this process's root span, where it is a script of its own."""
    name = script_name()
    if is_worker():
        join_parent()
        return None
    return start_root(name) if name and not is_server(name) else None


def _provider() -> TracerProvider:
    """Return the global provider; make one where no distribution did."""
    provider = _sdk_provider(trace.get_tracer_provider())
    if provider is None:
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(ResilientExporter()))
        trace.set_tracer_provider(provider)
    return provider


def _take_over_loading() -> None:
    """Keep `opentelemetry-instrument` from loading the instrumentors that are enabled here.

    It would import them all at once, and enable several for one library.
    """
    from opentelemetry.instrumentation.auto_instrumentation import _load

    def entry_points(
        wrapped: Callable[..., Any], instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        found = wrapped(*args, **kwargs)
        if kwargs.get("group") != instrumentors.GROUP:
            return found
        owned = instrumentors.owned_entry_points(found)
        done = {"threading"} if clients.is_on() else set()
        return [each for each in found if each not in owned and each.name not in done]

    with contained("take over the loading of instrumentors"):
        wrapt.wrap_function_wrapper(_load, "entry_points", entry_points)
