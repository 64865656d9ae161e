#!/bin/busybox sh
# The first process of a guest. It makes the host's file system the guest's own, as far as that is harmless: `/` comes over 9p, read-only,
# under a layer of memory that takes the writes; everything that describes a kernel or a boot (proc, sys, dev, run, tmp) is the guest's.
# Then it runs the command that the host left in the results share, leaves its exit status there and powers off.
#
# Shares (QEMU mount tags): "host", the host's `/`; "results", a writable folder of this run:
#   settings   in   shell variables: checkout, the path to keep visible; interactive (yes or no), rows, columns
#   reachable  in   folders that every user may pass, one a line
#   command    in   the script to run
#   output, status, kernel-log  out
# busybox runs its commands through /proc/self/exe, so proc comes first.

/bin/busybox mkdir -p /proc /sys /dev /host /writes /root /results
/bin/busybox mount -t proc proc /proc

give_up() {
    echo "guest-init: $*" >/dev/console
    poweroff -f
}

mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev

while read -r module; do
    insmod "/modules/$module" || give_up "module $module does not load"
done </modules/order

# The host's files do not change under a running guest, so the guest may cache them; results must reach the host when written.
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none results /results || give_up "no results share"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host || give_up "no host share"
. /results/settings

mount -t tmpfs -o mode=755 writes /writes
mkdir /writes/upper /writes/work
mount -t overlay -o lowerdir=/host,upperdir=/writes/upper,workdir=/writes/work overlay /root || give_up "no overlay"

# Tests start clients under other users: they must get to the checkout and to Node also from a home folder that is closed to them.
while read -r folder; do
    find "/root$folder" -maxdepth 0 ! -perm -001 -exec chmod o+x {} \;
done </results/reachable

# A checkout below /tmp or /run would vanish under the guest's own.
mkdir /checkout
mount --bind "/root$checkout" /checkout || give_up "no checkout at $checkout"

mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount -t debugfs debugfs /root/sys/kernel/debug
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mount -t devtmpfs devtmpfs /root/dev
mkdir -p /root/dev/pts /root/dev/shm /root/results
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs -o mode=1777 shm /root/dev/shm
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs -o mode=1777 tmp /root/tmp
mount --move /results /root/results
ln -s /proc/self/fd /root/dev/fd
ln -s fd/0 /root/dev/stdin
ln -s fd/1 /root/dev/stdout
ln -s fd/2 /root/dev/stderr
if [ ! -d "/root$checkout" ]; then
    mkdir -p "/root$checkout"
    mount --bind /checkout "/root$checkout"
fi

hostname aperture-lab
ip link set lo up
ulimit -c 0
ulimit -Hn 524288

if [ "$interactive" = yes ]; then
    stty -F /dev/ttyS0 rows "$rows" columns "$columns"
    # A shell needs a controlling terminal for job control and Ctrl-C, and /dev/console cannot be one.
    setsid cttyhack chroot /root /bin/sh /results/command
else
    chroot /root /bin/sh /results/command </dev/null >/root/results/output 2>&1
fi
status=$?
dmesg >/root/results/kernel-log
# The status comes last: it says that the rest is there.
echo "$status" >/root/results/status
poweroff -f
