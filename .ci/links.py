#!/usr/bin/env python3
"""Checks that every relative link of README.md and infra/**/*.md leads somewhere, anchors included,
and that every test and source file that these pages name exists.

Links to the web are not followed: CI has no network. Prints what is wrong with its file and line.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Tests have names of several words, and files of ours have these endings.
TEST = re.compile(r"`(?:\w+::)?([a-z0-9]+(?:_[a-z0-9]+){3,})`")
FILE = re.compile(r"`([\w/.-]+\.(?:rs|py|mjs|asl\.json))`")


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


def tree():
    """Paths of the files of ours, and the names of all functions in Rust files."""
    paths, functions = [], set()
    for top in ["functions", "shared", "infra", ".ci"]:
        for file in (ROOT / top).rglob("*"):
            if file.is_file() and not {"node_modules", "target"} & set(file.parts):
                paths.append(f"/{file.relative_to(ROOT)}")
                if file.suffix == ".rs":
                    functions |= set(re.findall(r"\bfn (\w+)", file.read_text()))
    return paths, functions


def main():
    broken = checked = 0
    paths, functions = tree()
    for page in pages():
        for number, line in lines(page):
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target):
                    continue
                checked += 1
                if found := problem(page, target):
                    broken += 1
                    print(f"{page.relative_to(ROOT)}:{number}: {target}: {found}")
            missing = [name for name in TEST.findall(line) if name not in functions]
            missing += [name for name in FILE.findall(line) if not any(path.endswith(f"/{name}") for path in paths)]
            checked += len(TEST.findall(line)) + len(FILE.findall(line))
            for name in missing:
                broken += 1
                print(f"{page.relative_to(ROOT)}:{number}: {name} does not exist")
    print(f"{checked} links and names in the documents, {broken} broken")
    return 1 if broken or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
