// The half of the Poller that speaks on channels: frames in, with the question who sent each, and frames out.
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "sys/abi_socket.h"
#include "sys/pidfd.h"
#include "sys/poller.h"

namespace aperture {

namespace {

// Room for what every frame carries and not for descriptors: those that a client sends are then cut off by
// the kernel (at most two fit where the pidfd belongs), and MSG_CTRUNC tells.
constexpr size_t kControlBytes = CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int));

static_assert(kPollBatch <= kMostAlive);

}  // namespace

int RequestCredentials(int fd, bool pidfd) {
  const int on = 1;
  if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0) return errno;
  // Before 6.5 there are only the credentials.
  const int wanted = pidfd ? 1 : 0;
  if (setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &wanted, sizeof(wanted)) < 0 && errno != ENOPROTOOPT)
    return errno;
  return 0;
}

bool Poller::IsFromOwner(const Entry& channel, const ControlData& control) const {
  if (!control.has_credentials) return false;
  if (control.credentials.pid != channel.pid || control.credentials.uid != channel.uid) return false;
  if (channel.pid == 0) {
    // Outside our pid namespace every pid is 0, and a match means nothing. The kernel makes SCM_PIDFD of the
    // very process, whatever its number here; one that could not be made for want of descriptors is no proof.
    if (!channel.inode.has_value() || !control.pidfd.valid()) return false;
    if (PidfdInode(control.pidfd.get()) != channel.inode) return false;
  }
  // While the process that connected lives, nobody else can have its pid, so the credentials are about it: a
  // pidfd of the sender, which the kernel makes from the same pid, would say no more and cost five system
  // calls a frame. Whether it lives is asked for all frames of a batch at once (DisownTheDead).
  return true;
}

// Asked last: a death between a send and now makes the frame foreign, never the other way round.
void Poller::DisownTheDead() {
  std::array<bool, kPollBatch> alive;
  AreAlive(owners_.data(), alive.data(), owned_);
  for (int i = 0; i < owned_; i++) {
    if (!alive[i]) buffers_->rows[owned_rows_[i]].b = 0;
  }
  owned_ = 0;
}

// One frame a wake-up: a channel rarely has two, the set is level-triggered, and to ask once more only to
// hear EAGAIN costs a system call for each frame.
void Poller::OnChannel(Entry* entry) {
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
    if (errno != EAGAIN && errno != EINTR) End(entry, PollKind::kHangup, errno);
    return;
  }
  ControlData control;
  TakeControl(&message, &control);
  if (!control.descriptors.empty() || control.truncated || (message.msg_flags & MSG_TRUNC) != 0) {
    End(entry, PollKind::kViolation, EPROTO);
    return;
  }
  // recvmsg() answers 0 both at the end and for an empty message; only a message has a sender.
  if (got == 0 && !control.has_credentials) {
    End(entry, PollKind::kHangup, 0);
    return;
  }
  const bool own = IsFromOwner(*entry, control);
  PollRow* row = NewRow(PollKind::kFrame, entry->id, static_cast<int32_t>(got));
  row->b = own ? 1 : 0;
  // pidfd -1: a kernel before 6.5, where only the pid is known.
  if (!own || !entry->pidfd.valid()) return;
  owners_[owned_] = entry->pidfd.get();
  owned_rows_[owned_++] = rows_ - 1;
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
