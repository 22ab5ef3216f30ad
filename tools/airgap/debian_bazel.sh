#!/usr/bin/env bash
# Makes a private Bazel out of Debian's packages, for machines that reach a Debian mirror but not the Bazel
# release site. Nothing outside PREFIX is changed and no privilege is needed.
# usage: debian_bazel.sh VERSION PREFIX        makes PREFIX/bazel, whole or not at all
set -euo pipefail

readonly version=${1:?usage: debian_bazel.sh VERSION PREFIX} prefix=${2:?usage: debian_bazel.sh VERSION PREFIX}
readonly suite=sid # Only unstable has Bazel.
readonly needed_megabytes=3000 # 1 GB while it is made; the rest is for the first build.

# What the closure of bazel-bootstrap has and only compiling, or Debian's own set-up, would want.
readonly unwanted='gcc|g\+\+|cpp|libgcc-[0-9]|libstdc\+\+-[0-9]|perl|libperl[0-9]|binutils|make$|patch$|bats|
build-ess|openjdk-.*-jdk|default-jdk|dpkg|python3|libpython|lib(a|t|ub|l|hwa)san|linux-libc|libc-dev|
libc6-dev|libc-gconv|debconf|libpam|util-linux|node-|libjs-'

say() { printf 'bazelw: %s\n' "$*" >&2; }

die() {
  say "$@"
  exit 1
}

check_machine() {
  local free parent
  parent=$(dirname "$prefix")
  free=$(df -Pm "$parent" | awk 'NR == 2 { print $4 }')
  ((free >= needed_megabytes)) ||
    die "$parent has $free MB free and the build needs $needed_megabytes:" \
      "make room, or set XDG_CACHE_HOME to a directory on a larger disk."
}

check_version() {
  local found
  found=$(apt-cache show --no-all-versions bazel-bootstrap 2>/dev/null | awk '/^Version:/ { print $2 }')
  case $found in
    "$version" | "$version"[-+~]*) ;;
    *)
      die "Debian's $suite suite has Bazel ${found:-no more} and .bazelversion pins $version." \
        "Put bazelisk or Bazel $version on PATH, or move .bazelversion and tools/airgap to that version."
      ;;
  esac
}

list_packages() {
  # libblake3-0 is a dependency that the package forgets; patchelf is for relocate_programs.
  apt-get -y --print-uris install bazel-bootstrap libblake3-0 patchelf |
    awk '/^'\''/ { sub(/_.*/, "", $2); print $2 }' |
    grep -vE "^(${unwanted//$'\n'/})"
}

unpack() {
  local debs=$work/debs packages
  mkdir -p "$debs" "$root"
  mapfile -t packages < <(list_packages)
  packages+=(python3-pip) # Pure Python; for machines whose Python comes without.
  say "fetching ${#packages[@]} packages"
  (cd "$debs" && apt-get -qq download "${packages[@]}" >&2) ||
    die "Debian's packages could not be fetched: see above."
  say "unpacking"
  printf '%s\0' "$debs"/*.deb | xargs -0 -P "$(nproc)" -I '{}' dpkg-deb -x '{}' "$root"
  rm -rf "$debs" "$root"/usr/share/{doc,man,locale,info,lintian}
}

# The packages' absolute links and jar paths are made to point into the prefix.
relocate_files() {
  local link target jar jars=$root/usr/share/bazel/bazel_classpath_debian_depends.txt
  while IFS= read -r -d '' link; do
    target=$(readlink "$link")
    if [[ -e $root$target ]]; then ln -sfnr "$root$target" "$link"; fi
  done < <(find "$root" -type l -lname '/*' -print0)
  sed -i "s#^/usr/share/java#$prefix/root/usr/share/java#" "$jars"
  for jar in perfmark-api perfmark-impl; do # Only a manifest's absolute Class-Path names these.
    printf '%s\n' "$prefix/root/usr/share/java/$jar.jar" >>"$jars"
  done
}

# The programs run with the packages' own C library, whatever the machine's is.
relocate_programs() {
  local loader libraries java program
  loader=$(find "$root/usr/lib" -name 'ld-linux-*.so.*' | head -n 1)
  libraries=$(dirname "$loader")
  java=$(dirname "$(dirname "$(find "$root/usr/lib/jvm" -path '*/bin/java' -type f | head -n 1)")")
  ln -s "${java#"$work"/}" "$work/java"
  for program in "$root/usr/bin/bazel" "$root"/usr/libexec/*/bazel/* "$java"/{bin/java,lib/jspawnhelper}; do
    "$loader" --library-path "$libraries" "$root/usr/bin/patchelf" \
      --set-interpreter "$prefix${loader#"$work"}" --force-rpath \
      --set-rpath "$prefix/java/lib:$prefix/java/lib/server:$prefix${libraries#"$work"}" "$program"
  done
}

# The modules that Debian ships as they are; tools/airgap has the rest.
write_launcher() {
  local share=$prefix/root/usr/share/bazel
  cat >"$work/bazelrc" <<RC
startup --install_base=$share
startup --trust_install_base
common --config=airgap
common:airgap --repo_env=FALLBACK_PIP=$prefix/root/usr/lib/python3/dist-packages
common:airgap --override_module=bazel_features=$share/tools/features
common:airgap --override_module=bazel_skylib=$share/tools/skylib
common:airgap --override_module=platforms=$share/tools/platforms
common:airgap --override_module=rules_cc=$share/rules/cc
common:airgap --override_module=rules_java=$share/rules/java
common:airgap --override_module=rules_license=$share/rules/license
common:airgap --override_module=rules_proto=$share/rules/proto
RC
  cat >"$work/bazel" <<SH
#!/bin/sh
exec '$prefix/root/usr/bin/bazel' --bazelrc='$prefix/bazelrc' --server_javabase='$prefix/java' "\$@"
SH
  chmod +x "$work/bazel"
}

# The paths inside are those of PREFIX: only there can it be tried.
publish() {
  local output
  rm -rf "$work/apt"
  mv -T "$work" "$prefix"
  if ! output=$("$prefix/bazel" --version 2>&1) || [[ $output != "bazel $version" ]]; then
    rm -rf "$prefix"
    die "Bazel from Debian's packages does not run here: $output"
  fi
}

main() {
  check_machine
  rm -rf "$prefix".?????? # What a killed run left; bazelw holds the lock.
  work=$(mktemp -d "$prefix.XXXXXX")
  root=$work/root
  readonly work root
  trap 'rm -rf "$work"' EXIT
  say "making Bazel $version from Debian's packages, once (about a minute, 600 MB)"
  "$(dirname "${BASH_SOURCE[0]}")/apt.sh" "$suite" "$work/apt" ||
    die "Bazel cannot be had from Debian: see above. Put bazelisk or Bazel $version on PATH."
  export APT_CONFIG=$work/apt/apt.conf
  check_version
  unpack
  relocate_files
  relocate_programs
  write_launcher
  publish
  say "Bazel $version is in $prefix"
}

main
