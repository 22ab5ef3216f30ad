"""bool_flag: a setting of the build that is true or false."""

bool_flag = rule(
    implementation = lambda ctx: [],
    build_setting = config.bool(flag = True),
)
