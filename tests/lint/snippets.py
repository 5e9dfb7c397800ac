#!/usr/bin/env python3
"""Code in the documentation is pulled from files that are compiled and run.

A block of code below a line `<!-- from FILE [NAME] -->` must equal what stands in FILE between the
lines `// [NAME]` and `// [/NAME]`. Usage: snippets.py [--write]: checks README.md and docs/, or
writes what the files say into them. Exit status 1 if something differs or names nothing.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"<!-- from (\S+) \[(\S+)\] -->\n```cpp\n(.*?)```\n", re.S)


def region(path, name):
    lines = (ROOT / path).read_text().splitlines()
    begin, end = f"// [{name}]", f"// [/{name}]"
    stripped = [line.strip() for line in lines]
    if begin not in stripped or end not in stripped:
        raise LookupError(f"{path} has no region [{name}]")
    part = lines[stripped.index(begin) + 1:stripped.index(end)]
    indent = min((len(line) - len(line.lstrip()) for line in part if line.strip()), default=0)
    return "".join(line[indent:] + "\n" for line in part)


def main(write):
    bad = total = 0
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]:
        text = document.read_text()

        def pulled(match):
            nonlocal bad, total
            total += 1
            path, name, code = match.groups()
            try:
                wanted = region(path, name)
            except (OSError, LookupError) as error:
                print(f"{document.relative_to(ROOT)}: {error}")
                bad += 1
                return match.group(0)
            if code != wanted and not write:
                print(f"{document.relative_to(ROOT)}: differs from {path} [{name}]; run tests/lint/snippets.py --write")
                bad += 1
            return f"<!-- from {path} [{name}] -->\n```cpp\n{wanted}```\n"

        written = BLOCK.sub(pulled, text)
        loose = len(re.findall(r"```cpp\n", text)) - len(BLOCK.findall(text))
        if loose:
            print(f"{document.relative_to(ROOT)}: {loose} block(s) of C++ that come from no file")
            bad += loose
        if write and written != text:
            document.write_text(written)
    print(f"{total} snippets, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv[1:]))
