"""The extension `oci`, whose `pull` fetches base images with this machine's skopeo."""

_BUILD = """\
filegroup(
    name = "{name}",
    srcs = ["layout"],
    visibility = ["//visibility:public"],
)
"""

def _layout_impl(rctx):
    skopeo = rctx.which("skopeo")
    if not skopeo:
        fail("skopeo is not on PATH (on Debian: apt-get install skopeo); it pulls {}.".format(
            rctx.attr.image,
        ))
    reference = rctx.attr.image
    if rctx.attr.digest:
        reference += "@" + rctx.attr.digest
    elif rctx.attr.tag:
        reference += ":" + rctx.attr.tag
    command = [skopeo, "--insecure-policy"]
    if rctx.attr.platform:
        parts = rctx.attr.platform.split("/")
        command += ["--override-os", parts[0], "--override-arch", parts[1]]
        if len(parts) == 3:
            command += ["--override-variant", parts[2]]
    rctx.report_progress("skopeo copy {}".format(reference))
    pulled = rctx.execute(command + ["copy", "docker://" + reference, "oci:layout"], timeout = 1200)
    if pulled.return_code:
        fail("{} could not be pulled:\n{}".format(reference, pulled.stderr))
    rctx.file("BUILD.bazel", _BUILD.format(name = rctx.attr.target))

_layout = repository_rule(
    implementation = _layout_impl,
    attrs = {
        "digest": attr.string(),
        "image": attr.string(mandatory = True),
        "platform": attr.string(),
        "tag": attr.string(),
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
    source = {"digest": tag.digest, "image": tag.image, "tag": tag.tag}
    conditions = {}
    for platform in tag.platforms:
        repository = "{}_{}".format(tag.name, platform.replace("/", "_"))
        cpu = platform.split("/")[1]
        conditions[repository] = "@platforms//cpu:{}".format(_CPUS.get(cpu, cpu))
        _layout(name = repository, platform = platform, target = repository, **source)
    if not tag.platforms:
        repository = tag.name + "_single"
        conditions[repository] = "//conditions:default"
        _layout(name = repository, target = repository, **source)
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
            "platforms": attr.string_list(),
            "tag": attr.string(),
        }),
    },
)
