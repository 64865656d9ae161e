#include "sys/uevent.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "sys/scm.h"

#ifndef SO_RCVBUFFORCE
#define SO_RCVBUFFORCE 33  // asm-generic/socket.h
#endif

namespace aperture {

namespace {

constexpr char kSubject[] = "uevents";
constexpr uint32_t kKernelGroup = 1;
// Room for a few thousand messages; what does not fit is told as lost.
constexpr int kReceiveBytes = 4 * 1024 * 1024;
constexpr unsigned long kGetUserNamespace = _IO(0xb7, 0x1);  // uapi/linux/nsfs.h NS_GET_USERNS, Linux 4.9
constexpr ino_t kInitialUserNamespace = 0xEFFFFFFDU;         // linux/proc_ns.h PROC_USER_INIT_INO

// 0 when events reach this network namespace, else errno: EPERM when its owner is out of our sight, which the
// initial user namespace is for nobody inside it.
int CheckNamespace() {
  const UniqueFd network(open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  // Without /proc nobody can tell, and a socket that hears nothing does no harm.
  if (!network.valid()) return 0;
  const UniqueFd owner(ioctl(network.get(), kGetUserNamespace));
  if (!owner.valid()) return errno == EPERM ? EPERM : 0;
  struct stat status;
  if (fstat(owner.get(), &status) < 0) return 0;
  return status.st_ino == kInitialUserNamespace ? 0 : EPERM;
}

}  // namespace

Result<UniqueFd> OpenUevents() {
  const int outside = CheckNamespace();
  if (outside != 0) return MakeError("ioctl(NS_GET_USERNS)", outside, kSubject, "FOREIGN_NAMESPACE");
  UniqueFd fd(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT));
  if (!fd.valid()) return MakeError("socket(NETLINK_KOBJECT_UEVENT)", errno, kSubject);
  const int on = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
    return MakeError("setsockopt(SO_PASSCRED)", errno, kSubject);
  // Beyond net.core.rmem_max only with CAP_NET_ADMIN. With less room more is lost, and a loss is told.
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kReceiveBytes, sizeof(kReceiveBytes)) < 0)
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &kReceiveBytes, sizeof(kReceiveBytes));
  struct sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kKernelGroup;
  if (bind(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) < 0)
    return MakeError("bind(NETLINK_KOBJECT_UEVENT)", errno, kSubject);
  return fd;
}

Result<UeventBatch> ReceiveUevents(int fd) {
  UeventBatch batch;
  uint8_t bytes[kUeventBytes];
  for (int i = 0; i < kUeventBatch; i++) {
    struct sockaddr_nl sender = {};
    struct iovec part = {bytes, sizeof(bytes)};
    alignas(struct cmsghdr) uint8_t control_bytes[CMSG_SPACE(sizeof(struct ucred))];
    struct msghdr message = {};
    message.msg_name = &sender;
    message.msg_namelen = sizeof(sender);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control_bytes;
    message.msg_controllen = sizeof(control_bytes);
    const ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      // Told once for each time the buffer was full; the socket goes on.
      if (errno != ENOBUFS) return MakeError("recvmsg", errno, kSubject);
      batch.lost = true;
      continue;
    }
    ControlData control;
    TakeControl(&message, &control);
    const bool from_kernel = message.msg_namelen == sizeof(sender) && sender.nl_family == AF_NETLINK &&
                             sender.nl_pid == 0 && control.has_credentials && control.credentials.uid == 0 &&
                             control.credentials.pid == 0;
    if (!from_kernel) {
      batch.foreign++;
    } else if ((message.msg_flags & MSG_TRUNC) != 0) {
      batch.lost = true;
    } else {
      batch.messages.emplace_back(bytes, bytes + got);
    }
  }
  // Nobody would be woken to find out: the batch may have ended with the last message.
  struct pollfd left = {fd, POLLIN, 0};
  batch.drained = poll(&left, 1, 0) == 0;
  return batch;
}

}  // namespace aperture
