#!/bin/sh
# Installs shm-fifo, or removes it again:
#
#   ./install.sh [--prefix DIRECTORY]               (default: /usr/local)
#   ./install.sh --uninstall [--prefix DIRECTORY]
#
# All files are first written beside their places, and then renamed: where one cannot be
# written, nothing has changed. A server that runs keeps the module it has until it starts
# anew. DESTDIR, if set, goes before the prefix.
set -eu

name=shm-fifo
glibc=2.28
new=.$name-new
prefix=/usr/local
uninstall=

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -gt 1 ] || fail "--prefix wants a directory"; prefix=$2; shift ;;
        --prefix=*) prefix=${1#--prefix=} ;;
        --uninstall) uninstall=yes ;;
        -h | --help) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit ;;
        *) fail "what is $1? See $0 --help" ;;
    esac
    shift
done
case $prefix in /*) ;; *) fail "the prefix $prefix is no absolute path" ;; esac
target=${DESTDIR:-}$prefix
# Of the caller's directory, before this script goes to its own.
case $target in /*) ;; *) target=$PWD/$target ;; esac
# What was installed, for --uninstall.
manifest=share/$name/manifest

# The directories that become empty go as well, but none above the prefix.
remove_directories() {
    sed -n 's|/[^/]*$||p' | sort -u | while read -r directory; do
        while [ "$directory" != . ] && [ -n "$directory" ]; do
            rmdir "$target/$directory" 2>/dev/null || break
            directory=$(dirname "$directory")
        done
    done
}

if [ -n "$uninstall" ]; then
    [ -f "$target/$manifest" ] || fail "nothing was installed in $target by this script"
    [ -w "$target/share/$name" ] || fail "no right to write in $target; run it as root"
    list=$(cat "$target/$manifest")
    printf '%s\n' "$list" | while read -r file; do rm -f "$target/$file"; done
    printf '%s\n' "$list" | remove_directories
    echo "$name was removed from $target"
    exit
fi

# What this machine must be.
[ "$(uname -s)" = Linux ] || fail "this is for Linux, and here is $(uname -s)"
[ "$(uname -m)" = x86_64 ] || fail "this is for x86_64, and here is $(uname -m)"
here=$(getconf GNU_LIBC_VERSION 2>/dev/null) || fail "this needs the GNU C library; here is another one"
older=$(printf '%s\n' "$glibc" "${here#glibc }" | sort -V | head -n 1)
[ "$older" = "$glibc" ] || fail "this needs glibc $glibc or newer, and here is ${here#glibc }"

cd "$(dirname "$0")"
sha256sum --quiet --check SHA256SUMS >/dev/null 2>&1 ||
    fail "a file is missing, or not what was packed: sha256sum --check SHA256SUMS tells which"

files=$(cd files && find . ! -type d | sed 's|^\./||' | LC_ALL=C sort)

undo() {
    printf '%s\n' "$files" "$manifest" | while read -r file; do rm -f "$target/$file$new"; done
    printf '%s\n' "$files" "$manifest" | remove_directories
    if [ -n "$made" ]; then rmdir "$target" 2>/dev/null || true; fi
}

stage() {
    printf '%s\n' "$files" | while read -r file; do
        if [ -d "$target/$file" ]; then
            echo "$target/$file is a directory"
            exit 1
        fi
        mkdir -p "$target/$(dirname "$file")" && cp -P "files/$file" "$target/$file$new" || exit 1
    done && mkdir -p "$target/share/$name" &&
        printf '%s\n' "$files" "$manifest" >"$target/$manifest$new"
}

made=
[ -d "$target" ] || made=yes
trap 'undo; fail "interrupted; nothing was installed"' HUP INT TERM
reason=$(umask 022 && stage 2>&1) || {
    undo
    fail "cannot install in $target: ${reason:-it was not said why}; nothing was installed"
}
trap '' HUP INT TERM
printf '%s\n' "$files" "$manifest" | while read -r file; do mv -f "$target/$file$new" "$target/$file"; done
if [ -z "${DESTDIR:-}" ] && [ "$(id -u)" = 0 ]; then ldconfig 2>/dev/null || true; fi

cat <<EOF
$name is in $target. Load the module by a line in redis.conf,

    loadmodule $prefix/lib/redis/modules/libshm_fifo_redis_server.so

start the server anew, and ask: $prefix/bin/redis-shm doctor -h 127.0.0.1
EOF
case $prefix in
    /usr | /usr/lib*) ;;
    *) if [ -e /etc/debian_version ]; then cat <<EOF
The redis-server.service of Debian and Ubuntu runs nothing below $prefix: with it, use the
.deb packages, or add to the unit (systemctl edit redis-server): ExecPaths=$prefix/lib
EOF
fi ;;
esac
