"""The rules behind @rules_oci//oci:defs.bzl."""

_LAYOUT = {
    "_layout": attr.label(
        cfg = "exec",
        default = "//oci/private:layout",
        executable = True,
    ),
}

# Copies of layers, which are made as fast as they are fetched: a cache would only fill up with them.
_REQUIREMENTS = {"no-cache": "1"}

# The attributes of oci_image that change the image's configuration.
_OPTIONS = {
    "architecture": attr.string(),
    "cmd": attr.string_list(),
    "entrypoint": attr.string_list(),
    "env": attr.string_dict(),
    "os": attr.string(),
    "user": attr.string(),
    "workdir": attr.string(),
}

def _image_impl(ctx):
    if bool(ctx.attr.base) == bool(ctx.attr.os and ctx.attr.architecture):
        fail("oci_image takes either a base, or os and architecture")
    output = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file(ctx.label.name + ".digest")
    options = ctx.actions.declare_file(ctx.label.name + ".options.json")
    ctx.actions.write(options, json.encode({key: getattr(ctx.attr, key) for key in _OPTIONS}))

    arguments = ctx.actions.args()
    arguments.add("image")
    if ctx.file.base:
        arguments.add_all(["--base", ctx.file.base], expand_directories = False)
    if ctx.file.labels:
        arguments.add("--labels", ctx.file.labels)
    arguments.add("--digest", digest)
    arguments.add("--options", options)
    arguments.add_all(["--output", output], expand_directories = False)
    arguments.add_all(ctx.files.tars)
    inputs = [options] + ctx.files.tars + ctx.files.base + ctx.files.labels
    ctx.actions.run(
        executable = ctx.executable._layout,
        arguments = [arguments],
        inputs = inputs,
        outputs = [output, digest],
        execution_requirements = _REQUIREMENTS,
        mnemonic = "OciImage",
        progress_message = "Writing the image %{label}",
    )
    return [
        DefaultInfo(files = depset([output]), runfiles = ctx.runfiles([output])),
        OutputGroupInfo(digest = depset([digest])),
    ]

image = rule(
    implementation = _image_impl,
    attrs = {
        "base": attr.label(allow_single_file = True),
        "labels": attr.label(allow_single_file = True),
        "tars": attr.label_list(allow_files = [".tar", ".tar.gz"]),
    } | _OPTIONS | _LAYOUT,
)

_SCRIPT = """\
#!/bin/sh
exec "{program}" {arguments} "$@"
"""

def _run_script(ctx, arguments, files):
    """Makes the target run its program with these arguments, and then those of `bazel run`."""
    program = ctx.file._program
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    content = _SCRIPT.format(
        arguments = " ".join(["'{}'".format(argument) for argument in arguments]),
        program = program.short_path,
    )
    ctx.actions.write(script, content, is_executable = True)
    return DefaultInfo(executable = script, runfiles = ctx.runfiles(files + [program]))

def _load_impl(ctx):
    tarball = ctx.actions.declare_file(ctx.label.name + "/tarball.tar")
    arguments = ctx.actions.args()
    arguments.add("archive")
    arguments.add_all(["--image", ctx.file.image], expand_directories = False)
    arguments.add("--output", tarball)
    arguments.add("--repo_tags", ctx.file.repo_tags)
    ctx.actions.run(
        executable = ctx.executable._layout,
        arguments = [arguments],
        inputs = [ctx.file.image, ctx.file.repo_tags],
        outputs = [tarball],
        execution_requirements = _REQUIREMENTS,
        mnemonic = "OciArchive",
        progress_message = "Packing the image %{label}",
    )
    return [
        _run_script(ctx, [tarball.short_path], [tarball]),
        OutputGroupInfo(tarball = depset([tarball])),
    ]

load_image = rule(
    implementation = _load_impl,
    attrs = {
        "image": attr.label(allow_single_file = True, mandatory = True),
        "repo_tags": attr.label(allow_single_file = True, mandatory = True),
        "_program": attr.label(allow_single_file = True, default = "//oci/private:load.sh"),
    } | _LAYOUT,
    executable = True,
)

def _push_impl(ctx):
    files = [ctx.file.image, ctx.file.remote_tags]
    arguments = [file.short_path for file in files] + [ctx.attr.repository]
    return _run_script(ctx, arguments, files)

push_image = rule(
    implementation = _push_impl,
    attrs = {
        "image": attr.label(allow_single_file = True, mandatory = True),
        "remote_tags": attr.label(allow_single_file = True, mandatory = True),
        "repository": attr.string(mandatory = True),
        "_program": attr.label(allow_single_file = True, default = "//oci/private:push.sh"),
    },
    executable = True,
)

def _lines_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".txt")
    ctx.actions.write(output, "".join([line + "\n" for line in ctx.attr.lines]))
    return DefaultInfo(files = depset([output]))

lines = rule(
    implementation = _lines_impl,
    doc = "A text file of these lines.",
    attrs = {"lines": attr.string_list()},
)
