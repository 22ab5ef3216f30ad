"""pip.parse: the locked wheels, fetched and checked by this machine's pip."""

load("//python/private:wheels.bzl", "wheels")

def _pip_impl(mctx):
    for module in mctx.modules:
        for tag in module.tags.parse:
            wheels(
                name = tag.hub_name,
                python_version = tag.python_version,
                requirements_lock = tag.requirements_lock,
            )

pip = module_extension(
    implementation = _pip_impl,
    tag_classes = {
        "parse": tag_class(attrs = {
            "hub_name": attr.string(mandatory = True),
            "python_version": attr.string(mandatory = True),
            "requirements_lock": attr.label(mandatory = True),
        }),
    },
)
