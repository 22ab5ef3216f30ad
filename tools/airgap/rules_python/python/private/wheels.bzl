"""One repository with every wheel of a hashed requirements lock, each as a py_library of its own."""

load(":machine_python.bzl", "find_python")

def _pip(rctx, python, arguments):
    result = rctx.execute([python, "-m", "pip"] + arguments, timeout = 1200)
    if result.return_code:
        fail("pip could not fetch the locked wheels:\n{}{}".format(result.stdout, result.stderr))

def _wheels_impl(rctx):
    lock = rctx.path(rctx.attr.requirements_lock)
    python = find_python(rctx, rctx.attr.python_version)
    if rctx.execute([python, "-c", "import pip"]).return_code:
        fail(("{} has no pip, which fetches the locked packages. " +
              "Install it (on Debian: apt-get install python3-pip), then try again.").format(python))
    rctx.report_progress("pip download")
    _pip(rctx, python, [
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--dest=wheels",
        "--requirement={}".format(lock),
    ])
    rctx.report_progress("unpacking wheels")
    script = rctx.path(Label("//python/private:unpack_wheels.py"))
    unpacked = rctx.execute([python, script, lock, "wheels", "."], timeout = 600)
    if unpacked.return_code:
        fail("The wheels could not be unpacked:\n{}{}".format(unpacked.stdout, unpacked.stderr))
    rctx.delete("wheels")
    rctx.file("BUILD.bazel", "")

wheels = repository_rule(
    implementation = _wheels_impl,
    attrs = {
        "python_version": attr.string(mandatory = True),
        "requirements_lock": attr.label(mandatory = True),
    },
)
