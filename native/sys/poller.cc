#include "sys/poller.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "sys/pidfd.h"
#include "sys/socket.h"

namespace aperture {

namespace {

constexpr int kAcceptBudget = 16;
// How long a listener rests when there is neither a descriptor nor a spare one to accept with. Without the
// rest, its waiting connection would wake the loop for ever.
constexpr long kRestNanoseconds = 100'000'000;
// No entry has generation 0.
constexpr uint64_t kTimerKey = 0;

uint64_t Key(int32_t id, uint32_t generation) {
  return static_cast<uint64_t>(generation) << 32 | static_cast<uint32_t>(id);
}

bool IsStarvation(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

// A descriptor kept for the day when there are no others. An eventfd is an open file of its own, so giving it
// up helps against ENFILE too, which a duplicate would not.
UniqueFd MakeSpare() {
  return UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int SocketOption(int fd, int option) {
  int value = 0;
  socklen_t size = sizeof(value);
  return getsockopt(fd, SOL_SOCKET, option, &value, &size) < 0 ? -1 : value;
}

}  // namespace

Result<std::unique_ptr<Poller>> Poller::Create(std::shared_ptr<PollerBuffers> buffers) {
  std::unique_ptr<Poller> poller(new Poller(std::move(buffers)));
  poller->epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
  if (!poller->epoll_.valid()) return MakeError("epoll_create1", errno, "");
  poller->timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!poller->timer_.valid()) return MakeError("timerfd_create", errno, "");
  poller->spare_ = MakeSpare();
  if (!poller->spare_.valid()) return MakeError("eventfd2", errno, "");
  struct epoll_event event = {};
  event.events = EPOLLIN;
  event.data.u64 = kTimerKey;
  if (epoll_ctl(poller->epoll_.get(), EPOLL_CTL_ADD, poller->timer_.get(), &event) < 0)
    return MakeError("epoll_ctl", errno, "");
  return poller;
}

Result<None> Poller::Add(const char* operation, Entry entry, uint32_t events) {
  const std::string subject = "id " + std::to_string(entry.id);
  const int fd = entry.fd.get();
  int failed = 0;
  if (entries_.count(entry.id) != 0) {
    failed = EEXIST;
  } else {
    entry.generation = next_generation_++;
    if (next_generation_ == 0) next_generation_ = 1;
    struct epoll_event event = {};
    event.events = events;
    event.data.u64 = Key(entry.id, entry.generation);
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) failed = errno;
  }
  if (failed != 0) {
    // What was to be taken over stays the caller's.
    if (entry.source == Source::kListener || entry.source == Source::kChannel) entry.fd.release();
    return MakeError(operation, failed, subject);
  }
  const int32_t id = entry.id;
  entries_.emplace(id, std::move(entry));
  return None();
}

Result<None> Poller::AddListener(int fd, int32_t id) {
  const char* const operation = "Poller.addListener";
  const std::string subject = "id " + std::to_string(id);
  if (SocketOption(fd, SO_ACCEPTCONN) != 1)
    return MakeError(operation, EINVAL, subject + ": not a listening socket");
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
    return MakeError("fcntl(F_SETFL)", errno, subject);
  // An accepted socket inherits these from its listener (net/unix/af_unix.c, unix_sock_inherit_flags,
  // since 3.6). Set after accept() they would come too late for a frame that is sent in between: the kernel
  // would not have noted its sender. Streams carry bytes for Node, which reads without control messages.
  if (SocketOption(fd, SO_TYPE) == SOCK_SEQPACKET) {
    const int failed = RequestCredentials(fd, true);
    if (failed != 0) return MakeError("setsockopt(SO_PASSCRED)", failed, subject);
  }
  Entry entry = {};
  entry.source = Source::kListener;
  entry.id = id;
  entry.fd.reset(fd);
  return Add(operation, std::move(entry), EPOLLIN);
}

Result<None> Poller::AddChannel(int fd, int32_t id, int32_t pid, uint32_t uid, int pidfd) {
  const char* const operation = "Poller.addChannel";
  const std::string subject = "id " + std::to_string(id);
  if (SocketOption(fd, SO_DOMAIN) != AF_UNIX || SocketOption(fd, SO_TYPE) != SOCK_SEQPACKET)
    return MakeError(operation, EPROTOTYPE, subject, "NOT_UNIX");
  // The pid is as good as a pidfd while we can ask whether its process lives (IsFromOwner).
  const bool is_pid_enough = pid > 0 && pidfd >= 0;
  const int failed = RequestCredentials(fd, !is_pid_enough);
  if (failed != 0) return MakeError("setsockopt(SO_PASSCRED)", failed, subject);
  Entry entry = {};
  entry.source = Source::kChannel;
  entry.id = id;
  entry.pid = pid;
  entry.uid = uid;
  // pidfd -1: a kernel before 6.5, where only the pid is known.
  if (pidfd >= 0) {
    entry.pidfd.reset(fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
    if (!entry.pidfd.valid()) return MakeError("fcntl(F_DUPFD_CLOEXEC)", errno, subject);
    entry.inode = PidfdInode(entry.pidfd.get());
  }
  entry.fd.reset(fd);
  return Add(operation, std::move(entry), EPOLLIN | EPOLLRDHUP);
}

Result<None> Poller::WatchExit(int pidfd, int32_t id) {
  Entry entry = {};
  entry.source = Source::kExit;
  entry.id = id;
  entry.fd.reset(fcntl(pidfd, F_DUPFD_CLOEXEC, 0));
  if (!entry.fd.valid()) return MakeError("fcntl(F_DUPFD_CLOEXEC)", errno, "id " + std::to_string(id));
  return Add("Poller.watchExit", std::move(entry), EPOLLIN);
}

Result<None> Poller::WatchEventfd(int fd, int32_t id) {
  const std::string subject = "id " + std::to_string(id);
  Entry entry = {};
  entry.source = Source::kEventfd;
  entry.id = id;
  entry.fd.reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!entry.fd.valid()) return MakeError("fcntl(F_DUPFD_CLOEXEC)", errno, subject);
  // Two readers of one eventfd race for its counter; the loser must not sleep in read().
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || (flags & O_NONBLOCK) == 0)
    return MakeError("Poller.watchEventfd", EINVAL, subject + ": the eventfd is not EFD_NONBLOCK");
  return Add("Poller.watchEventfd", std::move(entry), EPOLLIN);
}

Result<None> Poller::WatchReadable(int fd, int32_t id) {
  Entry entry = {};
  entry.source = Source::kReadable;
  entry.id = id;
  entry.fd.reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!entry.fd.valid()) return MakeError("fcntl(F_DUPFD_CLOEXEC)", errno, "id " + std::to_string(id));
  return Add("Poller.watchReadable", std::move(entry), EPOLLIN);
}

void Poller::Remove(int32_t id) {
  for (int i = 0; i < rows_; i++) {
    PollRow& row = buffers_->rows[i];
    if (row.id == id && row.kind != PollKind::kAccepted) row.kind = PollKind::kNone;
  }
  const auto found = entries_.find(id);
  if (found == entries_.end()) return;
  // Needed although the descriptor is closed next: a child that inherited the open file would keep it in the
  // set.
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, found->second.fd.get(), nullptr);
  entries_.erase(found);
}

void Poller::RemoveAll() {
  while (!entries_.empty()) Remove(entries_.begin()->first);
  // Sources that ended in this batch have rows but no entry.
  for (int i = 0; i < rows_; i++) {
    if (buffers_->rows[i].kind != PollKind::kAccepted) buffers_->rows[i].kind = PollKind::kNone;
  }
}

Poller::Entry* Poller::Find(uint64_t key) {
  const auto found = entries_.find(static_cast<int32_t>(key & 0xffffffffu));
  if (found == entries_.end() || found->second.generation != key >> 32) return nullptr;
  return &found->second;
}

PollRow* Poller::NewRow(PollKind kind, int32_t id, int32_t a) {
  PollRow* row = &buffers_->rows[rows_++];
  *row = PollRow{kind, id, a, 0, 0, 0, 0};
  return row;
}

int Poller::Collect() {
  struct epoll_event events[kPollBatch];
  rows_ = 0;
  const int ready = epoll_wait(epoll_.get(), events, kPollBatch, 0);
  for (int i = 0; i < ready; i++) {
    // One row stays free for each source that is still to be asked.
    const int limit = kPollBatch - (ready - i - 1);
    if (events[i].data.u64 == kTimerKey) {
      OnTimer();
      continue;
    }
    Entry* entry = Find(events[i].data.u64);
    if (entry == nullptr) continue;
    switch (entry->source) {
      case Source::kListener:
        OnListener(entry, limit);
        break;
      case Source::kChannel:
        OnChannel(entry);
        break;
      case Source::kExit:
        OnExit(entry);
        break;
      case Source::kEventfd:
        OnEventfd(entry);
        break;
      case Source::kReadable:
        NewRow(PollKind::kReadable, entry->id, static_cast<int32_t>(events[i].events));
        break;
    }
  }
  if (owned_ > 0) DisownTheDead();
  return rows_;
}

void Poller::OnListener(Entry* entry, int limit) {
  for (int budget = kAcceptBudget; budget > 0 && rows_ < limit; budget--) {
    UniqueFd fd(accept4(entry->fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      const int failed = errno;
      if (failed == EINTR || failed == ECONNABORTED) continue;
      if (IsStarvation(failed)) OnStarved(entry, failed);
      return;
    }
    Result<Peer> peer = PeerOf(fd.get());
    if (!peer.ok()) {
      if (!IsStarvation(peer.error().number)) continue;  // the peer is dead
      fd.reset();
      NewRow(PollKind::kStarved, entry->id, peer.error().number);
      return;
    }
    Peer& who = peer.value();
    // Since 6.16 the kernel makes a pidfd for a peer that was reaped long ago.
    if (who.pidfd.valid() && !IsAlive(who.pidfd.get())) continue;
    PollRow* row = NewRow(PollKind::kAccepted, entry->id, fd.release());
    row->b = who.pid;
    row->c = static_cast<int32_t>(who.uid);
    row->d = static_cast<int32_t>(who.gid);
    row->e = who.pidfd.release();
  }
}

void Poller::OnStarved(Entry* entry, int error) {
  if (!spare_.valid()) spare_ = MakeSpare();
  bool shed = false;
  if (spare_.valid()) {
    spare_.reset();
    const UniqueFd unlucky(accept4(entry->fd.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    shed = unlucky.valid();
  }
  if (!spare_.valid()) spare_ = MakeSpare();
  NewRow(PollKind::kStarved, entry->id, error);
  if (shed) return;
  struct epoll_event event = {};
  event.data.u64 = Key(entry->id, entry->generation);
  epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, entry->fd.get(), &event);
  entry->disarmed = true;
  const struct itimerspec rest = {{0, 0}, {0, kRestNanoseconds}};
  timerfd_settime(timer_.get(), 0, &rest, nullptr);
}

void Poller::OnTimer() {
  uint64_t expirations;
  if (read(timer_.get(), &expirations, sizeof(expirations)) < 0) return;
  if (!spare_.valid()) spare_ = MakeSpare();
  for (auto& [id, entry] : entries_) {
    if (!entry.disarmed) continue;
    struct epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = Key(id, entry.generation);
    epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, entry.fd.get(), &event);
    entry.disarmed = false;
  }
}

void Poller::OnExit(Entry* entry) {
  End(entry, PollKind::kExited, 0);
}

void Poller::OnEventfd(Entry* entry) {
  uint64_t counter;
  if (read(entry->fd.get(), &counter, sizeof(counter)) != static_cast<ssize_t>(sizeof(counter))) {
    // EAGAIN: another reader was faster. Anything else is not an eventfd, and would wake us for ever.
    if (errno != EAGAIN && errno != EINTR) End(entry, PollKind::kHangup, errno);
    return;
  }
  NewRow(PollKind::kSignalled, entry->id, static_cast<int32_t>(counter & 0x7fffffff));
}

void Poller::End(Entry* entry, PollKind kind, int error) {
  const int32_t id = entry->id;
  NewRow(kind, id, error);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, entry->fd.get(), nullptr);
  entries_.erase(id);
}

}  // namespace aperture
