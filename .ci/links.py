#!/usr/bin/env python3
"""Checks that every relative link of README.md and infra/**/*.md leads somewhere, anchors included.

Links to the web are not followed: CI has no network. Prints each broken link with its file and line.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def pages():
    yield ROOT / "README.md"
    for page in sorted((ROOT / "infra").rglob("*.md")):
        if not {"node_modules", "target"} & set(page.parts):
            yield page


def anchor(heading):
    """The anchor that GitHub makes of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def lines(page):
    """The lines outside of code blocks, numbered."""
    in_code = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            in_code = not in_code
        elif not in_code:
            yield number, line


def anchors(page):
    return {anchor(line.lstrip("#")) for _, line in lines(page) if line.startswith("#")}


def problem(page, target):
    path, _, fragment = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
        return f"{path} does not exist"
    if fragment and file.suffix == ".md" and fragment not in anchors(file):
        return f"{file.relative_to(ROOT)} has no heading #{fragment}"
    return None


def main():
    broken = checked = 0
    for page in pages():
        for number, line in lines(page):
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                checked += 1
                if found := problem(page, target):
                    broken += 1
                    print(f"{page.relative_to(ROOT)}:{number}: {target}: {found}")
    print(f"{checked} links between documents, {broken} broken")
    return 1 if broken or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
