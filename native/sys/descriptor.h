// Plain descriptors: opening, reading, copying and closing what is neither a socket nor VFIO's own.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

// kWrite: an attribute of sysfs that can only be written (mode 0200) refuses to be opened for reading too.
enum class Access { kRead, kWrite, kReadWrite };

Result<UniqueFd> OpenPath(const std::string& path, Access access);
// A second open file of what fd refers to: its own offset, flags and leases, unlike a duplicate.
Result<UniqueFd> Reopen(int fd, Access access);
Result<None> CloseDescriptor(int fd);
// In this order, all of them whatever one answers. The first error.
Result<None> CloseDescriptors(const std::vector<int>& fds);
// poll(2) for POLLOUT without waiting. False also when fd is not open.
bool IsWritable(int fd);
Result<UniqueFd> Duplicate(int fd);
Result<None> ClearCloseOnExec(int fd);

// Until length bytes are there, or the kernel gives no more, or it fails after it gave some: nvgrace answers
// a read across the end of its memory with a short count, and one that starts at the end of the region with
// EINVAL.
Result<std::vector<uint8_t>> ReadAt(int fd, uint64_t offset, size_t length, const std::string& subject);
Result<size_t> WriteAt(int fd, uint64_t offset, const uint8_t* data, size_t length,
                       const std::string& subject);

Result<UniqueFd> CreateEventfd();
// Soft and hard.
Result<std::pair<uint64_t, uint64_t>> NofileLimit();

}  // namespace aperture
