#!/bin/busybox sh
# The first process of the machine inside the machine (guest/nested-vm.ts): does what its serial line says, one line of shell at a time, and answers `inner: done STATUS`.
/bin/busybox mkdir -p /proc /sys /dev
/bin/busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
stty -echo
echo "inner: ready"
while read -r line; do
    eval "$line"
    echo "inner: done $?"
done
