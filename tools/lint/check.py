"""Runs one linter and fails as it does, with a word on how to mend what it found."""

import os
import subprocess
import sys

from tools.python.programs import find_program

ADVICE = """
Most of this can be mended by

    ./bazelw run //tools/lint:format

and the rest by hand."""


def main() -> int:
    """Run the command in the arguments and return its exit status."""
    program, *arguments = sys.argv[1:]
    path = program if "/" in program else str(find_program(program))
    environment = {**os.environ, "XDG_CACHE_HOME": os.environ["TEST_TMPDIR"]}
    status = subprocess.run([path, *arguments], check=False, env=environment).returncode
    if status != 0:
        print(ADVICE, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
