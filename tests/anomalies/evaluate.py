"""How well the findings fit trouble that was planted, and how often they speak of agents at peace."""

from __future__ import annotations

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from otel_cost.budgets import Policy
from otel_cost.store import Store, open_store
from tests.anomalies import fleet, plants
from tests.anomalies.plants import Label

TUNING_SEEDS, REPORTED_SEEDS = range(1, 4), range(201, 206)
"""Thresholds were chosen with the first; the second are only reported."""
CLEAN_WEEKS, WARM_UP_WEEKS = 5, 2


@dataclass(slots=True)
class Tally:
    """What became of the plants of one kind.

    Attributes:
        found: Plants that were found, by strength, and planted those there were.
        false: Findings about something else.
    """

    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    false: list[dict[str, Any]] = field(default_factory=list)

    @property
    def recall(self) -> float:
        """Return the share of plants that was found."""
        return self.found.total() / max(self.planted.total(), 1)

    @property
    def precision(self) -> float:
        """Return the share of findings that are about a plant."""
        told = self.found.total() + len(self.alerts)
        return self.found.total() / told if told else 1.0

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Return the false findings that are more than information."""
        return [finding for finding in self.false if finding["severity"] != "info"]


def planted(seed: int, tallies: dict[str, Tally]) -> None:
    """Grow a fleet with trouble in it, look once at its end, and add what was found to the tallies."""
    compare(*findings_of(plants.grow(Random(seed))), tallies)


def findings_of(grown: plants.Planted) -> tuple[list[dict[str, Any]], list[Label]]:
    """Return what is found in a fleet by one look at its end, and what should be."""
    with tempfile.TemporaryDirectory() as directory, open_store(f"chdb://{directory}") as store:
        prepare(store)
        fleet.insert(store, grown.executions)
        return look(store), grown.labels


def prepare(store: Store) -> None:
    """Make a store with tables and the default settings."""
    store.migrate()
    store.push_policy(Policy())


def look(store: Store) -> list[dict[str, Any]]:
    """Return everything that was ever found, whether or not it still holds."""
    store.roll()
    answer = store.sql(
        "SELECT kind, subject, severity, reason, evidence, agent_name, feature FROM anomalies FINAL"
    )
    return [json.loads(line) for line in answer.splitlines()]


def compare(found: Iterable[dict[str, Any]], labels: Sequence[Label], tallies: dict[str, Tally]) -> None:
    """Add to the tallies which labels have a finding, and which findings have no label.

    Another finding about a planted subject, or about an agent in trouble, comes of the same trouble, and
    counts neither way.
    """
    found = list(found)
    known = {(finding["kind"], finding["subject"]) for finding in found}
    for label in labels:
        tallies[label.kind].planted[label.strength] += 1
        if any((label.kind, subject) in known for subject in label.subjects):
            tallies[label.kind].found[label.strength] += 1
    troubled = {subject for label in labels for subject in (*label.subjects, *label.related)}
    for finding in found:
        about = {finding["subject"], f"agent:{finding['agent_name']}", f"feature:{finding['feature']}"}
        if not about & troubled:
            tallies[finding["kind"]].false.append(finding)


def clean(seed: int) -> tuple[int, list[dict[str, Any]]]:
    """Let a clean fleet work, and look each afternoon after a warm-up.

    Returns:
        How many agent-weeks were looked at, and what was found.
    """
    random = Random(seed)
    agents = fleet.clean_agents()
    begin = fleet.BEGIN
    with tempfile.TemporaryDirectory() as directory, open_store(f"chdb://{directory}") as store:
        prepare(store)
        until = begin + timedelta(weeks=WARM_UP_WEEKS, hours=15)
        fleet.insert(store, _work(agents, begin, until, random))
        store.roll()
        for _ in range(7 * (CLEAN_WEEKS - WARM_UP_WEEKS)):
            fleet.insert(store, _work(agents, until, until + timedelta(days=1), random))
            until += timedelta(days=1)
            found = look(store)
    return len(agents) * (CLEAN_WEEKS - WARM_UP_WEEKS), found


def _work(agents: Iterable[fleet.Agent], begin: Any, end: Any, random: Random) -> list[fleet.Execution]:
    return [execution for agent in agents for execution in agent.executions(begin, end, random)]


def recalled(seeds: Sequence[int]) -> dict[str, Tally]:
    """Return what became of the plants of these seeds, by kind."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for seed in seeds:
        planted(seed, tallies)
    return dict(sorted(tallies.items()))


def planted_table(tallies: dict[str, Tally]) -> str:
    """Return the table of plants: each kind, then each of its strengths."""
    lines = [
        "| kind | planted | found | recall | precision | false alerts | for information |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for kind, tally in tallies.items():
        infos = len(tally.false) - len(tally.alerts)
        lines.append(
            f"| `{kind}` | {tally.planted.total()} | {tally.found.total()} | {tally.recall:.2f} "
            f"| {tally.precision:.2f} | {len(tally.alerts)} | {infos} |"
        )
        lines += [
            f"| - {strength} | {count} | {tally.found[strength]} | | | | |"
            for strength, count in tally.planted.items()
        ]
    return "\n".join(lines)


def clean_table(seeds: Sequence[int]) -> str:
    """Return the table of what was said of agents at peace."""
    agent_weeks, found = 0, []
    for seed in seeds:
        weeks, some = clean(seed)
        agent_weeks, found = agent_weeks + weeks, found + some
    counts = Counter((finding["kind"], finding["severity"] == "info") for finding in found)
    kinds = sorted({kind for kind, _ in counts})
    alerts = sum(count for (_, is_info), count in counts.items() if not is_info)
    lines = [
        f"{agent_weeks} agent-weeks: {alerts} false alerts, {alerts / agent_weeks:.3f} an agent-week.",
        "",
        "| kind | false alerts | for information |",
        "|---|---:|---:|",
        *(f"| `{kind}` | {counts[kind, False]} | {counts[kind, True]} |" for kind in kinds),
    ]
    return "\n".join(lines)
