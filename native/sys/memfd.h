#pragma once

#include <cstdint>
#include <string>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

// A sparse memfd whose size is sealed (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL): a client that was handed
// it can neither truncate it under another's mapping (SIGBUS) nor seal the next client's writes away.
Result<UniqueFd> CreateMemfd(const std::string& name, uint64_t size);

// Whether any open file of the memfd other than fd's own exists, one that only a mapping holds included.
// Copies of fd itself (dup, SCM_RIGHTS, fork) share its open file and are invisible: hand out what Reopen()
// gives, never fd.
Result<bool> IsMemfdShared(int fd);

}  // namespace aperture
