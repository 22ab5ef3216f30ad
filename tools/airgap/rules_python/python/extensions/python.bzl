"""python.toolchain: this machine's Python of the version that the root module asks for."""

load("//python/private:machine_python.bzl", "machine_python")

def _python_impl(mctx):
    versions = [
        tag.python_version
        for module in mctx.modules
        for tag in module.tags.toolchain
        if module.is_root
    ]
    if len(versions) != 1:
        fail("the stand-in rules_python takes exactly one python.toolchain, of the root module")
    machine_python(name = "machine_python", python_version = versions[0])

python = module_extension(
    implementation = _python_impl,
    tag_classes = {
        "defaults": tag_class(attrs = {"python_version": attr.string()}),
        "toolchain": tag_class(attrs = {
            "is_default": attr.bool(),
            "python_version": attr.string(mandatory = True),
        }),
    },
)
