// Who opens and closes a file, counted by the kernel: one event for each open file, not for each descriptor.
// An open file that was sent over a socket, inherited by a child or is kept by a mapping is closed when the
// last of them is (fs/file_table.c __fput → fsnotify_close).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

struct FileEvent {
  int32_t watch;  // -1: events were lost (IN_Q_OVERFLOW)
  uint32_t mask;
};

Result<UniqueFd> CreateInotify();
// Watches opens and closes of a file from now on. The same file again: the same watch.
Result<int> WatchFile(int inotify, const std::string& path);
// All that has happened, in order. Two equal events that nobody has read in between are one
// (fs/notify/inotify/inotify_fsnotify.c inotify_merge).
Result<std::vector<FileEvent>> ReadFileEvents(int inotify);

}  // namespace aperture
