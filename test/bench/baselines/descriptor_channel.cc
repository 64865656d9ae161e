#include "descriptor_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "grpc_connection.h"

namespace bench {
namespace {

constexpr int kMostDescriptors = 32;
constexpr size_t kLargestFrame = 2048;
enum FrameType : uint8_t {
  kAttach = 1,
  kAttached = 2,
  kOffer = 3,
  kAck = 4,
  kGoodbye = 6,
  kShow = 8,
  kRefused = 9
};

void Header(uint8_t* frame, FrameType type, uint32_t length) {
  memset(frame, 0, length);
  memcpy(frame, "APTR", 4);
  frame[4] = 1;
  frame[5] = type;
  memcpy(frame + 8, &length, sizeof length);
}

}  // namespace

DescriptorChannel::DescriptorChannel(const std::string& path, bool attach) : framed_(attach) {
  fd_ = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) Die(path + " is too long");
  memcpy(address.sun_path, path.c_str(), path.size());
  if (connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) < 0) Die("connecting " + path);
  if (attach) {
    uint8_t frame[kLargestFrame];
    Header(frame, kAttach, 16);
    Send(frame, 16);
    const ssize_t length = recv(fd_, frame, sizeof frame, 0);
    if (length != 48 || frame[5] != kAttached) Die("no ATTACHED");
    memcpy(&number_, frame + 16, sizeof number_);
  }
  fcntl(fd_, F_SETFL, O_NONBLOCK);
}

DescriptorChannel::~DescriptorChannel() {
  close(fd_);
}

void DescriptorChannel::Send(const void* bytes, size_t length) {
  if (send(fd_, bytes, length, MSG_NOSIGNAL) != static_cast<ssize_t>(length))
    Die("writing to the descriptor channel");
}

bool DescriptorChannel::Receive(Arrival* arrival) {
  uint8_t frame[kLargestFrame];
  alignas(cmsghdr) char control[CMSG_SPACE(kMostDescriptors * sizeof(int))];
  iovec part = {frame, sizeof frame};
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t length = recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  if (length < 0 && errno == EAGAIN) return false;
  if (length <= 0) Die("the server closed the descriptor channel");
  arrival->descriptors = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + i * sizeof descriptor, sizeof descriptor);
      close(descriptor);
    }
    arrival->descriptors += static_cast<int>(count);
  }
  arrival->offer = !framed_ || frame[5] == kOffer;
  if (framed_ && (frame[5] == kGoodbye || frame[5] == kRefused))
    Die(std::string("the daemon refused on the channel: ") + reinterpret_cast<const char*>(frame + 20));
  if (arrival->offer && length >= 32) memcpy(arrival->lease.data(), frame + 16, 16);
  return true;
}

void DescriptorChannel::Acknowledge(const Id& lease, uint32_t count) {
  uint8_t frame[40];
  Header(frame, kAck, sizeof frame);
  memcpy(frame + 16, lease.data(), lease.size());
  memcpy(frame + 32, &count, sizeof count);
  Send(frame, sizeof frame);
}

void DescriptorChannel::Show(const Id& ticket) {
  uint8_t frame[32];
  Header(frame, kShow, sizeof frame);
  memcpy(frame + 16, ticket.data(), ticket.size());
  Send(frame, sizeof frame);
}

void DescriptorChannel::SendToken(const Id& token) {
  Send(token.data(), token.size());
}

}  // namespace bench
