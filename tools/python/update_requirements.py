"""Makes requirements_lock.txt from requirements.in: `./bazelw run //:requirements.update`.

Locked versions stay where requirements.in allows them. Further arguments go to uv: `--upgrade`
takes the newest of everything, `--upgrade-package NAME` that of one. The lock has hashes and names
no index: whatever index a machine is set up with serves it.
"""

import os
import subprocess
import sys

from tools.python.programs import find_program

COMMAND = "./bazelw run //:requirements.update"


def main() -> int:
    """Run uv in the workspace and return its exit status."""
    arguments = [
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-emit-index-url",
        "--no-strip-extras",
        "--python-version=3.11",
        f"--custom-compile-command={COMMAND}",
        "--output-file=requirements_lock.txt",
        *sys.argv[1:],
        "requirements.in",
    ]
    workspace = os.environ["BUILD_WORKSPACE_DIRECTORY"]
    return subprocess.run([find_program("uv"), *arguments], check=False, cwd=workspace).returncode


if __name__ == "__main__":
    sys.exit(main())
