"""The extension `oci`, whose `pull` makes base images of Debian's packages."""

# The stand-in of rules_python knows which Python launchers are written for.
load("@rules_python//python/private:machine_python.bzl", "find_python")  # buildifier: disable=bzl-visibility

# The images that can be pulled, and what they have beside _PACKAGES.
_IMAGES = {
    "docker.io/library/debian": [
        "dash",
        "libc-bin",
    ],
    "gcr.io/distroless/cc-debian12": [],
}
_PYTHON_VERSION = "3.11"
_SUITE = "bookworm"

# What distroless images have, and what Python and its standard library are linked with.
_PACKAGES = [
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libsqlite3-0",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "media-types",
    "netbase",
    "python3.11-minimal",
    "tzdata",
    "zlib1g",
]

_BUILD = """\
load("@rules_oci//oci:defs.bzl", "oci_image")

oci_image(
    name = "{name}",
    architecture = "{architecture}",
    env = {{
        "PATH": "/usr/local/bin:/usr/bin",
        "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
    }},
    os = "linux",
    tars = ["base.tar.gz"],
    user = "65532",
    visibility = ["//visibility:public"],
)
"""

def _run(rctx, purpose, command, environment = {}, working_directory = ""):
    rctx.report_progress(purpose)
    result = rctx.execute(
        command,
        environment = environment,
        timeout = 600,
        working_directory = working_directory,
    )
    if result.return_code:
        fail("{} failed:\n{}{}".format(purpose, result.stdout, result.stderr))

def _debian_base_impl(rctx):
    apt = str(rctx.path("apt"))
    _run(rctx, "reading Debian's package lists", [
        rctx.path(Label("@@//tools/airgap:apt.sh")),
        _SUITE,
        apt,
    ])
    _run(
        rctx,
        "fetching the packages of the base image",
        ["apt-get", "-qq", "download"] + _PACKAGES + rctx.attr.packages,
        environment = {"APT_CONFIG": apt + "/apt.conf"},
        working_directory = "debs",
    )
    python = find_python(rctx, _PYTHON_VERSION)
    _run(rctx, "writing the base image", [
        python,
        rctx.path(Label("//oci/private:debian_base.py")),
        "debs",
        "base.tar.gz",
        python,
    ])
    rctx.delete("apt")
    rctx.delete("debs")
    rctx.file("BUILD.bazel", _BUILD.format(
        architecture = rctx.attr.architecture,
        name = rctx.attr.target,
    ))

_debian_base = repository_rule(
    implementation = _debian_base_impl,
    attrs = {
        "architecture": attr.string(mandatory = True),
        "packages": attr.string_list(),
        "target": attr.string(mandatory = True),
    },
)

_CHOICE = """\
alias(
    name = "{name}",
    actual = select({choices}),
    visibility = ["//visibility:public"],
)
"""

_CPUS = {
    "amd64": "x86_64",
    "arm64": "aarch64",
}

def _choice_impl(rctx):
    choices = {
        condition: "@{0}//:{0}".format(repository)
        for repository, condition in rctx.attr.conditions.items()
    }
    rctx.file("BUILD.bazel", _CHOICE.format(name = rctx.attr.target, choices = choices))

_choice = repository_rule(
    implementation = _choice_impl,
    attrs = {
        "conditions": attr.string_dict(mandatory = True),
        "target": attr.string(mandatory = True),
    },
)

def _pull(tag):
    if tag.image not in _IMAGES:
        fail("This stand-in of rules_oci makes {} of Debian's packages, and pulls no {}.".format(
            " and ".join(_IMAGES),
            tag.image,
        ))
    conditions = {}
    for platform in tag.platforms:
        repository = "{}_{}".format(tag.name, platform.replace("/", "_"))
        architecture = platform.split("/")[1]
        conditions[repository] = "@platforms//cpu:{}".format(_CPUS[architecture])
        _debian_base(
            name = repository,
            architecture = architecture,
            packages = _IMAGES[tag.image],
            target = repository,
        )
    _choice(name = tag.name, conditions = conditions, target = tag.name)

def _oci_impl(mctx):
    for module in mctx.modules:
        for tag in module.tags.pull:
            _pull(tag)

oci = module_extension(
    implementation = _oci_impl,
    tag_classes = {
        "pull": tag_class(attrs = {
            "digest": attr.string(),
            "image": attr.string(mandatory = True),
            "name": attr.string(mandatory = True),
            "platforms": attr.string_list(mandatory = True),
        }),
    },
)
