"""Every relative link of the pages leads to a file, and every anchor to a heading of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/**/*.md"))]
PAGES += sorted(ROOT.glob("benchmarks/**/*.md"))
_CODE = re.compile(r"^(```+).*?^\1", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)[^)]*\)")
_PAGE = re.compile(r"docs/[\w/]+\.(?:md|ipynb)")
_SPAN = re.compile(r"`[^`\n]+`")


def links(text: str) -> list[str]:
    """The relative targets of the links and pictures of a page, those in its code left out."""
    targets: list[str] = _LINK.findall(_SPAN.sub("", _CODE.sub("", text)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page: lower case, hyphens for spaces, no punctuation."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", _CODE.sub("", text), re.MULTILINE):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        repeated = sum(1 for other in found if re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other))
        found.add(f"{anchor}-{repeated}" if repeated else anchor)
    return found


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    missing = []
    for target in links(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        led_to = page.parent / name if name else page
        is_there = led_to.exists()
        if is_there and anchor and led_to.suffix == ".md":
            is_there = anchor in anchors(led_to.read_text(encoding="utf-8"))
        if not is_there:
            missing.append(target)
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Use a `network`, twice\n[a](#use-a-network-twice) [b](#other) ![c](c.png) [d](https://x.org/y)\n"
    )
    assert broken(page) == ["#other", "c.png"]
    page.write_text("## One\n## One\n```sh\n# not a heading\n[no](link)\n```\n[a](#one-1) [b](#not-a-heading)\n")
    assert broken(page) == ["#not-a-heading"]


def test_every_page_that_code_and_configuration_name_is_there() -> None:
    paths = [path for folder in ("src", "conf", "benchmarks") for path in (ROOT / folder).rglob("*")]
    texts = [path.read_text(encoding="utf-8") for path in paths if path.suffix in (".py", ".yaml", ".html")]
    named = {name for text in (*texts, PAGES[2].read_text(encoding="utf-8")) for name in _PAGE.findall(text)}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_page_of_the_documentation_can_be_reached_from_the_readme_or_is_in_the_contents_of_the_site() -> None:
    reached, waiting = set(), [ROOT / "README.md", ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        text = page.read_text(encoding="utf-8")
        names = [target.partition("#")[0] for target in links(text)]
        waiting += [(page.parent / name).resolve() for name in names if name.endswith(".md")]
        for contents in re.findall(r"^```{toctree}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            entries = [line for line in contents.split() if not line.startswith(":")]
            waiting += [path for entry in entries for path in page.parent.glob(f"{entry}.md")]
    assert set(ROOT.glob("docs/**/*.md")) <= reached
