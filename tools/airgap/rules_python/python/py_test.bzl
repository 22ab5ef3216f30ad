"""The py_test that Bazel 7 has built in."""

py_test = native.py_test
