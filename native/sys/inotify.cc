#include "sys/inotify.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>

namespace aperture {

Result<UniqueFd> CreateInotify() {
  UniqueFd fd(inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!fd.valid()) return MakeError("inotify_init1", errno, "");
  return fd;
}

Result<int> WatchFile(int inotify, const std::string& path) {
  // A symlink would let whoever made it choose the file.
  const int watch = inotify_add_watch(inotify, path.c_str(), IN_OPEN | IN_CLOSE | IN_DONT_FOLLOW);
  if (watch < 0) return MakeError("inotify_add_watch", errno, path);
  return watch;
}

Result<std::vector<FileEvent>> ReadFileEvents(int inotify) {
  std::vector<FileEvent> events;
  alignas(struct inotify_event) char bytes[16 * 1024];
  // As much as the kernel keeps (fs.inotify.max_queued_events, 16384): more than that is being made while we
  // read.
  for (int i = 0; i < 32; i++) {
    const ssize_t got = read(inotify, bytes, sizeof(bytes));
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return events;
      return MakeError("read(inotify)", errno, "");
    }
    const size_t length = static_cast<size_t>(got);
    size_t at = 0;
    while (at + sizeof(struct inotify_event) <= length) {
      struct inotify_event event;
      memcpy(&event, bytes + at, sizeof(event));
      events.push_back({event.wd, event.mask});
      at += sizeof(event) + event.len;
    }
  }
  return events;
}

}  // namespace aperture
