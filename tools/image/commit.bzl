"""commit_file: the commit that is built, as one line."""

def _commit_file_impl(ctx):
    output = ctx.actions.declare_file(ctx.label.name + ".txt")
    ctx.actions.run_shell(
        # Of the status, only the lines that begin with STABLE_ are in this file.
        command = """sed -n "s/^STABLE_GIT_COMMIT /$1/p" "$2" >"$3" && test -s "$3" """,
        arguments = [ctx.attr.prefix, ctx.info_file.path, output.path],
        inputs = [ctx.info_file],
        outputs = [output],
        mnemonic = "CommitFile",
    )
    return DefaultInfo(files = depset([output]))

commit_file = rule(
    implementation = _commit_file_impl,
    doc = "A file with one line, of `prefix` and what workspace_status.sh says.",
    attrs = {"prefix": attr.string()},
)
