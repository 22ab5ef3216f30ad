"""Command lines that do not outlive the process that runs them, however it ends.

Only Linux can promise that (prctl's PR_SET_PDEATHSIG, through util-linux's setpriv); elsewhere a
command is left as it is. What is done with a process once it runs does not belong here.
"""

import os
import shutil
import signal
from collections.abc import Sequence

# The parent may die before the child has asked for the signal, which then never comes: so the child
# checks its parent after it asked. `$0` is the process id of the parent that it should have.
_CHECK_PARENT = 'test "$PPID" -eq "$0" || exit 1; exec "$@"'


def tether(arguments: Sequence[str], death_signal: signal.Signals) -> list[str]:
    """Return a command that runs `arguments` and gets `death_signal` when this process ends.

    The process id stays the same through it. Start the command from the main thread: the kernel
    sends the signal at the end of the thread that started it.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return list(arguments)
    name = death_signal.name.removeprefix("SIG")
    check = ["sh", "-c", _CHECK_PARENT, str(os.getpid())]
    return [setpriv, f"--pdeathsig={name}", "--", *check, *arguments]
