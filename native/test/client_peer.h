// The daemon's side of a descriptor channel for the tests of the C client: any bytes, with any descriptors.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "check.h"
#include "client/aperture_client.h"
#include "sys/unique_fd.h"

namespace aperture::client_test {

using Bytes = std::vector<uint8_t>;

enum Frame : uint8_t {
  kAttach = 1,
  kAttached = 2,
  kOffer = 3,
  kAck = 4,
  kEnded = 5,
  kGoodbye = 6,
  kRecall = 7,
  kShow = 8,
  kRefused = 9,
};

inline void Put(Bytes* bytes, size_t at, uint64_t value, size_t width) {
  for (size_t i = 0; i < width; i++) (*bytes)[at + i] = static_cast<uint8_t>(value >> (8 * i));
}

inline void PutText(Bytes* bytes, size_t at, const std::string& text) {
  memcpy(bytes->data() + at, text.data(), text.size());
}

inline Bytes MakeFrame(uint8_t type, size_t length) {
  Bytes bytes(length);
  PutText(&bytes, 0, "APTR");
  bytes[4] = 1;
  bytes[5] = type;
  Put(&bytes, 8, length, 4);
  return bytes;
}

inline Bytes Attached(uint32_t max_frame = 1328, uint32_t max_descriptors = 32) {
  Bytes bytes = MakeFrame(kAttached, 48);
  Put(&bytes, 16, 7, 8);
  Put(&bytes, 24, max_frame, 4);
  Put(&bytes, 28, max_descriptors, 4);
  Put(&bytes, 32, 2000, 4);
  return bytes;
}

inline void PutLease(Bytes* bytes) {
  for (size_t i = 0; i < 16; i++) (*bytes)[16 + i] = static_cast<uint8_t>(0x11 * i);
}

struct Entry {
  uint16_t kind;
  uint8_t scope;
  uint32_t number;
  std::string address;
  uint64_t offset;
  uint64_t size;
};

inline Bytes Offer(uint8_t backend, const std::vector<Entry>& entries, uint8_t kind = 1) {
  Bytes bytes = MakeFrame(kOffer, 48 + 40 * entries.size());
  PutLease(&bytes);
  Put(&bytes, 32, entries.size(), 4);
  bytes[36] = kind;
  bytes[37] = backend;
  for (size_t i = 0; i < entries.size(); i++) {
    const size_t at = 48 + 40 * i;
    Put(&bytes, at, entries[i].kind, 2);
    bytes[at + 2] = entries[i].scope;
    Put(&bytes, at + 4, entries[i].number, 4);
    PutText(&bytes, at + 8, entries[i].address);
    Put(&bytes, at + 24, entries[i].offset, 8);
    Put(&bytes, at + 32, entries[i].size, 8);
  }
  return bytes;
}

constexpr uint32_t kNone = 0xffffffff;
constexpr char kGpu[] = "0000:01:00.0";

inline Bytes IommufdOffer() {
  return Offer(1, {{1, 3, kNone, "", 0, 0}, {2, 1, kNone, kGpu, 0, 0}, {2, 1, kNone, "0000:01:00.1", 0, 0}});
}
inline Bytes LegacyOffer() {
  return Offer(2, {{3, 3, kNone, "", 0, 0}, {4, 1, 12, "", 0, 0}, {5, 1, kNone, "10000:e1:00.0", 0, 0}});
}
inline Bytes SimulatedOffer() {
  return Offer(3, {{6, 2, 0, kGpu, 0, 0x1000000}, {6, 2, 4, kGpu, 0x1000, 0x2000000000}}, 2);
}

inline Bytes Ended(uint32_t cause = 1) {
  Bytes bytes = MakeFrame(kEnded, 48);
  PutLease(&bytes);
  Put(&bytes, 32, cause, 4);
  return bytes;
}

inline Bytes Recall(uint32_t cause, uint32_t grace_ms) {
  Bytes bytes = MakeFrame(kRecall, 48);
  PutLease(&bytes);
  Put(&bytes, 32, cause, 4);
  Put(&bytes, 36, grace_ms, 4);
  return bytes;
}

inline Bytes WithReason(uint8_t type, const std::string& reason) {
  Bytes bytes = MakeFrame(type, 84);
  PutText(&bytes, 20, reason);
  return bytes;
}

// A channel of the client and the far end of its socket.
struct Peer {
  aperture_channel channel;
  aperture_event event;
  UniqueFd far;

  explicit Peer(bool attached = true) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) abort();
    far.reset(fds[1]);
    CHECK(aperture_attach_socket(&channel, fds[0]) == 0);
    CHECK(Read() == MakeFrame(kAttach, 16));
    if (!attached) return;
    Send(Attached());
    CHECK(Receive() == 1 && event.type == APERTURE_EVENT_ATTACHED);
  }
  ~Peer() { aperture_close(&channel); }

  // `count` descriptors of /dev/null go with it.
  void Send(const Bytes& bytes, size_t count = 0) {
    const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
    union {
      cmsghdr aligned;
      uint8_t room[CMSG_SPACE(253 * sizeof(int))];
    } control = {};
    iovec part = {const_cast<uint8_t*>(bytes.data()), bytes.size()};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (count > 0) {
      message.msg_control = control.room;
      message.msg_controllen = CMSG_SPACE(count * sizeof(int));
      cmsghdr* const header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(count * sizeof(int));
      for (size_t i = 0; i < count; i++) {
        const int fd = file.get();
        memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(fd));
      }
    }
    CHECK(sendmsg(far.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  // The next frame of the client, without waiting; empty: none.
  Bytes Read() {
    Bytes bytes(2048);
    const ssize_t length = recv(far.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(length > 0 ? static_cast<size_t>(length) : 0);
    return bytes;
  }
  // Whether the client has given the channel up.
  bool AtEnd() {
    uint8_t byte;
    return recv(far.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
  }
  int Receive() { return aperture_receive(&channel, &event, 0); }
};

inline Bytes Ack(uint32_t count) {
  Bytes bytes = MakeFrame(kAck, 40);
  PutLease(&bytes);
  Put(&bytes, 32, count, 4);
  return bytes;
}

}  // namespace aperture::client_test
