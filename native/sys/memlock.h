// RLIMIT_MEMLOCK of this process, which its children inherit.
#pragma once

#include <cstdint>
#include <utility>

#include "sys/result.h"

namespace aperture {

// Raises the limit to at least `bytes`, never lowers it. A soft limit may go up to the hard one by itself;
// the hard one only with CAP_SYS_RESOURCE in the initial user namespace (prlimit(2)). Where that is missing
// the soft limit is raised as far as it may be. Returns the limits that hold then, soft and hard; UINT64_MAX:
// none.
Result<std::pair<uint64_t, uint64_t>> RaiseMemlock(uint64_t bytes);

}  // namespace aperture
