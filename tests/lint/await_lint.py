#!/usr/bin/env python3
"""Find co_await expressions that g++ 12 is known to miscompile.

A textual check, meant for CI: it reads each statement that contains co_await
or co_yield and reports the shapes that were proved broken by running them.
Usage: await_lint.py FILE...   (exit status 1 if anything is reported)
"""
import re
import sys


def strip(text):
    """Blank out comments and literals, keeping line numbers."""
    def blank(m):
        s = m.group(0)
        return s if s.startswith("#") else re.sub(r"[^\n]", " ", s) if s[0] == "/" else s[0] + "_" * (len(s) - 2) + s[-1]
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)
    # Neither a call by name, `x.operator co_await()`, nor a name such as has_co_await awaits anything.
    return re.sub(r"operator\s+co_await|\w+co_await\w*|co_await\w+", lambda m: re.sub(r"\w", "_", m.group(0)), text)


LAMBDA_HEAD = re.compile(r"\[[^\[\]]*\]\s*(<[^{}]*>\s*)?(\([^{}]*\))?\s*(mutable\s*|noexcept\s*)*(->\s*[^(){};]+)?\s*$")


INITIALISER = re.compile(r"(=|[\w>])(?<!\btry)(?<!\bdo)(?<!\belse)\s*$")


def statements(text):
    """Yield (line, statement): text between ; at the outermost level of parentheses.

    The body of a lambda inside an expression is cut out and scanned on its own.
    """
    depth, start, out = 0, 0, []
    i, n = 0, len(text)
    while i < n:
        c = text[i]
        if c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif c == "{" and LAMBDA_HEAD.search(text[start:i]):
            j, d = i + 1, 1                      # a lambda body
            while j < n and d:
                d += {"{": 1, "}": -1}.get(text[j], 0)
                j += 1
            out += [(line + text.count("\n", 0, i), s) for line, s in statements(text[i + 1:j - 1])]
            text = text[:i] + "@" + re.sub(r"[^\n]", " ", text[i + 1:j]) + text[j:]
        elif depth == 0 and (c in ";}" or c == "{" and not INITIALISER.search(text[start:i])):
            out.append((text.count("\n", 0, start) + 1, text[start:i]))
            start = i + 1
            if depth < 0:
                depth = 0
        i += 1
    return out


OWNING = r"\[(?!\s*(?:&|this)?\s*\])(?!\s*(?:&\w+|this|&)(?:\s*,\s*(?:&\w+|this))*\s*\])[^\]\[]*\]\s*(?:\(|@|mutable|->|<)"
RULES = [
    (r"co_await.*\?|\?.*co_await", "co_await and ?: in one expression: use if/else (PR 102217, PR 101244)"),
    (r"co_await[^@]*" + OWNING, "a lambda with by-value captures in a co_await expression: capture by reference or name it first (PR 99576)"),
    (r"co_(?:await|yield)[^@]*[(,]\s*\{", "a braced argument in a co_await expression: name it first (PR 98401)"),
    (r"co_await[^@]*[(,]\s*[A-Za-z_][\w:]*(?:<[^()]*>)?\s*\{[^}]", "a braced temporary in a co_await expression: name it or give the type a constructor (PR 98401)"),
    (r"[\w>](?<!\boverride)\s*\{[^{}]*co_await", "co_await inside a braced initialiser: await first (PR 98401)"),
    (r"co_yield\s+[\w:<>]*\s*\{", "co_yield of a braced aggregate: name it first (PR 98401)"),
]


def conditions(text):
    """Yield the condition of each if, while, switch and for."""
    for m in re.finditer(r"\b(if|while|switch|for)\s*(?:constexpr\s*)?\(", text):
        i = start = m.end()
        depth = 1
        while i < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[i], 0)
            i += 1
        inside = text[start:i - 1]
        if m.group(1) != "for":
            yield inside
        elif inside.count(";") == 2:
            yield inside.split(";")[1]


def problem(text):
    for c in conditions(text):
        if "co_await" in c and ";" not in c and not re.match(r"\s*(const\s+)?[A-Za-z_][\w:<>]*[\s&*]+\w+\s*=[^=]", c):
            return "co_await in a condition: hoist it into a variable (PR 106188)"
    for pattern, message in RULES:
        if re.search(pattern, text):
            return message
    return None


def main(paths):
    bad = 0
    for path in paths:
        for line, s in statements(strip(open(path).read())):
            if "co_await" not in s and "co_yield" not in s:
                continue
            lead = len(s) - len(s.lstrip())
            where = line + s[:lead].count("\n")
            flat = " ".join(s.split())
            message = problem(flat)
            if message:
                print(f"{path}:{where}: {message}\n    {flat[:110]}")
                bad += 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
