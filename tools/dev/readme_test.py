"""Runs the commands of the README on a shop, and compares what they print."""

import re
from pathlib import Path

from tools.dev.testing import ShopProcess, open_environment
from tools.testing.console import replay

BAZELW = """\
#!/bin/sh
case "$*" in
"test //...") ;;
"run //:bazaar -- --seed") cat shop.txt ;;
*) echo "not expected in the README: $*"; exit 1 ;;
esac
"""


def test_the_commands_of_the_readme_print_what_it_says(tmp_path: Path) -> None:
    page = Path("README.md").read_text(encoding="utf-8")
    with open_environment() as environment, ShopProcess(environment, "--seed") as shop:
        shop.wait_until_ready()
        lines = shop.output.splitlines()
        lines[3:7] = sorted(lines[3:7])  # The services are ready in any order.
        (tmp_path / "shop.txt").write_text("\n".join(lines), encoding="utf-8")
        (tmp_path / "bazelw").write_text(BAZELW)
        (tmp_path / "bazelw").chmod(0o755)
        for name, port in re.findall(r"^(\w+_PORT)=(\d+)$", Path(".env").read_text(), re.M):
            page = page.replace(f":{port}", f":{environment[name]}")
        replay(page, tmp_path, environment)
