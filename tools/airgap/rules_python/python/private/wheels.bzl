"""One repository with every wheel of a hashed requirements lock, each as a py_library of its own."""

load(":machine_python.bzl", "find_python")

def _pip_environment(rctx, python):
    """Returns the variables with which that Python has a pip: its own, or the one beside Bazel."""
    fallback = rctx.os.environ.get("FALLBACK_PIP", "")
    for environment in [{}, {"PYTHONPATH": fallback}]:
        if not rctx.execute([python, "-c", "import pip"], environment = environment).return_code:
            return environment
    fail(("{} has no pip, which fetches the locked packages. " +
          "Install it (on Debian: apt-get install python3-pip), then try again.").format(python))

def _run(rctx, command, environment, purpose):
    rctx.report_progress(purpose)
    result = rctx.execute(command, environment = environment, timeout = 1200)
    if result.return_code:
        fail("{} failed:\n{}{}".format(purpose, result.stdout, result.stderr))

def _wheels_impl(rctx):
    lock = rctx.path(rctx.attr.requirements_lock)
    python = find_python(rctx, rctx.attr.python_version)
    environment = _pip_environment(rctx, python)
    download = [
        python,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--dest=wheels",
        "--requirement={}".format(lock),
    ]
    unpack = [
        python,
        rctx.path(Label("//python/private:unpack_wheels.py")),
        lock,
        "wheels",
        ".",
    ]
    _run(rctx, download, environment, "fetching the locked wheels with pip")
    _run(rctx, unpack, environment, "unpacking the wheels")
    rctx.delete("wheels")
    rctx.file("BUILD.bazel", "")

wheels = repository_rule(
    implementation = _wheels_impl,
    attrs = {
        "python_version": attr.string(mandatory = True),
        "requirements_lock": attr.label(mandatory = True),
    },
)
