#!/bin/sh
# Runs a command inside an arm64 root, in the namespaces that unshare made for it:
#
#   unshare --user --map-root-user --mount --pid --fork --kill-child sh enter.sh ROOT COMMAND...
#
# Every mount, every process and, where the machine has none, the registration of QEMU end with the
# command, however it ends: nothing is left for a trap to clean up.
set -eu
root=$1
shift

# A kernel from 6.7 on gives each user namespace a binfmt_misc of its own; an older one needs
# QEMU to be registered for the whole machine, as Debian's package does under systemd.
binfmt=/proc/sys/fs/binfmt_misc
if [ ! -e "$binfmt/qemu-aarch64" ]; then
  mount -t binfmt_misc none "$binfmt"
  cat /usr/lib/binfmt.d/qemu-aarch64.conf >"$binfmt/register"
fi

for device in null zero full random urandom; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t tmpfs none "$root/dev/shm"
mount -t proc none "$root/proc"
mount --bind "$root/etc/cpuinfo" "$root/proc/cpuinfo"
# XNNPACK counts the processors there. The machine's own /sys makes it crash; without any it is off.
[ -z "${HIDE_PROCESSORS:-}" ] || mount -t tmpfs none "$root/sys"

# pip of the board asks the package index itself; every other command has no names to look up.
if [ -n "${BOARD_WITH_NETWORK:-}" ]; then
  cp /etc/resolv.conf "$root/etc/resolv.conf"
fi

# cortex-a72 is the Raspberry Pi 4's. With QEMU 7.2's default processor XNNPACK's int8 is wrong.
exec env -i QEMU_CPU="${BOARD_CPU:-cortex-a72}" PATH="${BOARD_PATH:-/opt/edge/bin:/usr/bin:/bin}" \
  HOME="${BOARD_HOME:-/root}" LANG=C.UTF-8 PYTHONPATH="${BOARD_PYTHONPATH:-}" \
  ${HTTP_PROXY:+HTTP_PROXY="$HTTP_PROXY"} ${HTTPS_PROXY:+HTTPS_PROXY="$HTTPS_PROXY"} \
  ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
  "$(command -v unshare)" --root="$root" --wd="${BOARD_FOLDER:-/root/checkout}" "$@"
