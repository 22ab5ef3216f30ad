#!/usr/bin/env bash
# Sets up an apt of its own, of one suite of Debian, whatever the suite of this machine. No privilege is needed,
# and nothing outside DIRECTORY is changed. apt-get and apt-cache use it with APT_CONFIG=DIRECTORY/apt.conf.
# usage: apt.sh SUITE DIRECTORY
set -euo pipefail

readonly suite=${1:?usage: apt.sh SUITE DIRECTORY} directory=${2:?usage: apt.sh SUITE DIRECTORY}
readonly keyring=/usr/share/keyrings/debian-archive-keyring.gpg

die() {
  printf 'apt.sh: %s\n' "$*" >&2
  exit 1
}

check_machine() {
  local program
  for program in apt-get apt-cache dpkg-deb; do
    type -P "$program" >/dev/null || die "$program is missing: this is not a Debian system."
  done
  [[ -r $keyring ]] || die "$keyring is missing: install the package debian-archive-keyring."
}

# Prints the mirrors that apt is set up for; without package lists, it cannot say whose they are.
list_mirrors() {
  # shellcheck disable=SC2016
  apt-get "$@" indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    awk '$1 == "Debian" { print $2 }' | sort -u
}

find_mirrors() {
  local lists=$directory/machine-lists mirrors
  mirrors=$(list_mirrors)
  if [[ -z $mirrors ]]; then # A fresh container image has no lists yet.
    mkdir -p "$lists/partial"
    apt-get -qq -o "Dir::State::lists=$lists" update >&2 || true
    mirrors=$(list_mirrors -o "Dir::State::lists=$lists")
  fi
  printf '%s\n' "$mirrors"
}

# Stable suites have security updates on mirrors of their own, and sid has none.
write_sources() {
  local mirror found=0 signed="[signed-by=$keyring]"
  while read -r mirror; do
    case $mirror in
      '') ;;
      *security*) if [[ $suite != sid ]]; then echo "deb $signed $mirror $suite-security main"; fi ;;
      *)
        if ((!found)); then echo "deb $signed $mirror $suite main"; fi
        found=1
        ;;
    esac
  done < <(find_mirrors)
  ((found)) || die "apt knows no Debian mirror: add one to its sources."
}

main() {
  check_machine
  mkdir -p "$directory/lists/partial" "$directory/cache/archives/partial"
  write_sources >"$directory/sources.list"
  : >"$directory/status"
  cat >"$directory/apt.conf" <<CONF
Dir::Etc::sourcelist "$directory/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::lists "$directory/lists";
Dir::State::status "$directory/status";
Dir::Cache "$directory/cache";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
  APT_CONFIG=$directory/apt.conf apt-get -qq update >&2 ||
    die "Debian's package lists could not be read from the mirror: see above."
}

main
