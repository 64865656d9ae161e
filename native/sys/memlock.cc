#include "sys/memlock.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

namespace aperture {

// The kernel's ~0 stands for "none" and is what uint64 has as its largest value too.
static_assert(static_cast<uint64_t>(RLIM_INFINITY) == UINT64_MAX, "rlim_t has 64 bits");

Result<std::pair<uint64_t, uint64_t>> RaiseMemlock(uint64_t bytes) {
  const char* subject = "RLIMIT_MEMLOCK";
  struct rlimit limit;
  if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0) return MakeError("getrlimit", errno, subject);
  if (limit.rlim_cur < bytes) {
    const struct rlimit wanted = {bytes, std::max<rlim_t>(limit.rlim_max, bytes)};
    if (setrlimit(RLIMIT_MEMLOCK, &wanted) == 0) {
      limit = wanted;
    } else if (errno == EPERM) {
      limit.rlim_cur = limit.rlim_max;
      if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0) return MakeError("setrlimit", errno, subject);
    } else {
      return MakeError("setrlimit", errno, subject);
    }
  }
  return std::make_pair(static_cast<uint64_t>(limit.rlim_cur), static_cast<uint64_t>(limit.rlim_max));
}

}  // namespace aperture
