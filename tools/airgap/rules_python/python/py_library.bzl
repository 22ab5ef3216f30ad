"""The py_library that Bazel 7 has built in."""

py_library = native.py_library
