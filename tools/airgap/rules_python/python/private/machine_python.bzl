"""Finds this machine's Python and makes a toolchain of it."""

# Prints the version and the interpreter behind version managers' shims and virtual environments.
_PROBE = """
import os, sys
print("%d.%d" % sys.version_info[:2])
print(os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable))
"""

_BUILD = """\
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

py_runtime(
    name = "python",
    interpreter_path = "{interpreter}",
    python_version = "PY3",
    stub_shebang = "#!{interpreter}",
)

py_runtime_pair(
    name = "pair",
    py3_runtime = ":python",
)

toolchain(
    name = "toolchain",
    toolchain = ":pair",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _candidates(rctx, version):
    """Paths to try, a version manager's shims last: they run whatever was chosen last."""

    # Not rctx.getenv: another PATH is no reason to fetch every wheel again.
    path = rctx.os.environ.get("PATH", "")
    directories = path.split(":") + ["/usr/bin", "/usr/local/bin"]
    found = []
    shims = []
    for name in ["python" + version, "python3"]:
        for directory in directories:
            if directory.startswith("/"):
                path = rctx.path(directory).get_child(name)
                if path.exists:
                    (shims if "/shims" in directory else found).append(path)
    return found + shims

def find_python(rctx, version):
    """Returns the absolute path of a Python of that version; fails with what to do about it.

    Args:
        rctx: the repository context.
        version: major and minor, such as "3.11".

    Returns:
        A string.
    """
    for candidate in _candidates(rctx, version):
        probe = rctx.execute([candidate, "-c", _PROBE], timeout = 20)
        lines = probe.stdout.splitlines()
        if probe.return_code == 0 and len(lines) == 2 and lines[0] == version:
            return lines[1]
    fail(("No Python {v} on this machine, and the build needs exactly that. " +
          "Install it (on Debian 12: apt-get install python3 python3-pip) so that " +
          "python{v} is on PATH, then try again.").format(v = version))

def _machine_python_impl(rctx):
    interpreter = find_python(rctx, rctx.attr.python_version)
    rctx.file("BUILD.bazel", _BUILD.format(interpreter = interpreter))

machine_python = repository_rule(
    implementation = _machine_python_impl,
    attrs = {"python_version": attr.string(mandatory = True)},
)
