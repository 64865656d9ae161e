#!/usr/bin/env python3
"""Takes a lease by its ticket and reads the first word of a region.   usage: receive.py SOCKET TICKET REGION"""
import array, fcntl, mmap, os, socket, struct, sys, uuid

BIND_IOMMUFD, GET_REGION_INFO = 0x3B76, 0x3B6C  # <linux/vfio.h>: _IO(';', 118) and 108
IOMMUFD, DEVICE_UNBOUND, CONTAINER, GROUP, DEVICE, REGION = range(1, 7)
ATTACH, ATTACHED, OFFER, ACK, ENDED, GOODBYE, RECALL, SHOW, REFUSED = range(1, 10)


def frame(kind, body=b""):
    return struct.pack("<4sBBHII", b"APTR", 1, kind, 0, 16 + len(body), 0) + body


def receive(channel):
    # Not socket.recv_fds(): it leaves the descriptors inheritable.
    data, control, flags, _ = channel.recvmsg(1328, socket.CMSG_SPACE(32 * 4), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, payload in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(payload[: len(payload) // 4 * 4])
    if len(data) < 16 or struct.unpack_from("<4sB", data) != (b"APTR", 1) or struct.unpack_from("<I", data, 8)[0] != len(data):
        sys.exit("the channel is over" if not data else "no frame of this protocol")
    if data[5] in (GOODBYE, REFUSED):
        sys.exit(data[20:84].rstrip(b"\0").decode("ascii"))
    if flags & socket.MSG_CTRUNC:  # RLIMIT_NOFILE: all or nothing
        for descriptor in descriptors:
            os.close(descriptor)
        channel.send(frame(ACK, data[16:32] + struct.pack("<II", 0, 0)))
        sys.exit("raise RLIMIT_NOFILE")
    return data[5], data, list(descriptors)


def region_info(device, index):
    """(size, offset, areas) as the driver says: its padded size, and what can be mapped of it."""
    need = 32
    for _ in range(3):  # short of room, the kernel answers without capabilities and says how much it takes
        room = need
        answer = bytearray(struct.pack("<4I2Q", room, 0, index, 0, 0, 0).ljust(room, b"\0"))
        fcntl.ioctl(device, GET_REGION_INFO, answer)
        need, flags, _, link, size, offset = struct.unpack_from("<4I2Q", answer)
        if need <= room:
            break
    areas = [(0, size)] if flags & 4 else []
    floor = 32
    while flags & 8 and link:
        if link < floor or link + 16 > room:
            sys.exit("a broken capability chain")
        kind, version, following = struct.unpack_from("<HHI", answer, link)
        if (kind, version) == (1, 1):  # SPARSE_MMAP
            (count,) = struct.unpack_from("<I", answer, link + 8)
            areas = [struct.unpack_from("<QQ", answer, link + 16 + 16 * i) for i in range(count)]
        floor, link = link + 8, following
    return size, offset, [area for area in areas if area[1]]


def main(path, ticket, index):
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(30)
    channel.connect(path + ".channel")
    channel.send(frame(ATTACH))
    assert receive(channel)[0] == ATTACHED
    channel.send(frame(SHOW, bytes.fromhex(ticket)))
    kind, data, descriptors = receive(channel)
    lease, count, lease_kind, backend, flags = struct.unpack_from("<16sIBBB", data, 16)
    if kind != OFFER or count != len(descriptors):
        sys.exit("no offer that this program understands")
    channel.send(frame(ACK, lease + struct.pack("<II", count, 0)))  # at once: the daemon waits 2 s

    entries = [struct.unpack_from("<HBxI16sQQ", data, 48 + 40 * i) for i in range(count)]
    found = {(kind, number): fd for (kind, _, number, *_), fd in zip(entries, descriptors)}
    none = 0xFFFFFFFF
    device = found.get((DEVICE_UNBOUND, none), found.get((DEVICE, none)))
    if (IOMMUFD, none) in found and not flags & 1:  # a successor's devices are bound already
        fcntl.ioctl(device, BIND_IOMMUFD, struct.pack("<IIiI", 16, 0, found[IOMMUFD, none], 0))
    if device is not None:
        size, offset, areas = region_info(device, index)
    else:  # a region descriptor for each region, and no device: the file ends where the memory does
        device = found[REGION, index]
        size, offset = next((size, offset) for kind, _, number, _, offset, size in entries if number == index)
        areas = [(0, min(size, os.fstat(device).st_size - offset))]
    start, length = areas[0]
    # Shared, never ACCESS_COPY: a private mapping of an nvgrace region is a kernel BUG. Only the area: behind it is EINVAL.
    with mmap.mmap(device, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset + start) as memory:
        with memoryview(memory) as view:
            word = view[:4].cast("I")[0]  # one load of 32 bits; memory[:4] would be four of 8
    backed = areas[-1][0] + areas[-1][1]
    print(uuid.UUID(bytes=lease), index, size, backed, f"0x{word:08x}")

    for descriptor in reversed(descriptors):  # after the mapping, which holds a duplicate of its own
        os.close(descriptor)
    channel.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
