"""What a package hands to the linters: one call of lint_sources() in each BUILD file."""

_PATTERNS = [
    "*.bazel",
    "*.bzl",
    "*.proto",
    "*.py",
    "*.pyi",
]

def lint_sources(srcs = []):
    """Offers this package's files to //tools/lint, where the package is listed.

    Args:
        srcs: further files, in folders of the package that are no package.
    """
    native.filegroup(
        name = "lint_sources",
        srcs = native.glob(_PATTERNS, allow_empty = True) + srcs,
        visibility = ["//tools/lint:__pkg__"],
    )
