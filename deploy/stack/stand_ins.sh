#!/bin/sh
# Makes images of nginx and PostgreSQL where none can be pulled: of Debian's nginx and wget, which have to be
# installed, and of bazaar/postgres, which has to be loaded. Prints the variables of stack.yaml.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/root/etc" "$folder/root/tmp" "$folder/root/var/lib/nginx" "$folder/root/var/log/nginx"
chmod 1777 "$folder/root/tmp"
echo 'nginx:x:101:101::/:/' >"$folder/root/etc/passwd"
echo 'nginx:x:101:' >"$folder/root/etc/group"
for file in /usr/sbin/nginx /usr/bin/wget $(ldd /usr/sbin/nginx /usr/bin/wget | grep -o '/[^ :]* ' | sort -u); do
  cp --dereference --parents "$file" "$folder/root"
done
tar --create --directory "$folder/root" . |
  docker import --change 'ENV PATH=/usr/sbin:/usr/bin' - bazaar/nginx:stand-in >&2

mkdir -m 1777 "$folder/data"
printf 'FROM bazaar/postgres:latest\nCOPY --chown=65532:65532 data /var/lib/postgresql\n' >"$folder/Dockerfile"
docker build --quiet --tag bazaar/postgres:stand-in --file "$folder/Dockerfile" "$folder" >&2

echo export NGINX_IMAGE=bazaar/nginx:stand-in POSTGRES_IMAGE=bazaar/postgres:stand-in POSTGRES_USER_ID=65532:65532
