# What the tests of the C interface share, to be sourced: sources of hiredis and libvalkey, and a
# server. It wants $work, a directory; $module; and $cc, the compiler.
warnings=(-Wall -Wextra -Werror)

fail() {
    echo "test-c: $*" >&2
    exit 1
}

need() { # need <what> <Debian's package> <test command...>
    local what=$1 package=$2
    shift 2
    "$@" >/dev/null 2>&1 || fail "$what is missing; install it (Debian, Ubuntu: apt-get install $package)"
}

# fetch <package> <version> <sha256>: its sources, in $work/<package>-<version>
fetch() {
    local name=$1-$2
    local archive=$work/$name.tar.gz
    if [ ! -f "$archive" ]; then
        python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "$1==$2" ||
            fail "cannot fetch the sources of $name from PyPI; is there a network?"
    fi
    echo "$3  $archive" | sha256sum --check --quiet ||
        fail "$archive is not the $name that was tested; remove it to fetch it again"
    rm -rf "${work:?}/$name"
    tar -xzf "$archive" -C "$work"
}

# build <library> <directory> <its sources> <its headers> <what to leave out...>: the
# library and its headers, in that directory
build() {
    local library=$1 directory=$2 sources=$3 headers=$4
    shift 4
    rm -rf "$directory"
    mkdir -p "$directory/include" "$directory/objects"
    ln -s "$headers" "$directory/include/$library"
    local file
    for file in "$sources"/*.c; do
        case " $* " in *" $(basename "$file") "*) continue ;; esac
        "$cc" -std=gnu99 -O2 -w -fPIC -I"$sources/../include" -I"$headers" -I"$sources" -c "$file" \
            -o "$directory/objects/$(basename "$file" .c).o"
    done
    "$cc" -shared -o "$directory/lib$library.so" "$directory/objects"/*.o
}

# build_hiredis <version of the package> <its sha256>
build_hiredis() {
    fetch hiredis "$1" "$2"
    local sources=$work/hiredis-$1/vendor/hiredis
    build hiredis "$work/hiredis-$1-built" "$sources" "$sources" ssl.c test.c
}

# build_libvalkey <version of the package> <its sha256>
build_libvalkey() {
    fetch libvalkey "$1" "$2"
    local sources=$work/libvalkey-$1/vendor/libvalkey
    build valkey "$work/libvalkey-$1-built" "$sources/src" "$sources/include/valkey" tls.c rdma.c
}

start_server() {
    server_directory=$(mktemp -d)
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    socket=$server_directory/redis.sock
    redis-server --port "$port" --bind 127.0.0.1 --unixsocket "$socket" \
        --dir "$server_directory" --save '' --loadmodule "$module" >"$server_directory/log" 2>&1 &
    server=$!
    trap stop_server EXIT
    local attempt
    for attempt in $(seq 200); do
        [ -S "$socket" ] && return
        kill -0 "$server" 2>/dev/null || break
        sleep 0.05
    done
    cat "$server_directory/log" >&2
    fail "redis-server did not start"
}

stop_server() {
    kill -CONT "$server" 2>/dev/null || true # a test that failed may have stopped it
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -rf "$server_directory"
}
