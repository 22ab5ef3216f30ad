"""What packages hand to the linters, and the linters as tests."""

load("@rules_python//python:py_test.bzl", "py_test")

_PATTERNS = [
    "*.bazel",
    "*.bzl",
    "*.md",
    "*.proto",
    "*.py",
    "*.pyi",
    "*.sh",
]

def _python_targets_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".json")
    ctx.actions.write(output, ctx.attr.content)
    return DefaultInfo(files = depset([output]))

_python_targets = rule(
    implementation = _python_targets_impl,
    attrs = {"content": attr.string(mandatory = True)},
)

def _describe_label(label):
    label = native.package_relative_label(label)
    if label.repo_name:
        return "@pydeps//" + label.package
    return "//{}:{}".format(label.package, label.name)

def _describe_python_targets():
    """Returns the Python targets above in the BUILD file, with their srcs as paths."""
    return [
        {
            "deps": [_describe_label(dep) for dep in target["deps"]],
            "label": _describe_label(target["name"]),
            "srcs": [_describe_label(src).strip("/").replace(":", "/") for src in target["srcs"]],
        }
        for target in native.existing_rules().values()
        if target["kind"] in ["py_binary", "py_library", "py_test"]
    ]

def lint_sources(name = "lint_sources", srcs = []):
    """Offers this package's files, and what its Python targets say, to //tools/lint.

    Each BUILD file ends with a call of it, and //tools/lint lists the package.

    Args:
        name: leave it as it is.
        srcs: further files, in folders of the package that are no package themselves.
    """
    _python_targets(
        name = name + "_python_targets",
        content = json.encode(_describe_python_targets()),
    )
    native.filegroup(
        name = name,
        srcs = native.glob(_PATTERNS, allow_empty = True) + srcs + [name + "_python_targets"],
        visibility = ["//tools/lint:__pkg__"],
    )

def _files_of_kind_impl(ctx):
    files = [file for file in ctx.files.srcs if file.extension in ctx.attr.extensions]
    return DefaultInfo(files = depset(files), runfiles = ctx.runfiles(files))

files_of_kind = rule(
    implementation = _files_of_kind_impl,
    doc = "The files of `srcs` with these extensions.",
    attrs = {
        "extensions": attr.string_list(mandatory = True),
        "srcs": attr.label_list(allow_files = True),
    },
)

def lint_test(name, srcs, command, data = [], deps = [], **kwargs):
    """A test that runs a linter over files, and reports how to fix what it finds.

    Args:
        name: of the test.
        srcs: labels whose files are the last arguments of the command.
        command: the program and its options; a plain name is a program of a wheel in `deps`.
        data: what else the command reads.
        deps: wheels.
        **kwargs: as for py_test.
    """
    py_test(
        name = name,
        size = "small",
        srcs = ["check.py"],
        args = command + ["$(rootpaths {})".format(src) for src in srcs],
        data = data + srcs + ["//:pyproject.toml"],
        main = "check.py",
        tags = ["lint"],
        deps = deps + ["//tools/python:programs"],
        **kwargs
    )
