// The half of the Poller that speaks on channels: frames in, with the question who sent each, and frames out.
#include <sys/socket.h>

#include <cerrno>

#include "sys/abi_socket.h"
#include "sys/pidfd.h"
#include "sys/poller.h"

namespace aperture {

namespace {

constexpr int kFrameBudget = 8;

// Room for what every frame carries and not for descriptors: those that a client sends are then cut off by
// the kernel (at most two fit where the pidfd belongs), and MSG_CTRUNC tells.
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int));

}  // namespace

int RequestCredentials(int fd) {
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) return errno;
  // Before 6.5 there are only the credentials.
  if (setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof(on)) < 0 && errno != ENOPROTOOPT) return errno;
  return 0;
}

bool Poller::IsFromOwner(const Entry& channel, const ControlData& control) const {
  if (!control.has_credentials) return false;
  if (control.credentials.pid != channel.pid || control.credentials.uid != channel.uid) return false;
  const bool starved =
      control.pidfd_error == EMFILE || control.pidfd_error == ENFILE || control.pidfd_error == ENOMEM;
  if (channel.inode.has_value() && !starved) {
    // The kernel makes SCM_PIDFD from the pid in the credentials, which a privileged sender may choose: the
    // inode is no second witness of who sent the frame, but it does tell two users of one pid number apart.
    if (!control.pidfd.valid() || PidfdInode(control.pidfd.get()) != channel.inode) return false;
  } else if (channel.pid == 0) {
    // Outside our pid namespace every pid is 0: a match would mean nothing.
    return false;
  }
  // While the process that connected lives, nobody else can have its pid, so the credentials are about it.
  // Asked last: a death between the send and now makes the frame foreign, never the other way round.
  return !channel.pidfd.valid() || IsAlive(channel.pidfd.get());
}

bool Poller::ReceiveOne(Entry* entry) {
  uint8_t* frame = buffers_->frames[rows_];
  alignas(struct cmsghdr) uint8_t control_bytes[kControlBytes];
  struct iovec part = {frame, kPollFrameBytes};
  struct msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control_bytes;
  message.msg_controllen = sizeof(control_bytes);
  const ssize_t got = recvmsg(entry->fd.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) End(entry, PollKind::kHangup, errno);
    return false;
  }
  ControlData control;
  TakeControl(&message, &control);
  if (!control.descriptors.empty() || control.truncated || (message.msg_flags & MSG_TRUNC) != 0) {
    End(entry, PollKind::kViolation, EPROTO);
    return false;
  }
  // recvmsg() answers 0 both at the end and for an empty message; only a message has a sender.
  if (got == 0 && !control.has_credentials) {
    End(entry, PollKind::kHangup, 0);
    return false;
  }
  const bool own = IsFromOwner(*entry, control);
  PollRow* row = NewRow(PollKind::kFrame, entry->id, static_cast<int32_t>(got));
  row->b = own ? 1 : 0;
  return true;
}

void Poller::OnChannel(Entry* entry, int limit) {
  for (int budget = kFrameBudget; budget > 0 && rows_ < limit; budget--) {
    if (!ReceiveOne(entry)) return;
  }
}

void Poller::Flush(int count) {
  for (int i = 0; i < count; i++) {
    OutRow& row = buffers_->out[i];
    const auto found = entries_.find(row.id);
    if (found == entries_.end() || found->second.source != Source::kChannel) {
      row.error = EBADF;
    } else if (row.length <= 0 || row.length > kPollFrameBytes || row.descriptors < 0 ||
               row.descriptors > kPollDescriptors) {
      row.error = EINVAL;
    } else {
      row.error = SendFrame(found->second.fd.get(), buffers_->out_frames[i], static_cast<size_t>(row.length),
                            buffers_->out_descriptors[i], static_cast<size_t>(row.descriptors));
    }
  }
}

}  // namespace aperture
