#!/usr/bin/env python3
"""The tests that tests/contract.md names exist where it says.

A row of its tables is `| point | room/file | "name"; "name" |`: each name must be a TEST_CASE of
tests/room/file_test.cpp. Usage: contract.py. Exit status 1 if one is missing.
"""
import pathlib
import re
import sys

TESTS = pathlib.Path(__file__).resolve().parents[1]
LITERAL = r'"(?:[^"\\\n]|\\.)*"'
CASE = re.compile(rf"\bTEST_CASE\(\s*((?:{LITERAL}\s*)+)")


def cases(path):
    """The names in one file; a long one is several literals in a row."""
    pieces = (re.findall(LITERAL, match.group(1)) for match in CASE.finditer(path.read_text()))
    return {re.sub(r"\\(.)", r"\1", "".join(piece[1:-1] for piece in name)) for name in pieces}


def main():
    bad = total = 0
    known = {}
    for number, line in enumerate((TESTS / "contract.md").read_text().splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 3 or '"' not in cells[2]:
            continue
        path = TESTS / f"{cells[1]}_test.cpp"
        if path not in known:
            known[path] = cases(path) if path.is_file() else set()
        for name in re.findall(r'"([^"]*)"', cells[2]):
            total += 1
            if name not in known[path]:
                print(f"contract.md:{number}: tests/{cells[1]}_test.cpp has no test \"{name}\"")
                bad += 1
    if total == 0:
        print("contract.md names no test")
        bad = 1
    print(f"{total} names, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
