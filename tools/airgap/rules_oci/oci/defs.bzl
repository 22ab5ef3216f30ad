"""oci_image, oci_load and oci_push, as far as the images here use those of rules_oci.

`labels` is a file; `repo_tags` and `remote_tags` are lists or files.
"""

load("//oci/private:image.bzl", "image", "lines", "load_image", "push_image")

def oci_image(name, **kwargs):
    """One image: the directory NAME in OCI layout, and NAME.digest.

    Args:
        name: of the target.
        **kwargs: base, tars, os, architecture, user, workdir, entrypoint, cmd, env, labels.
    """
    image(name = name, **kwargs)
    _digest(name, **kwargs)

def oci_load(name, image, repo_tags, **kwargs):
    """`bazel run` loads the image into docker or podman; the output group `tarball` is the archive.

    Args:
        name: of the target.
        image: an oci_image.
        repo_tags: a list of NAME:TAG, or a file of them.
        **kwargs: as for any rule.
    """
    load_image(
        name = name,
        image = image,
        repo_tags = _file(name + "_repo_tags", repo_tags),
        **kwargs
    )

def oci_push(name, image, repository, remote_tags = [], **kwargs):
    """`bazel run` pushes the image, with skopeo.

    Args:
        name: of the target.
        image: an oci_image.
        repository: where to, without a tag.
        remote_tags: a list of tags, or a file of them.
        **kwargs: as for any rule.
    """
    push_image(
        name = name,
        image = image,
        remote_tags = _file(name + "_remote_tags", remote_tags),
        repository = repository,
        **kwargs
    )

def _digest(name, visibility = None, tags = [], testonly = False, **_kwargs):
    native.filegroup(
        name = name + ".digest",
        srcs = [":" + name],
        output_group = "digest",
        tags = tags,
        testonly = testonly,
        visibility = visibility,
    )

def _file(name, value):
    """Returns the label of a file: the one given, or one of the given lines."""
    if type(value) == "string":
        return value
    lines(name = name, lines = value)
    return ":" + name
