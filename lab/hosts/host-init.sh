#!/bin/sh
# First process of an isolated host: runs as pid 1 of new net, pid, uts, ipc and mount namespaces.
# When it is killed the kernel kills everything else of the host at once, as a power cut does.
#   host-init.sh DIRECTORY NAME TREE USR
set -eu
directory=$1 name=$2 tree=$3 usr=$4

# /proc is still the machine's: this is our pid as the machine sees it. The lab's clean-up finds us by it.
read -r stat </proc/self/stat
echo "$stat" >"$directory/init.stat"

mount -n -t proc proc /proc
mount -n -t sysfs sysfs /sys # shows this host's network; without cgroups, so that libvirt leaves the machine's alone
# The same emulation on every machine. A file that can't be written, not a device: while libvirt takes /dev/kvm for usable and
# QEMU doesn't, it probes QEMU again, for seconds, at each definition of a domain.
if [ -e /dev/kvm ]; then
  : >"$directory/no-kvm"
  mount -n --bind "$directory/no-kvm" /dev/kvm
  mount -n -o remount,bind,ro /dev/kvm
fi
hostname "$name"
# Other versions of programs than the machine's; they would fail over plug-ins of its own.
if [ -n "$usr" ]; then
  mount -n -t overlay -o "lowerdir=$usr:/usr" understudy-lab /usr
  for plugins in "$usr"/lib/*/libvirt "$usr"/lib/*/qemu; do
    [ ! -d "$plugins" ] || mount -n --bind "$plugins" "/usr${plugins#"$usr"}"
  done
fi

# The tree stays visible even where it lies in a directory that is replaced below.
case $tree in
/etc/* | /run/* | /var/*)
  mkdir -p "$directory$tree"
  mount -n --bind "$tree" "$directory$tree"
  ;;
esac
# The host's /etc links to the machine's for all that isn't its own.
mount -n --bind /etc "$directory/machine-etc"
# Our copies of other tools' named namespaces would keep those alive.
umount -n -l -R /run/netns 2>/dev/null || true
for own in etc run var; do mount -n --rbind "$directory/$own" "/$own"; done

: >"$directory/ready"
# Waits for ever and reaps orphans.
exec sh -c 'while :; do sleep 86400 & wait; done' "understudy lab host $name"
