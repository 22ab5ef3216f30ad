"""Runs mypy over all Python of the workspace, with the wheels' and the generated stubs' types.

The arguments are mypy's. Wheels are on the path of this very process, which is where mypy looks for
installed packages; their own errors are not reported.
"""

import sys

from mypy import api

if __name__ == "__main__":
    report, errors, status = api.run(["--config-file=pyproject.toml", *sys.argv[1:]])
    sys.stdout.write(report)
    sys.stderr.write(errors)
    sys.exit(status)
