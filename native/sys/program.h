// What a process runs and where it runs, from /proc. Each of these can block: /proc/PID/cgroup takes the
// kernel's one cgroup mutex, which a removal of a large cgroup holds for long. So none of it belongs on the
// event loop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sys/result.h"

namespace aperture {

struct Program {
  // Target of /proc/PID/exe, as the kernel writes it; empty: exe_error tells. It is the path within the mount
  // namespace of the file, which need not be ours: IsFile() tells whether it names the same file here.
  std::vector<uint8_t> executable;
  std::string exe_error;
  // Identity of the file itself.
  uint64_t device = 0;
  uint64_t inode = 0;
  // Path in the cgroup v2 hierarchy; empty: cgroup_error tells.
  std::vector<uint8_t> cgroup;
  std::string cgroup_error;
};

// pid may be another process by the time this returns: ask its pidfd afterwards. ESRCH, ENOENT: there is
// none.
Result<Program> ReadProgram(int pid);

// Whether path, in this process's view, is the file itself (no link) with this identity. Looks the path up,
// so a file system that hangs keeps the thread.
Result<bool> IsFile(const std::string& path, uint64_t device, uint64_t inode);

// The value of the line "0::" of /proc/PID/cgroup; empty when there is none (no cgroup v2).
std::string UnifiedCgroup(const std::string& text);

}  // namespace aperture
