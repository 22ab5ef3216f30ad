"""What @bazel_tools and rule sets load from here, as Bazel 7 has it built in."""

py_binary = native.py_binary
py_library = native.py_library
py_runtime = native.py_runtime
py_test = native.py_test
