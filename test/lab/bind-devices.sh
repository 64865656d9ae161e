#!/bin/sh
# Gives every device of the lab the driver it starts with, says what it bound, and stops at the first surprise: a test on
# the wrong driver would fail far from the cause. Runs as root in the guest before the tests, and by hand in a lab shell.
# The same addresses stand in devices.ts; boot.test.ts compares both with what the kernel shows.
set -eu

world=${APERTURE_LAB_WORLD:?bind-devices.sh: set APERTURE_LAB_WORLD to iommufd or legacy}
devices=/sys/bus/pci/devices
drivers=/sys/bus/pci/drivers

fail() {
    echo "bind-devices.sh: $*" >&2
    exit 1
}

expect_driver() { # ADDRESS DRIVER
    [ "$devices/$1/driver" -ef "$drivers/$2" ] ||
        fail "$1 should be bound to $2 and is bound to $(readlink "$devices/$1/driver" || echo nothing); see dmesg"
    echo "$1 $2"
}

# driver_override makes the named driver match whatever the ids are, and keeps every other driver away, also later.
bind() { # ADDRESS DRIVER
    [ -d "$devices/$1" ] || fail "there is no device $1"
    [ -d "$drivers/$2" ] || fail "the kernel $(uname -r) has no PCI driver $2"
    if [ -e "$devices/$1/driver" ]; then
        echo "$1" >"$devices/$1/driver/unbind"
    fi
    echo "$2" >"$devices/$1/driver_override"
    # The kernel answers a failed probe with an errno here, or with nothing at all: the driver link is what counts.
    echo "$1" >/sys/bus/pci/drivers_probe || true
    expect_driver "$1" "$2"
}

# nvgrace_gpu_vfio_pci polls two words of BAR0 (C2C link, memory training) for 30 s and gives up unless both read 0xFF.
# BAR0 of bochs-display is plain memory, so the words stay. Memory decoding is off until somebody enables the device.
seed_readiness() { # ADDRESS
    read -r bar0 _ <"$devices/$1/resource"
    echo 1 >"$devices/$1/enable"
    for offset in 0x1498 0x200BC; do
        busybox devmem $((bar0 + offset)) 32 0xFF
    done
    echo 0 >"$devices/$1/enable"
}

bind 0000:00:10.0 vfio-pci # edu
bind 0000:00:11.0 vfio-pci # pci-testdev
bind 0000:00:12.0 vfio-pci # ivshmem
bind 0000:00:17.1 vfio-pci # the edu whose group an nvme spoils

case $world in
iommufd)
    seed_readiness 0000:00:14.0
    bind 0000:00:14.0 nvgrace_gpu_vfio_pci # bochs-display, the fake Grace Hopper
    ;;
legacy)
    bind 0000:00:14.0 vfio-pci # Debian builds without nvgrace_gpu_vfio_pci
    ;;
*) fail "APERTURE_LAB_WORLD is '$world', not iommufd or legacy" ;;
esac

# Without autoprobe the new functions stay free until bound here, instead of being network cards of igbvf for a moment.
expect_driver 0000:01:00.0 igb
echo 0 >$devices/0000:01:00.0/sriov_drivers_autoprobe
echo 2 >$devices/0000:01:00.0/sriov_numvfs
bind 0000:01:10.0 vfio-pci
bind 0000:01:10.2 vfio-pci

expect_driver 0000:00:13.0 nvme
expect_driver 0000:00:17.0 nvme

for address in 0000:00:1f.0 0000:00:1f.2 0000:00:1f.3; do
    [ -d "$devices/$address" ] || fail "there is no device $address"
done
