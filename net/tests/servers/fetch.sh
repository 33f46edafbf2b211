#!/usr/bin/env bash
# Downloads the servers that the tests start, from Debian, and unpacks them into a folder:
#
#     net/tests/servers/fetch.sh [folder]        default: ${CARGO_TARGET_DIR:-target}/servers
#
# Nothing is installed or started, no root is needed, and with everything there it does nothing. The tests find the
# default folder by themselves, another one by FRAME_TEST_SERVERS.
set -euo pipefail

packages=(
    tor i2pd dante-server microsocks tinyproxy-bin wireguard-go wireguard-tools nginx nghttp2-server haproxy caddy websocketd
)

workspace=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
folder=${1:-${CARGO_TARGET_DIR:-$workspace/target}/servers}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
multiarch=$(dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || echo "$(uname -m)-linux-gnu")

fail() { echo "$0: $*" >&2; exit 1; }

# Runs a program of `folder`, given by its path in there, with the libraries of `folder`.
run() {
    local program=$1
    shift
    LD_LIBRARY_PATH="$folder/usr/lib/$multiarch:$folder/lib/$multiarch" "$folder/$program" "$@" </dev/null 2>&1
}

# Whether the program says about itself what it should: microsocks and tor-gencert have no way to do so with success.
starts() {
    local expected=$1
    shift
    says=$(run "$@" || true)
    [[ "$says" == *"$expected"* ]]
}

all_start() {
    starts "Tor version" usr/bin/tor --version &&
        starts "tor-gencert" usr/bin/tor-gencert --help &&
        starts "i2pd version" usr/sbin/i2pd --version &&
        starts "Dante v" usr/sbin/danted -v &&
        starts "SOCKS5 Server" usr/bin/microsocks -h &&
        starts "tinyproxy " usr/bin/tinyproxy -v &&
        starts "wireguard-go v" usr/bin/wireguard-go --version &&
        starts "wireguard-tools v" usr/bin/wg --version &&
        starts "nginx version" usr/sbin/nginx -v &&
        starts "nghttpd nghttp2/" usr/sbin/nghttpd --version &&
        starts "HAProxy version" usr/sbin/haproxy -v &&
        starts "Usage:" usr/bin/caddy help &&
        starts "websocketd " usr/bin/websocketd --version
}

# Two that run at the same time wait for each other.
exec 9>"$folder/.lock"
flock 9

if [ -e "$folder/.complete" ] && all_start; then
    echo "the servers are in $folder"
    exit 0
fi
rm -f "$folder/.complete"

command -v apt-get >/dev/null && command -v dpkg >/dev/null || fail "this needs Debian's apt-get and dpkg"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"

# With lists and a cache of its own it needs no root, and leaves those of the system alone.
private_apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq \
        -o Dir::State::lists="$work/lists" -o Dir::Cache="$work/cache" -o Dir::Cache::archives="$work/cache/archives" \
        -o Debug::NoLocking=true -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}
{
    private_apt update &&
        # The packages, installed or not, and what they depend on that is not installed.
        private_apt install --download-only --reinstall --no-install-recommends "${packages[@]}"
} >"$work/log" 2>&1 || { cat "$work/log" >&2; fail "apt-get failed"; }
for package in "${packages[@]}"; do
    compgen -G "$work/cache/archives/${package}_*.deb" >/dev/null ||
        { cat "$work/log" >&2; fail "apt-get did not download $package"; }
done
for archive in "$work"/cache/archives/*.deb; do
    dpkg -x "$archive" "$folder"
done

all_start || fail "a server that was unpacked into $folder does not start; it says: $says"
touch "$folder/.complete"
echo "the servers are in $folder"
