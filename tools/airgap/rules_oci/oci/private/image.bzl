"""The rules behind @rules_oci//oci:defs.bzl."""

_LAYOUT = {
    "_layout": attr.label(
        cfg = "exec",
        default = "//oci/private:layout",
        executable = True,
    ),
}

# The attributes of oci_image that change the image's configuration.
_OPTIONS = {
    "annotations": attr.string_dict(),
    "architecture": attr.string(),
    "cmd": attr.string_list(),
    "entrypoint": attr.string_list(),
    "env": attr.string_dict(),
    "exposed_ports": attr.string_list(),
    "labels": attr.string_dict(),
    "os": attr.string(),
    "user": attr.string(),
    "variant": attr.string(),
    "volumes": attr.string_list(),
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
    if ctx.file.created:
        arguments.add("--created", ctx.file.created)
    arguments.add("--digest", digest)
    arguments.add("--options", options)
    arguments.add_all(["--output", output], expand_directories = False)
    arguments.add_all(ctx.files.tars)
    inputs = [options] + ctx.files.tars + ctx.files.base + ctx.files.created
    ctx.actions.run(
        executable = ctx.executable._layout,
        arguments = [arguments],
        inputs = inputs,
        outputs = [output, digest],
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
        "created": attr.label(allow_single_file = True),
        "tars": attr.label_list(allow_files = [".tar", ".tar.gz", ".tgz"]),
    } | _OPTIONS | _LAYOUT,
)

def _index_impl(ctx):
    output = ctx.actions.declare_directory(ctx.label.name)
    digest = ctx.actions.declare_file(ctx.label.name + ".digest")
    arguments = ctx.actions.args()
    arguments.add("index")
    arguments.add("--digest", digest)
    arguments.add_all(["--output", output] + ctx.files.images, expand_directories = False)
    ctx.actions.run(
        executable = ctx.executable._layout,
        arguments = [arguments],
        inputs = ctx.files.images,
        outputs = [output, digest],
        mnemonic = "OciIndex",
        progress_message = "Writing the image index %{label}",
    )
    return [
        DefaultInfo(files = depset([output]), runfiles = ctx.runfiles([output])),
        OutputGroupInfo(digest = depset([digest])),
    ]

image_index = rule(
    implementation = _index_impl,
    attrs = {
        "images": attr.label_list(mandatory = True),
    } | _LAYOUT,
)

_LOAD = """\
#!/bin/sh
# Loads the image into this machine's container engine.
set -eu
for engine in {engines}; do
  if command -v "$engine" >/dev/null; then
    exec "$engine" load --input "{tarball}"
  fi
done
echo "no container engine is on PATH (looked for: {engines}): install one, then try again" >&2
exit 1
"""

def _load_impl(ctx):
    if ctx.attr.format != "docker":
        fail("this stand-in of oci_load writes the docker format only")
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
        mnemonic = "OciArchive",
        progress_message = "Packing the image %{label}",
    )
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    ctx.actions.write(
        script,
        _LOAD.format(engines = ctx.attr.engines, tarball = tarball.short_path),
        is_executable = True,
    )
    return [
        DefaultInfo(executable = script, runfiles = ctx.runfiles([tarball])),
        OutputGroupInfo(tarball = depset([tarball])),
    ]

load_image = rule(
    implementation = _load_impl,
    attrs = {
        "engines": attr.string(default = "docker podman nerdctl"),
        "format": attr.string(default = "docker"),
        "image": attr.label(allow_single_file = True, mandatory = True),
        "repo_tags": attr.label(allow_single_file = True, mandatory = True),
    } | _LAYOUT,
    executable = True,
)

_PUSH = """\
#!/bin/sh
# Pushes the image with this machine's skopeo. Arguments: --tag TAG, --repository REPOSITORY.
set -eu
repository="{repository}"
tags=$(cat "{tags}")
while [ $# -gt 0 ]; do
  case $1 in
    -t | --tag) tags="$tags $2" ;;
    -r | --repository) repository=$2 ;;
    *) echo "unknown argument: $1" >&2; exit 2 ;;
  esac
  shift 2
done
command -v skopeo >/dev/null || {{
  echo "skopeo is not on PATH (on Debian: apt-get install skopeo); it pushes images" >&2
  exit 1
}}
[ -n "$tags" ] || {{ echo "no tag: give remote_tags, or --tag TAG" >&2; exit 2; }}
for tag in $tags; do
  skopeo copy --all "oci:{image}" "docker://$repository:$tag"
done
"""

def _push_impl(ctx):
    script = ctx.actions.declare_file(ctx.label.name + ".sh")
    content = _PUSH.format(
        image = ctx.file.image.short_path,
        repository = ctx.attr.repository,
        tags = ctx.file.remote_tags.short_path,
    )
    ctx.actions.write(script, content, is_executable = True)
    runfiles = ctx.runfiles([ctx.file.image, ctx.file.remote_tags])
    return DefaultInfo(executable = script, runfiles = runfiles)

push_image = rule(
    implementation = _push_impl,
    attrs = {
        "image": attr.label(allow_single_file = True, mandatory = True),
        "remote_tags": attr.label(allow_single_file = True, mandatory = True),
        "repository": attr.string(mandatory = True),
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
