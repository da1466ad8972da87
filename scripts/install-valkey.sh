#!/usr/bin/env bash
# Installs valkey-server: from the suite that is there, or from Debian's backports beside it.
set -euo pipefail

command -v valkey-server >/dev/null && exit 0
if [ "$(id -u)" != 0 ]; then
    echo "missing: install with: sudo scripts/install-valkey.sh" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -y -q --no-install-recommends "$@" valkey-server valkey-tools; }
if apt-cache show valkey-server >/dev/null 2>&1; then
    install
    exit 0
fi

# The mirror and the suite that the machine has already.
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
files=$(find /etc/apt -name '*.list' -o -name '*.sources')
mirror=$(sed -nE 's/^(deb (\[[^]]*\] )?|URIs: *)(https?:[^ ]+).*/\3/p' $files | grep -E '/debian/?$' | head -1)
list=/etc/apt/sources.list.d/$suite-backports.list
echo "deb $mirror $suite-backports main" > "$list"
apt-get update -q
install -t "$suite-backports"
