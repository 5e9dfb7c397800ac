#!/usr/bin/env python3
"""The tests that tests/contract.md and tests/faults.md name exist where they say, and no fault is left out.

A row of their tables has a cell `room/file` and behind it one of `"name"; "name"`: each name must be a TEST_CASE of
tests/room/file_test.cpp. The rows of faults.md begin with the number of a fault; each number of the sections that
it covers must be there, with a test, or with words that say why there is none. Usage: contract.py. Exit status 1 if
something is missing.
"""
import pathlib
import re
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
LITERAL = r'"(?:[^"\\\n]|\\.)*"'
CASE = re.compile(rf"\bTEST_CASE\(\s*((?:{LITERAL}\s*)+)")
PLACE = re.compile(r"[a-z_]+/[a-z0-9_]+")
FAULTS = {*range(1, 45), *range(56, 81)}


def cases(path):
    """The names in one file; a long one is several literals in a row."""
    pieces = (re.findall(LITERAL, match.group(1)) for match in CASE.finditer(path.read_text()))
    return {re.sub(r"\\(.)", r"\1", "".join(piece[1:-1] for piece in name)) for name in pieces}


def rows(document):
    """Line number and cells of every row of its tables."""
    for number, line in enumerate((TESTS / document).read_text().splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) > 2 and not set(line) <= set("|-"):
            yield number, cells


def check_names(document, known):
    """How many names there are, and how many of them no test has."""
    bad = total = 0
    for number, cells in rows(document):
        place = next((i for i, cell in enumerate(cells[:-1]) if cells[i + 1].startswith('"') and i > 0), None)
        if place is None:
            continue
        if not PLACE.fullmatch(cells[place]):
            print(f"{document}:{number}: \"{cells[place]}\" is no room/file")
            bad += 1
            continue
        path = TESTS / f"{cells[place]}_test.cpp"
        if path not in known:
            known[path] = cases(path) if path.is_file() else set()
        for name in re.findall(r'"([^"]*)"', cells[place + 1]):
            total += 1
            if name not in known[path]:
                print(f"{document}:{number}: tests/{cells[place]}_test.cpp has no test \"{name}\"")
                bad += 1
    if total == 0:
        print(f"{document} names no test")
        bad += 1
    return total, bad


def check_faults(document):
    """Every number once, and no row that says neither a test nor why there is none."""
    bad = 0
    seen = []
    for number, cells in rows(document):
        if len(cells) == 5 and cells[0] != "#":
            if cells[0]:
                seen.append(int(cells[0]))
            if not cells[3].startswith(('"', "not yet", "seeded", "exhaustive")) or not cells[4]:
                print(f"{document}:{number}: neither a test nor a reason")
                bad += 1
    for fault in sorted(FAULTS ^ set(seen)) + sorted(f for f in set(seen) if seen.count(f) > 1):
        print(f"{document}: fault {fault} is missing, unknown or there twice")
        bad += 1
    return bad


def main():
    known = {}
    bad = 0
    for document in ("contract.md", "faults.md"):
        total, wrong = check_names(document, known)
        print(f"{document}: {total} names, {wrong} wrong")
        bad += wrong
    bad += check_faults("faults.md")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
