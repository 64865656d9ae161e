#include "sys/descriptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

namespace aperture {

namespace {

std::string Name(int fd) {
  return "descriptor " + std::to_string(fd);
}

int OpenFlags(Access access) {
  switch (access) {
    case Access::kRead:
      return O_CLOEXEC | O_RDONLY;
    case Access::kWrite:
      return O_CLOEXEC | O_WRONLY;
    case Access::kReadWrite:
      break;
  }
  return O_CLOEXEC | O_RDWR;
}

}  // namespace

Result<UniqueFd> OpenPath(const std::string& path, Access access) {
  // O_NOCTTY: a path from a configuration file must not be able to hand the daemon a controlling terminal.
  const int fd = open(path.c_str(), OpenFlags(access) | O_NOCTTY);
  if (fd < 0) return MakeError("open", errno, path);
  return UniqueFd(fd);
}

Result<UniqueFd> Reopen(int fd, Access access) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const int other = open(path.c_str(), OpenFlags(access) | O_NOCTTY);
  if (other < 0) return MakeError("open", errno, path);
  return UniqueFd(other);
}

Result<None> CloseDescriptor(int fd) {
  // Only EBADF says that nothing was closed; with any other error the number is free all the same.
  if (close(fd) < 0) return MakeError("close", errno, Name(fd));
  return None();
}

Result<None> CloseDescriptors(const std::vector<int>& fds) {
  Result<None> first = None();
  for (const int fd : fds) {
    Result<None> closed = CloseDescriptor(fd);
    if (!closed.ok() && first.ok()) first = std::move(closed);
  }
  return first;
}

bool IsWritable(int fd) {
  struct pollfd asked = {fd, POLLOUT, 0};
  return poll(&asked, 1, 0) == 1 && (asked.revents & POLLNVAL) == 0;
}

Result<UniqueFd> Duplicate(int fd) {
  const int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (other < 0) return MakeError("fcntl(F_DUPFD_CLOEXEC)", errno, Name(fd));
  return UniqueFd(other);
}

Result<None> ClearCloseOnExec(int fd) {
  const int flags = fcntl(fd, F_GETFD);
  if (flags < 0) return MakeError("fcntl(F_GETFD)", errno, Name(fd));
  if (fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0) return MakeError("fcntl(F_SETFD)", errno, Name(fd));
  return None();
}

Result<std::vector<uint8_t>> ReadAt(int fd, uint64_t offset, size_t length, const std::string& subject) {
  std::vector<uint8_t> bytes(length);
  size_t done = 0;
  while (done < length) {
    const ssize_t got = pread(fd, bytes.data() + done, length - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && done == 0) return MakeError("pread", errno, subject);
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  bytes.resize(done);
  return bytes;
}

Result<size_t> WriteAt(int fd, uint64_t offset, const uint8_t* data, size_t length,
                       const std::string& subject) {
  size_t done = 0;
  while (done < length) {
    const ssize_t put = pwrite(fd, data + done, length - done, static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && done == 0) return MakeError("pwrite", errno, subject);
    if (put <= 0) break;
    done += static_cast<size_t>(put);
  }
  return done;
}

Result<UniqueFd> CreateEventfd() {
  const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) return MakeError("eventfd2", errno, "");
  return UniqueFd(fd);
}

Result<std::pair<uint64_t, uint64_t>> NofileLimit() {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return MakeError("getrlimit", errno, "RLIMIT_NOFILE");
  return std::make_pair(static_cast<uint64_t>(limit.rlim_cur), static_cast<uint64_t>(limit.rlim_max));
}

}  // namespace aperture
