"""Makes the reference pages from the code: `python -m tests.docs.generate` (or `make docs`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from typing import Any

import typer

from otel_cost import attributes as names
from otel_cost.attribution import Payer
from otel_cost.budgets import SECTIONS
from otel_cost.cli.main import MODULES, app
from otel_cost.emitters import QUIRKS
from otel_cost.instrument import InstrumentConfig
from otel_cost.usage import Usage
from tests.data import ROOT

MADE = "<!-- Made by `make docs` from the code; edits are overwritten. -->"

WRITTEN = {
    "otel_cost.cost_usd": "what this span cost, USD, exact decimal text; absent when unpriced",
    "otel_cost.list_cost_usd": "the same before a customer's discount, where the two differ",
    "otel_cost.price.status": "`provided`, `priced`, `estimated` or `unpriced`",
    "otel_cost.price.reason": "why the amount is an estimate or missing",
    "otel_cost.price.model": "the price entry that was used",
    "otel_cost.price.source": "where its rates are published",
    "otel_cost.price.version": "which price book",
    "otel_cost.counted": "whether this span adds to totals",
    "otel_cost.not_counted_reason": "why it does not",
    "otel_cost.usage.marks": "what had to be corrected in, or is missing from, the reported usage",
    "otel_cost.usage.source": "by the guard: `partial` where an answer broke off; its usage is an estimate",
    "otel_cost.refused": "by the guard: a model call that was not sent, because a limit was reached",
    "otel_cost.downgraded_from": "by the guard: the model that the application asked for",
    "otel_cost.downgraded_to": "by the guard: the cheaper model that was asked instead",
    "otel_cost.clamped_output_tokens": "by the guard: the output limit it set, over all answers of the call",
    "otel_cost.decision": "not an attribute: the span that holds an event of the guard where no other can",
    "otel_cost.kind": "on events of the guard: the limit, detector or fault behind the decision",
    "otel_cost.mode": "on events of the guard: `enforce`, `warn` or `shadow`",
    "otel_cost.scope": "on events of the guard: whose budget it is",
    "otel_cost.reason": "on events of the guard: why, as a sentence",
    "otel_cost.model": "on events of the guard: the model that was asked for",
    "otel_cost.top_components": "on events of the guard: what had spent most, and how much",
    "otel_cost.limit_usd": "on events of the guard: the budget, exact decimal text; absent without one",
    "otel_cost.spent_usd": "on events of the guard: what was spent of it",
    "otel_cost.reserved_usd": "on events of the guard: what calls in flight held of it",
    "otel_cost.asked_usd": "on events of the guard: what the call could cost",
    "otel_cost.truncated_attributes": "by the receiver: which attributes' values were cut",
    "gen_ai.usage.cost.amount": "what this span adds to totals, USD; only on counted spans",
    "gen_ai.usage.cost.currency": "`USD`",
    "gen_ai.usage.cost.source": "`provider` or `local`",
    "gen_ai.usage.cost": "as `.amount`, for today's backends; switch: `OTEL_COST_EMIT_COST`",
    "otel_cost.execution.id": "the agent run; by default the trace id",
    "otel_cost.execution.cost_usd": "on the outermost span: what the run has cost, exact decimal text",
    "otel_cost.execution.model_calls": "on the outermost span",
    "otel_cost.execution.tool_calls": "on the outermost span",
    "otel_cost.execution.unpriced_calls": "on the outermost span: model calls whose cost is not known",
    "otel_cost.execution.input_tokens": "on the outermost span, cached included",
    "otel_cost.execution.output_tokens": "on the outermost span, reasoning included",
}

OTHER_VARIABLES = {
    "OTEL_COST_STORE": (
        "`chdb://` and the user's data directory",
        "Where spans are kept: `chdb:///path` (embedded) or `clickhouse://user:pw@host:port/db`.",
    ),
    "OTEL_COST_POLICY": (
        "`otel-cost.yaml` in the working directory, where there is one",
        "The policy file; see [budgets](budgets.md).",
    ),
    "OTEL_COST_TOKEN": ("none", "What senders and readers must show `otel-cost up`; needed off loopback."),
}

CARRIED = {
    "OTEL_COST_LEDGER": "File of the ledger that processes share; with `guard.ledger: shared` the one to "
    "use. Its directory has mode 0700.",
    "OTEL_COST_INHERITED": "The execution a process was started in: its id, scope, depth and payer.",
    "TRACEPARENT, TRACESTATE, BAGGAGE": "The trace, and the baggage that goes with requests, as "
    "OpenTelemetry carries them in environments.",
}
"""Variables that an execution gives to the programs it starts."""


def settings() -> str:
    """Return docs/settings.md."""
    rows = [
        (item.metadata["variable"], _default(item.default), item.metadata["help"])
        for item in fields(InstrumentConfig)
    ]
    rows += [(name, default, text) for name, (default, text) in OTHER_VARIABLES.items()]
    payer = [
        (f"OTEL_COST_{name.upper()}", f"`{name}` of every call of the process") for name in Payer._fields
    ]
    return "\n".join(
        [
            "# Settings",
            MADE,
            "",
            "An argument beats the variable, which beats the default. The standard `OTEL_*` variables keep",
            "their meaning. A value that cannot be used is named at start, all of them together.",
            "",
            *_table(("variable", "default", "meaning"), [(f"`{row[0]}`", *row[1:]) for row in rows]),
            "",
            "## Budgets",
            "",
            "Each can also be written in the policy file, and passed as an argument; [budgets](budgets.md)",
            "shows the file. `off` lifts a limit that the file sets.",
            "",
            *_table(("variable", "in the file", "default", "meaning"), _policy_settings()),
            "",
            "## Who pays, for a whole process",
            "",
            "Used where neither span nor enclosing `otel_cost.execution(...)` nor resource says.",
            "",
            *_table(("variable", "meaning"), [(f"`{name}`", text) for name, text in payer]),
            "",
            "## Between processes",
            "",
            "An execution gives these to the programs it starts. `OTEL_COST_LEDGER` can be set, too.",
            "",
            *_table(("variable", "meaning"), [(f"`{name}`", text) for name, text in CARRIED.items()]),
            "",
        ]
    )


def _policy_settings() -> Iterator[tuple[str, str, str, str]]:
    for section, kind in SECTIONS.items():
        for item in fields(kind):
            if variable := item.metadata["variable"]:
                default = _default("" if item.default in (MISSING, None) else item.default)
                yield f"`{variable}`", f"`{section}.{item.name}`", default, item.metadata["help"]


def _default(value: Any) -> str:
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "none"
    return f"`{value}`" if value != "" else "none"


def command_line() -> str:
    """Return docs/cli.md."""
    lines = ["# Command line", MADE, "", "Exit codes: 0 done, 1 failed, 2 bad input.", ""]
    group: Any = typer.main.get_command(app)
    for name in MODULES:
        lines += _command(f"otel-cost {name}", group.get_command(None, name))
    return "\n".join(lines)


def _command(title: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for name, sub in command.commands.items():
            yield from _command(f"{title} {name}", sub)
        return
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    yield f"## `{' '.join([title, *(_shown(param) for param in arguments)])}`"
    yield ""
    yield from (line.strip() for line in (command.help or "").split("\n\n\f")[0].splitlines())
    yield ""
    options = [param for param in command.params if param.param_type_name == "option"]
    rows = [(f"`{'`, `'.join(param.opts)}`", _option_help(param)) for param in options if not param.hidden]
    if rows:
        yield from _table(("option", "meaning"), rows)
        yield ""


def _shown(param: Any) -> str:
    name = param.name.upper() + ("..." if param.nargs != 1 else "")
    return name if param.required else f"[{name}]"


def _option_help(param: Any) -> str:
    text = (param.help or "").strip().replace("|", "\\|")
    default = param.default
    if default in (None, False, "", ()) or callable(default) or "default" in text.lower():
        return text
    return f"{text} Default: {default}."


def conventions() -> str:
    """Return docs/attributes.md."""
    lines = ["# Attributes read and written", MADE, "", "The first name present is taken.", ""]
    lines += ["## Usage", "", *_table(("amount", "names"), _named(names.USAGE_NAMES)), ""]
    documents = (
        names.USAGE_RAW,
        names.INPUT_TOKEN_DETAILS,
        names.OUTPUT_TOKEN_DETAILS,
        names.LANGFUSE_USAGE_DETAILS,
        names.PROVIDER_METADATA,
    )
    lines += [f"Also inside the JSON of {', '.join(f'`{name}`' for name in documents)}.", ""]
    lines += ["Buckets, which never overlap: " + ", ".join(f"`{name}`" for name in Usage._fields) + ".", ""]
    lines += ["## Reported cost", "", ", ".join(f"`{name}`" for name in names.REPORTED_COST), ""]
    what = {
        "response model": names.RESPONSE_MODEL,
        "request model": names.REQUEST_MODEL,
        "provider": names.PROVIDER,
        "response id": names.RESPONSE_ID,
        "service tier": names.SERVICE_TIER,
        "place of the inference": (names.INFERENCE_GEO,),
        "server": (names.SERVER_ADDRESS, names.API_BASE),
        "port of the server": (names.SERVER_PORT,),
        "tool": names.TOOL_NAME,
        "tool call id": names.TOOL_CALL_ID,
    }
    lines += ["## Call", "", *_table(("fact", "names"), _named(what)), ""]
    lines += ["## Payer", "", *_table(("field", "names"), _named(names.PAYER_NAMES)), ""]
    quirks = [
        (
            f"`{quirk.scope}`",
            "every version" if quirk.below is None else "below " + ".".join(map(str, quirk.below)),
            "streams" if quirk.streams_only else "every call",
            f"`{quirk.mark}`",
        )
        for quirk in QUIRKS
    ]
    lines += ["## Known faults of instrumentations", ""]
    lines += [*_table(("scope", "versions", "affects", "mark"), quirks), ""]
    lines += [
        "## Written",
        "",
        *_table(("attribute", "meaning"), [(f"`{k}`", v) for k, v in WRITTEN.items()]),
    ]
    fields_written = ", ".join(f"`otel_cost.{name}`" for name in Payer._fields[1:])
    lines += ["", f"And the payer: {fields_written}."]
    decisions = [(f"`{name}`", f"`{decision}`") for name, decision in names.DECISIONS.items()]
    lines += ["", "Events of the guard, and what the warehouse calls them:", ""]
    lines += _table(("event", "decision"), decisions)
    lines.append("")
    return "\n".join(lines)


def _named(table: dict[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    return [(key, ", ".join(f"`{name}`" for name in aliases)) for key, aliases in table.items()]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


PAGES = {"settings.md": settings, "cli.md": command_line, "attributes.md": conventions}


def main() -> None:
    """Write every page."""
    os.environ.pop("OTEL_COST_TOKEN", None)
    for name, make in PAGES.items():
        (ROOT / "docs" / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
