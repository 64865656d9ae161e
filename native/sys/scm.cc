#include "sys/scm.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "sys/abi_socket.h"

namespace aperture {

namespace {

// Room for the largest message, aligned as cmsghdr wants it.
struct ControlBuffer {
  alignas(struct cmsghdr) uint8_t bytes[CMSG_SPACE(kScmMaxDescriptors * sizeof(int))];
};

void TakeDescriptors(const struct cmsghdr* header, ControlData* out) {
  const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < count; i++) {
    int fd;
    memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
    out->descriptors.emplace_back(fd);
  }
}

void TakePidfd(const struct cmsghdr* header, ControlData* out) {
  int fd;
  if (header->cmsg_len < CMSG_LEN(sizeof(fd))) return;
  memcpy(&fd, CMSG_DATA(header), sizeof(fd));
  // include/net/scm.h, scm_pidfd_recv(): when the pidfd can not be made, a negative errno is sent in its
  // place.
  if (fd >= 0) out->pidfd.reset(fd);
}

}  // namespace

void TakeControl(struct msghdr* message, ControlData* out) {
  out->truncated = (message->msg_flags & MSG_CTRUNC) != 0;
  for (struct cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr;
       header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET) continue;
    if (header->cmsg_type == SCM_RIGHTS) {
      TakeDescriptors(header, out);
    } else if (header->cmsg_type == SCM_PIDFD) {
      TakePidfd(header, out);
    } else if (header->cmsg_type == SCM_CREDENTIALS &&
               header->cmsg_len >= CMSG_LEN(sizeof(out->credentials))) {
      memcpy(&out->credentials, CMSG_DATA(header), sizeof(out->credentials));
      out->has_credentials = true;
    }
  }
}

int SendFrame(int fd, const uint8_t* frame, size_t length, const int* descriptors, size_t count) {
  if (count > static_cast<size_t>(kScmMaxDescriptors)) return EINVAL;
  ControlBuffer control;
  struct iovec part = {const_cast<uint8_t*>(frame), length};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (count > 0) {
    // The padding of CMSG_SPACE reaches the kernel: cleared, so that no bytes of our stack go with it.
    const size_t space = CMSG_SPACE(count * sizeof(int));
    memset(control.bytes, 0, space);
    message.msg_control = control.bytes;
    message.msg_controllen = space;
    struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), descriptors, count * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? errno : 0;
}

Result<ReceivedFrame> ReceiveFrame(int fd, size_t max_frame, size_t max_descriptors) {
  const std::string subject = "descriptor " + std::to_string(fd);
  ControlBuffer control;
  max_descriptors = std::min(max_descriptors, static_cast<size_t>(kScmMaxDescriptors));
  ReceivedFrame frame;
  frame.bytes.resize(max_frame);
  struct iovec part = {frame.bytes.data(), max_frame};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (max_descriptors > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(max_descriptors * sizeof(int));
  }
  ssize_t got;
  do {
    got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return MakeError("recvmsg", errno, subject);
  ControlData data;
  TakeControl(&message, &data);
  if ((message.msg_flags & MSG_TRUNC) != 0)
    return MakeError("recvmsg", 0, subject + ": frame longer than " + std::to_string(max_frame),
                     "BAD_ANSWER");
  frame.bytes.resize(static_cast<size_t>(got));
  // CMSG_SPACE rounds up to 8: a buffer for one descriptor takes two without MSG_CTRUNC (CVE-2014-3635).
  frame.truncated = data.truncated || data.descriptors.size() > max_descriptors;
  if (!frame.truncated) frame.descriptors = std::move(data.descriptors);
  return frame;
}

}  // namespace aperture
