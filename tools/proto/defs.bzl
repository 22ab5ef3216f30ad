"""Code and descriptors from protos: py_grpc_library and descriptor_set."""

load("@rules_proto//proto:defs.bzl", "ProtoInfo")
load("@rules_python//python:py_info.bzl", "PyInfo")

_SUFFIXES = ["_pb2.py", "_pb2_grpc.py", "_pb2.pyi", "_pb2_grpc.pyi"]

_PROTOC = {
    "_protoc": attr.label(
        cfg = "exec",
        default = "//tools/proto:protoc",
        executable = True,
    ),
}

def _import_paths(proto):
    """Returns the paths by which other protos import the direct sources of a ProtoInfo."""
    root = proto.proto_source_root + "/"
    return [source.path.removeprefix(root) for source in proto.direct_sources]

def _python_root(ctx, import_path):
    """Returns the directory, from the workspace's root, that Python imports the code from."""
    directory = import_path.rpartition("/")[0]
    if not ("/" + ctx.label.package).endswith("/" + directory):
        fail("{} is imported as {}: its path must end in its package".format(
            ctx.label,
            import_path,
        ))
    return ctx.label.package.removesuffix(directory).removesuffix("/")

def _generate(ctx, proto):
    """Runs protoc; returns the root of the code and the files."""
    paths = _import_paths(proto)
    root = _python_root(ctx, paths[0])
    outputs = [
        ctx.actions.declare_file(path.rpartition("/")[2].removesuffix(".proto") + suffix)
        for path in paths
        for suffix in _SUFFIXES
    ]
    output = "/".join([part for part in [ctx.bin_dir.path, ctx.label.workspace_root, root] if part])
    plugins = [ctx.attr._mypy[DefaultInfo], ctx.attr._mypy_grpc[DefaultInfo]]

    arguments = ctx.actions.args()
    arguments.add_all(proto.transitive_proto_path, format_each = "-I%s")
    for language in ["python", "grpc_python"]:
        arguments.add(output, format = "--{}_out=%s".format(language))
    for language, plugin in zip(["mypy", "mypy_grpc"], plugins):
        program = plugin.files_to_run.executable
        arguments.add(program, format = "--plugin=protoc-gen-{}=%s".format(language))
        arguments.add(output, format = "--{}_out=quiet:%s".format(language))
    arguments.add_all(paths)
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [arguments],
        inputs = proto.transitive_sources,
        outputs = outputs,
        tools = [plugin.files_to_run for plugin in plugins],
        mnemonic = "PyGrpcProto",
        progress_message = "Generating Python for %{label}",
    )
    return root, outputs

def _py_grpc_library_impl(ctx):
    root, outputs = _generate(ctx, ctx.attr.proto[ProtoInfo])
    modules = [file for file in outputs if file.extension == "py"]
    stubs = [file for file in outputs if file.extension == "pyi"]
    deps = ctx.attr.deps + ctx.attr._runtime
    runfiles = ctx.runfiles(files = modules).merge_all(
        [dep[DefaultInfo].default_runfiles for dep in deps],
    )
    return [
        DefaultInfo(files = depset(modules), runfiles = runfiles),
        OutputGroupInfo(stubs = depset(stubs)),
        PyInfo(
            imports = depset(
                ["/".join([part for part in [ctx.workspace_name, root] if part])],
                transitive = [dep[PyInfo].imports for dep in deps],
            ),
            transitive_sources = depset(
                modules,
                transitive = [dep[PyInfo].transitive_sources for dep in deps],
            ),
        ),
    ]

py_grpc_library = rule(
    implementation = _py_grpc_library_impl,
    doc = """Python modules of a proto_library: X_pb2 and X_pb2_grpc for each X.proto.

A proto at proto/a/v1/x.proto, imported by protos as a/v1/x.proto, is imported by Python as
`from a.v1 import x_pb2`. The output group `stubs` has the type stubs (.pyi).""",
    attrs = {
        "deps": attr.label_list(
            doc = "The py_grpc_library of each proto_library that `proto` depends on.",
            providers = [PyInfo],
        ),
        "proto": attr.label(
            mandatory = True,
            providers = [ProtoInfo],
        ),
        "_mypy": attr.label(
            cfg = "exec",
            default = "//tools/proto:protoc_gen_mypy",
            executable = True,
        ),
        "_mypy_grpc": attr.label(
            cfg = "exec",
            default = "//tools/proto:protoc_gen_mypy_grpc",
            executable = True,
        ),
        "_runtime": attr.label_list(
            default = [
                "@pydeps//googleapis_common_protos",
                "@pydeps//grpcio",
                "@pydeps//protobuf",
            ],
        ),
    } | _PROTOC,
)

def _descriptor_set_impl(ctx):
    protos = [target[ProtoInfo] for target in ctx.attr.protos]
    output = ctx.actions.declare_file(ctx.label.name + ".binpb")
    arguments = ctx.actions.args()
    for proto in protos:
        arguments.add_all(proto.transitive_proto_path, format_each = "-I%s")
    arguments.add("--include_imports")
    arguments.add("--include_source_info")
    arguments.add(output, format = "--descriptor_set_out=%s")
    for proto in protos:
        arguments.add_all(_import_paths(proto))
    ctx.actions.run(
        executable = ctx.executable._protoc,
        arguments = [arguments],
        inputs = depset(transitive = [proto.transitive_sources for proto in protos]),
        outputs = [output],
        mnemonic = "DescriptorSet",
        progress_message = "Writing descriptors for %{label}",
    )
    return DefaultInfo(files = depset([output]), runfiles = ctx.runfiles([output]))

descriptor_set = rule(
    implementation = _descriptor_set_impl,
    doc = """One google.protobuf.FileDescriptorSet, NAME.binpb: the protos, all that they import, and
their comments (source info).""",
    attrs = {
        "protos": attr.label_list(
            allow_empty = False,
            mandatory = True,
            providers = [ProtoInfo],
        ),
    } | _PROTOC,
)
