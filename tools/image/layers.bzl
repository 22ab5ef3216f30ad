"""py_layers: the runfiles of a py_binary as layers of an image."""

_TOOLCHAIN = "@bazel_tools//tools/python:toolchain_type"
_EXTERNAL = "../"

def _list_runfiles(runfiles):
    """Returns structs of files and of where they are, seen from the workspace's own runfiles."""
    found = [struct(file = file, path = file.short_path) for file in runfiles.files.to_list()]
    for link in runfiles.symlinks.to_list():
        found.append(struct(file = link.target_file, path = link.path))
    for link in runfiles.root_symlinks.to_list():
        found.append(struct(file = link.target_file, path = _EXTERNAL + link.path))
    return found

def _describe(entry):
    return [entry.path, entry.file.path]

def _write_layer(ctx, name, entries, python = None):
    """Declares a layer with these entries and, if given, a link to that interpreter."""
    layer = ctx.actions.declare_file("{}/{}.tar.gz".format(ctx.label.name, name))
    arguments = ctx.actions.args()
    arguments.use_param_file("@%s", use_always = True)
    arguments.set_param_file_format("multiline")
    arguments.add("--output", layer)
    arguments.add("--workspace", ctx.workspace_name)
    if python:
        arguments.add("--python", python.short_path)
    arguments.add_all("--files", entries, map_each = _describe)
    ctx.actions.run(
        executable = ctx.executable._write_layer,
        arguments = [arguments],
        inputs = [entry.file for entry in entries],
        outputs = [layer],
        mnemonic = "PyLayer",
        progress_message = "Writing the layer {} of %{{label}}".format(name),
    )
    return layer

def _py_layers_impl(ctx):
    entries = _list_runfiles(ctx.attr.binary[DefaultInfo].default_runfiles)

    # A Python of the machine belongs to the base image, and has no files.
    runtime = ctx.toolchains[_TOOLCHAIN].py3_runtime
    python = runtime.interpreter
    root = _EXTERNAL + python.owner.repo_name + "/" if python else "none"
    files = runtime.files.to_list() if python else []
    interpreter = [struct(file = file, path = file.short_path) for file in files]
    rest = [entry for entry in entries if not entry.path.startswith(root)]
    wheels = [entry for entry in rest if entry.path.startswith(_EXTERNAL)]
    application = [entry for entry in rest if not entry.path.startswith(_EXTERNAL)]
    layers = [
        _write_layer(ctx, "interpreter", interpreter, python),
        _write_layer(ctx, "wheels", wheels),
        _write_layer(ctx, "application", application),
    ]
    return [
        DefaultInfo(files = depset(layers, order = "preorder")),
        OutputGroupInfo(wheels = depset([layers[1]])),
    ]

py_layers = rule(
    implementation = _py_layers_impl,
    doc = """Three layers, those that change least first: the interpreter, wheels, the application.

The interpreter is that of the Python toolchain, and its layer is empty where that is a Python of the
machine. The files are where the runfiles of the binary are, below /app.runfiles.""",
    attrs = {
        "binary": attr.label(
            doc = "A py_binary.",
            mandatory = True,
        ),
        "_write_layer": attr.label(
            cfg = "exec",
            default = "//tools/image:write_layer",
            executable = True,
        ),
    },
    toolchains = [_TOOLCHAIN],
)
