#include "sys/pidfd.h"

#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434  // every architecture, Linux 5.3
#endif

namespace aperture {

namespace {

constexpr long kPidfsMagic = 0x50494446;  // uapi/linux/magic.h, Linux 6.9

}  // namespace

Result<UniqueFd> OpenPidfd(int pid) {
  const long fd = syscall(SYS_pidfd_open, pid, 0);
  if (fd < 0) return MakeError("pidfd_open", errno, "process " + std::to_string(pid));
  return UniqueFd(static_cast<int>(fd));
}

bool IsAlive(int pidfd) {
  bool alive;
  AreAlive(&pidfd, &alive, 1);
  return alive;
}

void AreAlive(const int* pidfds, bool* alive, int count) {
  struct pollfd queries[kMostAlive];
  for (int i = 0; i < count; i++) queries[i] = {pidfds[i], POLLIN, 0};
  int ready;
  do {
    ready = poll(queries, static_cast<nfds_t>(count), 0);
  } while (ready < 0 && errno == EINTR);
  // Anything but silence counts as dead, POLLNVAL and POLLHUP (a reaped process, since 6.9) too; and all are
  // when the kernel could not answer.
  for (int i = 0; i < count; i++) alive[i] = ready >= 0 && queries[i].revents == 0;
}

std::optional<uint64_t> PidfdInode(int pidfd) {
  struct statfs filesystem;
  struct stat status;
  if (fstatfs(pidfd, &filesystem) < 0 || filesystem.f_type != kPidfsMagic) return std::nullopt;
  if (fstat(pidfd, &status) < 0) return std::nullopt;
  return status.st_ino;
}

}  // namespace aperture
