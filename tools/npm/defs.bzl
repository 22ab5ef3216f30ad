"""What the build takes out of npm packages: native programs and plain files.

`npm pack` fetches a package from whatever registry this machine's npm is set up for; its bytes are
checked against the integrity hash written in MODULE.bazel.
"""

_ARCHITECTURES = {
    "aarch64": "aarch64",
    "amd64": "x86_64",
    "arm64": "aarch64",
    "x86_64": "x86_64",
}

_PROGRAM_BUILD = """\
filegroup(
    name = "{name}",
    srcs = ["{path}"],
    visibility = ["//visibility:public"],
)
"""

_FILES_BUILD = """\
exports_files(
    {files},
    visibility = ["//visibility:public"],
)
"""

_VERSION = attr.string(mandatory = True)

def _unpack(rctx, package, integrity):
    """Puts the files of a package into the repository, without the folder that npm packs them in."""
    npm = rctx.which("npm")
    if not npm:
        fail("npm is not on PATH: install Node.js (on Debian: apt-get install npm). " +
             "It fetches {} from the npm registry.".format(package))
    rctx.report_progress("npm pack {}".format(package))
    packed = rctx.execute(
        [npm, "pack", "--silent", "{}@{}".format(package, rctx.attr.version)],
        timeout = 300,
    )
    if packed.return_code:
        fail("npm could not fetch {}@{}:\n{}{}".format(
            package,
            rctx.attr.version,
            packed.stdout,
            packed.stderr,
        ))
    tarball = rctx.path(packed.stdout.strip().splitlines()[-1])
    rctx.download_and_extract(
        url = "file://{}".format(tarball),
        integrity = integrity,
        stripPrefix = "package",
        type = "tar.gz",
    )
    rctx.delete(tarball)

def _program(rctx):
    """Returns (npm package, path inside it) of the program for this machine."""
    machine = _ARCHITECTURES.get(rctx.os.arch)
    program = rctx.attr.programs.get(machine) if rctx.os.name == "linux" else None
    if not program:
        fail("MODULE.bazel names no {} program for {} on {}.".format(
            rctx.attr.program,
            rctx.os.name,
            rctx.os.arch,
        ))
    scope, package, path = program.split("/", 2)
    return "{}/{}".format(scope, package), path

def _npm_program_impl(rctx):
    package, path = _program(rctx)
    _unpack(rctx, package, rctx.attr.integrity[package])
    rctx.file("BUILD.bazel", _PROGRAM_BUILD.format(name = rctx.attr.program, path = path))

npm_program = repository_rule(
    implementation = _npm_program_impl,
    doc = "A repository @NAME whose only target, NAME, is the program for this machine.",
    attrs = {
        "integrity": attr.string_dict(
            doc = "npm package to the integrity that its registry publishes (sha512-...).",
            mandatory = True,
        ),
        "program": attr.string(
            doc = "Name of the program and of its target.",
            mandatory = True,
        ),
        "programs": attr.string_dict(
            doc = "Architecture (x86_64, aarch64) to @scope/package/path/of/program, on Linux.",
            mandatory = True,
        ),
        "version": _VERSION,
    },
)

def _npm_files_impl(rctx):
    _unpack(rctx, rctx.attr.package, rctx.attr.integrity)
    rctx.file("BUILD.bazel", _FILES_BUILD.format(files = repr(rctx.attr.files)))

npm_files = repository_rule(
    implementation = _npm_files_impl,
    doc = "A repository @NAME whose targets are some files of one npm package.",
    attrs = {
        "files": attr.string_list(
            doc = "Paths inside the package; nothing else of it can be used.",
            mandatory = True,
        ),
        "integrity": attr.string(
            doc = "What the registry publishes (sha512-...).",
            mandatory = True,
        ),
        "package": attr.string(mandatory = True),
        "version": _VERSION,
    },
)
