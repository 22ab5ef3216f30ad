import os
from pathlib import Path

import pytest

from tools.testing.console import PageError, Step, compare, read_steps, replay

ID = "01a1f9fd-600f-7a10-87b3-8125c04f8453"
OTHER_ID = "01a1f9fd-601d-71ba-b756-a28bdfbda7d8"


def run(page: str, directory: Path) -> None:
    replay(page, directory, dict(os.environ))


def test_a_command_ends_where_bash_can_run_it() -> None:
    block = "$ echo 'a\nb'\na\nb\n$ cat <<END\nc\nEND\nc\n$ echo \\\n  d\n"
    assert list(read_steps(block)) == [
        Step("echo 'a\nb'", "a\nb"),
        Step("cat <<END\nc\nEND", "c"),
        Step("echo \\\n  d", ""),
    ]


def test_the_commands_of_a_page_share_a_shell_and_its_files(tmp_path: Path) -> None:
    run(
        "It greets, `to/greet.sh`:\n\n```sh\necho Hello, $1\n```\n"
        "```console\n$ name=Ada\n$ cd to\n```\n\n"
        "```console\n$ sh greet.sh $name\nHello, Ada\n```\n",
        tmp_path,
    )


@pytest.mark.parametrize("command", ["echo 2", "echo 1; false", "true", "exit 0"])
def test_a_page_that_is_not_true_is_refused(tmp_path: Path, command: str) -> None:
    with pytest.raises(PageError, match=f"[$] {command}"):
        run(f"Look:\n\n```console\n$ {command}\n1\n```\n", tmp_path)


@pytest.mark.parametrize(
    ("printed", "output"),
    [
        ('{…,"b":1}', '{"a":0,"b":1}'),
        ("HTTP/1.1 200 OK\n…", "HTTP/1.1 200 OK\netag: 1\n\n{}\n"),
        ("ready   in 0.5 s", "ready in 12.25 s"),
        (f"{ID} {OTHER_ID} {ID}", f"{OTHER_ID} {ID} {OTHER_ID}"),
    ],
)
def test_what_differs_each_time_is_compared_loosely(printed: str, output: str) -> None:
    compare(Step("cat", printed), output, {})


def test_an_id_stays_the_same(tmp_path: Path) -> None:
    ids: dict[str, str] = {}
    compare(Step("cat", f"made {ID}"), f"made {OTHER_ID}", ids)
    compare(Step("cat", f"found {ID}"), f"found {OTHER_ID}", ids)
    with pytest.raises(PageError):
        compare(Step("cat", f"found {ID}"), f"found {ID}", ids)
    with pytest.raises(PageError):
        compare(Step("cat", f"{OTHER_ID} {OTHER_ID}"), f"{ID} {OTHER_ID}", ids)
    made = f"Look:\n\n```console\n$ echo {OTHER_ID} | tee id\n{ID}\n"
    run(f"{made}$ test $(cat id) = {ID}\n```\n", tmp_path)
