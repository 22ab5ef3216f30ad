"""PyInfo, as Bazel 7 has it built in."""

load("//python/private:builtin_py_info.bzl", "BuiltinPyInfo")

PyInfo = BuiltinPyInfo
