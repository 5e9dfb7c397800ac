#!/usr/bin/env python3
"""Compiles every block of refused.cpp alone: it must fail, with the sentence that it promises.

run.py BUILD_DIR [COMPILER]. Last line: N passed, N failed.
"""
import concurrent.futures
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = "tests/mistakes/refused.cpp"


def blocks():
    """Yield (number, the mistake, the text to find, the compiler it is for or None)."""
    text = open(os.path.join(ROOT, SOURCE)).read()
    head = re.compile(r"^#if MISTAKE == (\d+) // (.+)\n((?://.*\n)+)", re.M)
    found = list(head.finditer(text))
    if len(found) != text.count("#if MISTAKE"):
        sys.exit(SOURCE + ": a block without `// the mistake` and `// says:`")
    for m in found:
        says = re.search(r"^// says: (.+)$", m[3], re.M)
        only = re.search(r"^// only: (.+)$", m[3], re.M)
        if not says:
            sys.exit(f"{SOURCE}: {m[1]} does not say what to expect")
        yield int(m[1]), m[2], says[1], only and only[1]


def compile_one(compiler, build, number):
    command = [compiler, "-std=c++20", "-I", "include", "-I", os.path.join(build, "include"), "-Wall", "-Wextra",
               "-Werror=unused-result", "-Werror=unused-value", "-fsyntax-only", f"-DMISTAKE={number}", SOURCE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return done.returncode, done.stderr


def main():
    build = os.path.abspath(sys.argv[1])
    compiler = sys.argv[2] if len(sys.argv) > 2 else "g++"
    chosen = [b for b in blocks() if not b[3] or os.path.basename(compiler).startswith(b[3])]
    numbers = [b[0] for b in blocks()]
    if numbers != list(range(1, len(numbers) + 1)):
        sys.exit(SOURCE + ": the blocks are not numbered 1, 2, 3 ...")
    chosen.insert(0, (0, "no mistake", None, None))
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(compile_one, compiler, build, b[0]) for b in chosen]
        for (number, mistake, says, _), run in zip(chosen, runs):
            status, output = run.result()
            if says is None:
                wrong = status != 0 and "does not compile"
            elif status == 0:
                wrong = "compiles"
            else:
                wrong = says not in output and f"is refused without `{says}`"
            if wrong:
                failed += 1
                print(f"FAILED {number} ({mistake}): {wrong}")
                print("\n".join(output.splitlines()[:12]))
            else:
                passed += 1
    print(f"{passed} passed, {failed} failed")
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
