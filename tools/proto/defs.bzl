"""Code and descriptors from protos: py_grpc_library and descriptor_set."""

load("@rules_proto//proto:defs.bzl", "ProtoInfo")
load("@rules_python//python:py_library.bzl", "py_library")

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

def _py_grpc_sources_impl(ctx):
    proto = ctx.attr.proto[ProtoInfo]
    paths = _import_paths(proto)
    for path in paths:
        if path.rpartition("/")[0] != ctx.label.package.removeprefix(ctx.attr.root + "/"):
            fail("{} is imported as {}: set strip_import_prefix = \"/{}\" in its proto_library".format(
                ctx.label,
                path,
                ctx.attr.root,
            ))
    outputs = [
        ctx.actions.declare_file(path.rpartition("/")[2].removesuffix(".proto") + suffix)
        for path in paths
        for suffix in _SUFFIXES
    ]
    roots = [ctx.bin_dir.path, ctx.label.workspace_root, ctx.attr.root]
    output = "/".join([part for part in roots if part])
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
    return [
        DefaultInfo(files = depset([file for file in outputs if file.extension == "py"])),
        OutputGroupInfo(stubs = depset([file for file in outputs if file.extension == "pyi"])),
    ]

_py_grpc_sources = rule(
    implementation = _py_grpc_sources_impl,
    doc = "The modules that protoc makes of a proto_library; the output group `stubs` has their types.",
    attrs = {
        "proto": attr.label(
            mandatory = True,
            providers = [ProtoInfo],
        ),
        "root": attr.string(
            doc = "The directory, from the workspace's root, that Python and protos import from.",
            mandatory = True,
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
    } | _PROTOC,
)

def py_grpc_library(name, proto, deps = [], **kwargs):
    """A py_library of X_pb2 and X_pb2_grpc for each X.proto of a proto_library.

    A proto at proto/a/v1/x.proto, imported by protos as a/v1/x.proto, is imported by Python as
    `from a.v1 import x_pb2`: both are relative to the innermost folder named `proto`. The output
    group `stubs` of NAME_sources has the type stubs (.pyi).

    Args:
        name: of the py_library.
        proto: the proto_library.
        deps: the py_grpc_library of each proto_library that `proto` depends on.
        **kwargs: of both targets, such as visibility.
    """
    root, folder, directory = ("/" + native.package_name()).rpartition("/proto/")
    if not folder:
        fail("//{} has a py_grpc_library and is in no folder `proto`".format(native.package_name()))
    _py_grpc_sources(
        name = name + "_sources",
        proto = proto,
        root = (root + "/proto").removeprefix("/"),
        **kwargs
    )
    py_library(
        name = name,
        srcs = [name + "_sources"],
        imports = ["/".join([".." for _ in directory.split("/")])],
        deps = deps + [
            "@pydeps//googleapis_common_protos",
            "@pydeps//grpcio",
            "@pydeps//protobuf",
        ],
        **kwargs
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
