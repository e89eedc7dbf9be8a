"""The reference pages say what the code does."""

from __future__ import annotations

import re

import pytest

from otel_cost import attributes
from tests.data import ROOT
from tests.docs import generate

PACKAGE = sorted((ROOT / "otel_cost").rglob("*.py"))


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_pages_are_current(name: str) -> None:
    """A page made from the code is the one that is committed; `make docs` makes them anew."""
    assert (ROOT / "docs" / name).read_text(encoding="utf-8") == generate.PAGES[name]()


def test_every_variable_is_documented() -> None:
    """No setting is read that docs/settings.md does not name."""
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE)
    read = set(re.findall(r"OTEL_COST_[A-Z0-9_]*[A-Z0-9]", text))
    documented = set(re.findall(r"OTEL_COST_[A-Z0-9_]*[A-Z0-9]", generate.settings()))
    assert read <= documented


def test_every_written_attribute_is_documented() -> None:
    """No attribute is written that docs/attributes.md does not explain."""
    names = {
        value
        for name, value in vars(attributes).items()
        if name.isupper() and isinstance(value, str) and value.startswith("otel_cost.")
    }
    assert names <= {*generate.WRITTEN, *attributes.DECISIONS}


def test_every_link_leads_somewhere() -> None:
    """Links between pages are not broken."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
