"""The py_binary that Bazel 7 has built in."""

py_binary = native.py_binary
