#!/usr/bin/python3
"""A client of Aperture with none of Aperture's code: docs/PROTOCOL.md, python3-grpcio and ioctls.

usage: plain.py SOCKET ADDRESS

Leases the device, uses what it is handed, gives it back, and prints what it saw as one JSON object. It exists to show
that the protocol document is enough to write a client, so it takes nothing from the project: no proto files, no library.
Debian's python3-grpcio belongs to /usr/bin/python3.
"""
import fcntl, json, mmap, os, socket, struct, sys, uuid
import grpc

BIND_IOMMUFD, GET_INFO, GET_REGION_INFO = 0x3B76, 0x3B6B, 0x3B6C  # <linux/vfio.h>: _IO(';', 118), 107 and 108
IOMMUFD, DEVICE_UNBOUND, CONTAINER, GROUP, DEVICE, REGION = range(1, 7)
ATTACH, ATTACHED, OFFER, ACK = range(1, 5)


def frame(kind, body=b""):
    return struct.pack("<4sBBHII", b"APTR", 1, kind, 0, 16 + len(body), 0) + body


def receive(channel, max_frame=1328, max_descriptors=32):
    data, descriptors, flags, _ = socket.recv_fds(channel, max_frame, max_descriptors)
    magic, version, kind, _, length, _ = struct.unpack_from("<4sBBHII", data)
    assert (magic, version, length) == (b"APTR", 1, len(data)) and not flags & socket.MSG_CTRUNC, data
    return kind, data, descriptors


def varint(value):
    head = value & 0x7F | (0x80 if value > 0x7F else 0)
    return bytes([head]) + (varint(value >> 7) if value > 0x7F else b"")


def message(*fields):  # protobuf: (number, int) or (number, bytes)
    out = b""
    for number, value in fields:
        blob = isinstance(value, bytes)
        out += varint(number << 3 | (2 if blob else 0)) + varint(len(value) if blob else value) + (value if blob else b"")
    return out


def first_word(descriptor, offset):
    with mmap.mmap(descriptor, 4096, mmap.MAP_SHARED, mmap.PROT_READ, offset=offset) as mapped:
        return memoryview(mapped)[:4].cast("I")[0]


def device_regions(device):
    regions = {}
    count = struct.unpack("<6I", fcntl.ioctl(device, GET_INFO, struct.pack("<6I", 24, 0, 0, 0, 0, 0)))[2]
    for index in range(count):
        try:
            answer = fcntl.ioctl(device, GET_REGION_INFO, struct.pack("<4I2Q", 32, 0, index, 0, 0, 0))
        except OSError:  # an index that the device has not (VGA)
            continue
        _, flags, _, _, size, offset = struct.unpack("<4I2Q", answer)
        if size:
            regions[index] = {"size": size, "offset": offset, "word": first_word(device, offset) if flags & 4 else None}
    return regions


def main(path, address):
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(60)
    channel.connect(path + ".channel")
    channel.send(frame(ATTACH))
    kind, data, _ = receive(channel)
    assert kind == ATTACHED, kind
    (number,) = struct.unpack_from("<Q", data, 16)

    server = grpc.insecure_channel("unix:" + path, options=[("grpc.default_authority", "localhost")])
    acquire = server.unary_unary("/aperture.v1.LeaseService/AcquireLease")
    answer = acquire(message((2, 1), (3, message((1, address.encode()))), (5, number)), timeout=60)
    kind, data, descriptors = receive(channel)
    offered, count, lease_kind, backend = struct.unpack_from("<16sIBB", data, 16)
    lease = str(uuid.UUID(bytes=offered))
    assert kind == OFFER and lease.encode() in answer and count == len(descriptors), (kind, lease, count)
    channel.send(frame(ACK, offered + struct.pack("<II", count, 0)))

    names = ("kind", "scope", "number", "address", "offset", "size")
    entries = [dict(zip(names, struct.unpack_from("<HBxI16sQQ", data, 48 + 40 * i))) for i in range(count)]
    by_kind, regions = {}, {}
    for entry, descriptor in zip(entries, descriptors):
        entry["address"] = entry["address"].rstrip(b"\0").decode()
        by_kind[entry["kind"]] = descriptor
        if entry["kind"] == REGION:
            word = first_word(descriptor, entry["offset"])
            regions[entry["number"]] = {"size": entry["size"], "offset": entry["offset"], "backed": os.fstat(descriptor).st_size, "word": word}
    if DEVICE_UNBOUND in by_kind:
        fcntl.ioctl(by_kind[DEVICE_UNBOUND], BIND_IOMMUFD, struct.pack("<IIiI", 16, 0, by_kind[IOMMUFD], 0))
    device = by_kind.get(DEVICE_UNBOUND, by_kind.get(DEVICE))
    if device is not None:
        regions = device_regions(device)

    for descriptor in reversed(descriptors):
        os.close(descriptor)
    server.unary_unary("/aperture.v1.LeaseService/ReleaseLease")(message((1, lease.encode())), timeout=60)
    print(json.dumps({"lease": lease, "leaseKind": lease_kind, "backend": backend, "uid": os.getuid(), "descriptors": entries, "regions": regions}))


if __name__ == "__main__":
    main(*sys.argv[1:])
