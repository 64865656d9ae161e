// Processes by pidfd. A pid names whoever has the number now; a pidfd names one process for ever.
#pragma once

#include <cstdint>
#include <optional>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

Result<UniqueFd> OpenPidfd(int pid);
// False once every thread of the process has exited, whether it has been reaped or not.
bool IsAlive(int pidfd);
// The same for several at once, at most kMostAlive.
constexpr int kMostAlive = 64;
void AreAlive(const int* pidfds, bool* alive, int count);
// The inode of a pidfd tells processes apart only since pidfs (Linux 6.9); before it, all pidfds share the
// one inode of anon_inodefs, and the answer is none.
std::optional<uint64_t> PidfdInode(int pidfd);

}  // namespace aperture
