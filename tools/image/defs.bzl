"""program_image: a py_binary as an image."""

load("@rules_oci//oci:defs.bzl", "oci_image", "oci_load", "oci_push")
load(":layers.bzl", "py_layers")

def program_image(name, binary, base = "@cc_debian12", visibility = None):
    """An image that runs a py_binary of the same package as a user that is not root.

    Its root may be read-only. A `tmpfs` on /tmp keeps compiled modules, so that health commands start
    sooner.

    `bazel run :load` loads it into docker or podman, as bazaar/BINARY:latest. `bazel run :push` pushes
    it with the commit as its tag; `-- --repository REGISTRY/bazaar/BINARY --tag TAG` say otherwise.
    NAME.cdx.json is its software bill of materials, in CycloneDX. NAME_archive/tarball.tar, of NAME.tar,
    is what tests load: its only tag is its digest, so that a test never runs another build's image.

    Args:
        name: of the oci_image; NAME.digest is its digest, NAME_layers are its layers.
        binary: the label of the py_binary, such as ":order".
        base: an image with C libraries; the default has no shell.
        visibility: of the image.
    """
    program = native.package_relative_label(binary)
    repository = "bazaar/" + program.name

    # Whoever builds or tests everything need not wait for images: see --config=images in .bazelrc.
    tags = ["manual"]
    py_layers(
        name = name + "_layers",
        binary = binary,
        tags = tags,
    )
    oci_image(
        name = name,
        base = base,
        entrypoint = [
            "/usr/bin/python3",
            "/app.runfiles/_main/{}/{}".format(program.package, program.name),
        ],
        env = {
            "PYTHONPYCACHEPREFIX": "/tmp/pycache",
            "PYTHONUNBUFFERED": "1",
        },
        labels = "//tools/image:labels",
        tags = tags,
        tars = [":{}_layers".format(name)],
        user = "65532:65532",
        visibility = visibility,
        workdir = "/",
    )
    native.filegroup(
        name = name + "_wheels",
        srcs = [":{}_layers".format(name)],
        output_group = "wheels",
        tags = tags,
    )
    native.genrule(
        name = name + "_sbom",
        srcs = [
            ":{}_wheels".format(name),
            "//:requirements_lock.txt",
        ],
        outs = [name + ".cdx.json"],
        cmd = " ".join([
            "$(execpath //tools/image:sbom)",
            "--image=" + repository,
            "--lock=$(execpath //:requirements_lock.txt)",
            "--output=$@",
            "$(execpath :{}_wheels)".format(name),
        ]),
        tags = tags,
        tools = ["//tools/image:sbom"],
        visibility = visibility,
    )
    oci_load(
        name = "load",
        image = ":" + name,
        repo_tags = [repository + ":latest"],
        tags = tags,
    )
    native.genrule(
        name = name + "_digest_tag",
        srcs = [":{}.digest".format(name)],
        outs = [name + "_digest_tag.txt"],
        cmd = "sed 's|^sha256|{}|' $< >$@".format(repository),
        tags = tags,
    )
    oci_load(
        name = name + "_archive",
        image = ":" + name,
        repo_tags = ":{}_digest_tag.txt".format(name),
        tags = tags,
    )
    native.filegroup(
        name = name + ".tar",
        srcs = [":{}_archive".format(name)],
        output_group = "tarball",
        tags = tags,
        visibility = visibility,
    )
    oci_push(
        name = "push",
        image = ":" + name,
        remote_tags = "//tools/image:tags",
        repository = "localhost:5000/" + repository,
        tags = tags,
    )
