"""The price catalogue: which entry a provider and a model name mean, however a span spells them.

Everything is decided on one string, `provider/model` in lower case, by rules in a fixed order:

1. a provider named in the string (`azure/...`, `litellm_proxy/openrouter/anthropic/...`), hosts before
   makers;
2. nothing more for a host, because another's list is not its price, unless it passes prices through;
3. the model alone: Bedrock ids, then the lists of the makers.

`pattern_rows` gives the same rules as regular expressions, so that a database resolves names as `resolve`
does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

from otel_cost.providers import (
    HOSTS,
    PASS_THROUGH,
    PROVIDERS,
    SELF_HOSTED,
    TOLD_BY_MODEL,
    UNLISTED,
    VENDORS,
    canonical_provider,
    provider_regexp,
)

REGION = r"(?:us|eu|apac|us-gov|au|ca|jp|in|sa|me|il|uk|kr|sg)\."
MAKER = (
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshotai|nvidia|openai|qwen|writer"
    r"|zai)\."
)
"""Regions and makers in Bedrock model ids
(https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html)."""

ARN = r"arn:aws[a-z-]*:bedrock:[^/]*"

VERSION = (
    r"(?:[-@](?:latest|default|20[0-9]{6}|20[0-9]{2}-[0-9]{2}-[0-9]{2}|00[0-9]|v[0-9]+)|:[0-9]+|:latest"
    r"|\[1m\])"
)
"""What may follow a known name without making it another model: dates, versions, and Claude Code's sign for a
context of a million tokens, where the size of each request decides its rates
(https://code.claude.com/docs/en/model-config)."""

STAGE = (
    r"(?:[-@:./_](?:latest|default|preview|exp|experimental|beta|stable|thinking|instruct|customtools|hf|0"
    r"|[0-9]{3,4}|[0-9]{6}|20[0-9]{6}|[0-9]{2}-[0-9]{2}|[0-9]{2}-20[0-9]{2}|20[0-9]{2}-[0-9]{2}-[0-9]{2}"
    r"|v[0-9]+(?:[.:][0-9]+)*)|:[0-9]+|\[1m\])"
)
"""As `VERSION`, after a name that the catalogue gives as the start of several: release stages too."""

_DATE = re.compile(r"(?<![0-9])(20[0-9]{2})-(0[1-9]|1[0-2])-([0-3][0-9])(?![0-9])")
_COMPACT_DATE = re.compile(r"(?<![0-9])(20[0-9]{2})(0[1-9]|1[0-2])([0-3][0-9])(?![0-9])")
_VERSION_AT_END = re.compile(rf"{VERSION}\Z")
_REGION_HEAD = re.compile(REGION)
_MAKER_HEAD = re.compile(MAKER)
_YEAR = re.compile(r"-20[0-9]{2}.*")
_BEDROCK_HEAD = re.compile(rf"(?:{REGION}|global\.|regional\.)?{MAKER}")
_ARN = re.compile(rf"{ARN}\Z")
_LITERAL = re.compile(r"[a-z0-9/-]+(?![a-z0-9/?*{-])")
_OPTIONAL = re.compile(r"^\([^)]*\)\?")


class PatternRow(NamedTuple):
    """A regular expression over `provider/model` in lower case, and the price entry that it leads to.

    Only syntax that RE2 and Vectorscan know. The first row that matches decides. A row without a model ends
    the search: no price is known.
    """

    id: int
    regexp: str
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What the catalogue knows of one model at one provider.

    Attributes:
        prices: (when, rates) in order; the last one in force wins. When is None (always), a first day as
            `YYYY-MM-DD`, or a daily window in UTC as two times `HH:MM`.
        variants: (service tier, when, rates) that replace single rates.
        source: Where the rates are published.
        source_date: When they were read there, `YYYY-MM-DD`, where it is known.
        caveat: Why the rates are another model's, or an empty text.
    """

    provider: str
    model: str
    prices: Sequence[Any]
    variants: Sequence[Any] = ()
    source: str = ""
    source_date: str = ""
    caveat: str = ""


class Derived(NamedTuple):
    """Names that are made of another model's, which lends its rates as an estimate."""

    provider: str
    before: str
    after: str
    model: str
    caveat: str
    precedes: bool = False
    """Such names would otherwise match the other model itself."""


DERIVED = (
    Derived(
        "azure",
        "(?:eu|us|us-gov|apac)/",
        "",
        "{}:data-zone",
        "deployments in a data zone cost more than the global rate",
        precedes=True,
    ),
    Derived(
        "openai",
        "ft:",
        ":.*",
        "{}:fine-tuned",
        "the rates of this fine-tuned model are not known: its base's",
    ),
    Derived(
        "openrouter", "", ":(?:nitro|floor|exacto|online)", "{}:routed", "the route chosen sets the price"
    ),
)


@dataclass(slots=True)
class Listing:
    """The models of one provider in the order in which they are tried, and the rules that match them."""

    entries: list[Entry] = field(default_factory=list)
    names: list[list[str]] = field(default_factory=list)
    clauses: list[list[Sequence[Any]]] = field(default_factory=list)
    _exact: dict[str, int] = field(default_factory=dict)
    _loose: list[tuple[int, str, Sequence[Any]]] = field(default_factory=list)

    def add(self, entry: Entry, match: Iterable[Any]) -> None:
        """Append a model. A match rule is a name, or a pair of kind and text."""
        index = len(self.entries)
        self.entries.append(entry)
        self.names.append([])
        self.clauses.append([])
        for clause in match:
            if isinstance(clause, str):
                self.names[-1].append(clause)
                self._exact.setdefault(undated(clause), index)
            else:
                self.clauses[-1].append(clause)
                self._loose.append((index, _literal(clause), clause))

    def find(self, names: Sequence[str]) -> Entry | None:
        """Return the first model that one of the names means; the longest name comes first."""
        index = self._strictly(names)
        if index is None:
            index = min(
                (self._exact[s] for name in names for s in stems(name) if s in self._exact), default=None
            )
        return None if index is None else self.entries[index]

    def find_exactly(self, names: Sequence[str]) -> Entry | None:
        """Return the first model that has one of the names, not one that a rule only describes."""
        index = min((self._exact[n] for n in map(undated, names) if n in self._exact), default=None)
        return None if index is None else self.entries[index]

    def _strictly(self, names: Sequence[str]) -> int | None:
        best = min((self._exact[n] for n in map(undated, names) if n in self._exact), default=None)
        longest = undated(names[0]) if names else ""
        for index, literal, clause in self._loose:
            if best is not None and index >= best:
                break
            if literal in longest and any(map(_compiled(clause[0], clause[1]).match, names)):
                return index
        return best


def undated(name: str) -> str:
    """Return a name with its date written without dashes, as some gateways write it."""
    return _DATE.sub(r"\1\2\3", name) if "20" in name else name


def stems(name: str) -> Iterator[str]:
    """Yield a name with ever more dates and versions taken off its end."""
    name = undated(name)
    while (shorter := _VERSION_AT_END.sub("", name)) != name:
        name = shorter
        yield name


def _literal(clause: Sequence[Any]) -> str:
    """Return a text that every match of a rule contains: looking for it is quicker than matching."""
    kind, value = clause
    if kind == "regex":
        found = _LITERAL.match(_OPTIONAL.sub("", value.removeprefix("^")))
        return found.group() if found and "|" not in value else ""
    return _YEAR.sub("", value)


@lru_cache(maxsize=1024)
def _compiled(kind: str, value: Any) -> re.Pattern[str]:
    return re.compile(clause_regexp([kind, value]) + r"\Z")


def clause_regexp(clause: Sequence[Any]) -> str:
    """Return a match rule as a regular expression that is narrowed to names of the same model.

    Rules of the catalogue that match a beginning or a part (`gemini-3.6-flash...`) would also match a sibling
    made later (`gemini-3.6-flash-lite`), at the wrong price. Here only dates, versions and release stages may
    follow.
    """
    kind, value = clause
    if kind == "regex":
        return str(value).removeprefix("^").removesuffix("$").replace("\\d", "[0-9]")
    text = name_regexp(value)
    if kind == "ends_with":
        return rf".*{text}" if value[0] == "/" else rf"(?:.*[/.:])?{text}"
    tail = ".*" if value.startswith("ft:") or value.endswith(".ft-") else _tail(value)
    return rf"{text}{tail}" if kind == "starts_with" else rf"(?:.*[/.:])?{text}{tail}"


def _tail(value: str) -> str:
    if value[-1] in "-@":
        return rf"[0-9a-z]+{STAGE}*"
    if re.search(r"-20[0-9]{2}\Z", value):
        return rf"(?:[0-9]{{4}}|-[0-9]{{2}}-[0-9]{{2}}){STAGE}*"
    return rf"{STAGE}*"


def name_regexp(name: str) -> str:
    """Quote a name for RE2 so that a date in it matches with and without dashes."""
    name = undated(name)
    found = _COMPACT_DATE.search(name)
    if not found:
        return _quoted(name)
    dates = f"(?:{found.group()}|{'-'.join(found.groups())})"
    return _quoted(name[: found.start()]) + dates + _quoted(name[found.end() :])


def _quoted(text: str) -> str:
    return re.escape(text).replace("\\-", "-")


class Catalogue:
    """Every listing, and the way from a provider and a model name to an entry."""

    def __init__(
        self, providers: Mapping[str, Mapping[str, Any]], overlays: Sequence[tuple[str, Listing]] = ()
    ) -> None:
        """Take the providers of the snapshot, and listings to look at first: (provider or any, listing)."""
        self._providers = providers
        self._overlays = overlays
        self._listings: dict[tuple[str, str], Listing] = {}

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, also those that one provider lists for another, and those derived."""
        for _, listing in self._overlays:
            yield from listing.entries
        for name in self._providers:
            for listing in self._listings_of(name):
                yield from listing.entries
        for derived in DERIVED:
            for listing in self._listings_of(derived.provider):
                yield from (_derive(derived, entry) for entry in listing.entries)

    def resolve(self, model: str, provider: str | None) -> Entry | None:
        """Return the entry that a provider and a model name mean, as a span gives them, or None."""
        segments = f"{provider or ''}/{model}".lower().strip().split("/")
        named = _named_providers(segments)
        for name, listing in self._overlays:
            position = _position(name, named, segments) if name else 0
            if position is not None and (entry := listing.find(_suffixes(segments, position))):
                return entry
        names = _suffixes(segments, 0)
        if entry := self._find_derived(names, named, precedes=True):
            return entry
        ordered = named if len(named) < 2 else [name for name in PROVIDERS if name in named]
        for name in ordered:
            if name in HOSTS and (entry := self._find(name, _suffixes(segments, named[name]))):
                return entry
        if any(position < 2 and _ends_search(name) for name, position in named.items()):
            return None
        for name in ordered:
            if name in VENDORS and (entry := self._find(name, _suffixes(segments, named[name]))):
                return entry
        return self._find_by_model(names) or self._find_derived(names, named, precedes=False)

    def _listing(self, owner: str, biller: str) -> Listing:
        """Return the models of `owner` as billed by another, made when first asked for: few are ever used."""
        listing = self._listings.get((owner, biller))
        if listing is None:
            made = self._providers[owner]
            models = made["models"]
            if owner != biller:
                models = _renamed(models, owner, self._taken(owner, biller))
            listing = self._listings[owner, biller] = listing_of(biller, models, made["source"])
        return listing

    def _taken(self, owner: str, biller: str) -> set[str]:
        """Return the model names of a biller that come before those of an owner it falls back to."""
        fallback = self._providers[biller].get("fallback", ())
        before = (biller, *fallback[: fallback.index(owner)])
        return {model for name in before for model in self._providers[name]["models"]}

    def _listings_of(self, provider: str) -> Iterator[Listing]:
        if provider in self._providers:
            yield self._listing(provider, provider)
            for owner in self._providers[provider].get("fallback", ()):
                yield self._listing(owner, provider)

    def _find(self, provider: str, names: list[str]) -> Entry | None:
        if provider == "aws":
            names = [variant for name in names for variant in _bedrock_names(name)]
        for listing in self._listings_of(provider):
            if entry := listing.find(names):
                return entry
        return None

    def _find_by_model(self, names: list[str]) -> Entry | None:
        evident = [name for name in names if _BEDROCK_HEAD.match(name)]
        if evident and (entry := self._find("aws", evident)):
            return entry
        for vendor in TOLD_BY_MODEL:
            if entry := self._listing(vendor, vendor).find(names):
                return entry
        return None

    def _find_derived(self, names: list[str], named: Mapping[str, int], *, precedes: bool) -> Entry | None:
        for derived in DERIVED:
            if derived.precedes != precedes or (derived.provider in HOSTS and derived.provider not in named):
                continue
            pattern = _compiled("regex", f"{derived.before}(.*?){derived.after}")
            bases = [found.group(1) for name in names if (found := pattern.match(name))]
            for listing in self._listings_of(derived.provider) if bases else ():
                if entry := listing.find_exactly(bases):
                    return _derive(derived, entry)
        return None

    def pattern_rows(self) -> Iterator[PatternRow]:
        """Yield the rules of `resolve` as regular expressions over `provider/model` in lower case."""
        for number, (regexp, entry) in enumerate(self._patterns(), start=1):
            yield PatternRow(number, f"^{regexp}$", *((entry.provider, entry.model) if entry else ("", "")))

    def _patterns(self) -> Iterator[tuple[str, Entry | None]]:
        for name, listing in self._overlays:
            head = rf"(?:.*/)?{_names_regexp(name)}/(?:.*/)?" if name else "[^/]*/(?:.*/)?"
            yield from _patterns_of(listing, head, plain_regexps)
        for derived in DERIVED:
            if derived.precedes:
                yield from self._derived_patterns(derived)
        for name in HOSTS:
            yield from self._named_patterns(name)
        for name in HOSTS:
            if _ends_search(name):
                yield rf"(?:[^/]*/)?{_names_regexp(name)}/.*", None
        for name in VENDORS:
            yield from self._named_patterns(name)
        yield from _patterns_of(self._listing("aws", "aws"), "[^/]*/(?:.*/)?", evident_regexps)
        for name in TOLD_BY_MODEL:
            yield from _patterns_of(self._listing(name, name), "[^/]*/(?:.*/)?", plain_regexps)
        for derived in DERIVED:
            if not derived.precedes:
                yield from self._derived_patterns(derived)

    def _named_patterns(self, provider: str) -> Iterator[tuple[str, Entry | None]]:
        head = rf"(?:.*/)?{_names_regexp(provider)}/(?:.*/)?"
        if provider == "aws":
            head += rf"(?:{REGION})?(?:{MAKER})?"
        for listing in self._listings_of(provider):
            yield from _patterns_of(listing, head, plain_regexps)

    def _derived_patterns(self, derived: Derived) -> Iterator[tuple[str, Entry | None]]:
        head = rf"(?:.*/)?{_names_regexp(derived.provider)}/" if derived.provider in HOSTS else "[^/]*/"
        for listing in self._listings_of(derived.provider):
            for index, entry in enumerate(listing.entries):
                names = "|".join(plain_regexps(listing, index)[1])
                if names:
                    regexp = f"{head}(?:.*/)?{derived.before}(?:{names}){derived.after}"
                    yield regexp, _derive(derived, entry)


def listing_of(provider: str, models: Mapping[str, Mapping[str, Any]], source: str = "") -> Listing:
    """Return a listing of models in the notation of the snapshot."""
    listing = Listing()
    for model, made in models.items():
        entry = Entry(
            provider=provider,
            model=model,
            prices=made["prices"],
            variants=made.get("variants", ()),
            source=made.get("source", source),
            source_date=made.get("source_date", ""),
        )
        listing.add(entry, made["match"])
    return listing


def resolve_provider(provider: str, model: str) -> str | None:
    """Return the provider that a span's provider, or else the path of its model, names, or None."""
    named = _named_providers(f"{provider}/{model}".lower().strip().split("/"))
    return min(named, key=lambda name: (name not in HOSTS, named[name]), default=None)


@lru_cache(maxsize=1024)
def why_unpriced(provider: str, model: str) -> str:
    """Say in a few words why a model has no price, and what helps where its host is the reason."""
    host = resolve_provider(provider, model)
    if host in UNLISTED:
        return f"the prices of {host} are not known: give them in a price file"
    if host in SELF_HOSTED:
        return f"{host} has no list price: say in a price file what it costs you, or 0"
    return "no price for this model"


def _renamed(models: Mapping[str, Any], owner: str, taken: set[str]) -> dict[str, Any]:
    """Name models by their owner where the plain name is taken, so that a name means one entry."""
    return {f"{owner}/{model}" if model in taken else model: made for model, made in models.items()}


def _derive(derived: Derived, entry: Entry) -> Entry:
    return replace(entry, model=derived.model.format(entry.model), caveat=derived.caveat)


def _position(provider: str, named: Mapping[str, int], segments: Sequence[str]) -> int | None:
    if provider in named:
        return named[provider]
    return segments.index(provider) if provider in segments[:-1] else None


def _ends_search(provider: str) -> bool:
    return provider in HOSTS and provider not in PASS_THROUGH


def _names_regexp(provider: str) -> str:
    regexp = provider_regexp(provider)
    return rf"(?:{regexp}|{ARN})" if provider == "aws" else regexp


def _named_providers(segments: Sequence[str]) -> dict[str, int]:
    """Return the providers that the segments before the last name, and the first position of each."""
    found: dict[str, int] = {}
    for position, segment in enumerate(segments[:-1]):
        name = "aws" if _ARN.match(segment) else canonical_provider(segment)
        if name:
            found.setdefault(name, position)
    return found


def _suffixes(segments: Sequence[str], after: int) -> list[str]:
    return ["/".join(segments[start:]) for start in range(after + 1, len(segments))]


def _bedrock_names(name: str) -> Iterator[str]:
    """Yield a Bedrock id, then without its region, then without its maker."""
    yield name
    shorter = _REGION_HEAD.sub("", name, count=1) if _REGION_HEAD.match(name) else name
    if shorter != name:
        yield shorter
    maker = _MAKER_HEAD.match(shorter)
    if maker:
        yield shorter[maker.end() :]


def plain_regexps(listing: Listing, index: int) -> tuple[list[str], list[str]]:
    """Return how a model is matched strictly, and how with a version after its name."""
    names = [name_regexp(name) for name in listing.names[index]]
    return names + [clause_regexp(clause) for clause in listing.clauses[index]], names


def evident_regexps(listing: Listing, index: int) -> tuple[list[str], list[str]]:
    """As `plain_regexps`, for Bedrock ids that tell by themselves that they are Bedrock's."""
    names = [_evident(name, name_regexp(name)) for name in listing.names[index]]
    clauses = [_evident(clause[1], clause_regexp(clause)) for clause in listing.clauses[index]]
    return names + clauses, names


def _evident(text: str, regexp: str) -> str:
    regexp = regexp.removeprefix(r"(?:.*[/.:])?")
    return rf"(?:{REGION})?{'' if _BEDROCK_HEAD.match(text) else MAKER}{regexp}"


def _patterns_of(listing: Listing, head: str, regexps: Any) -> Iterator[tuple[str, Entry]]:
    made = [(entry, *regexps(listing, index)) for index, entry in enumerate(listing.entries)]
    for entry, strict, _ in made:
        yield f"{head}(?:{'|'.join(strict)})", entry
    for entry, _, names in made:
        if names:
            yield f"{head}(?:{'|'.join(names)}){VERSION}+", entry
