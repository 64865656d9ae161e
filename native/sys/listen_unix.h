// A listening socket at a path, without the two classic holes: removing what somebody else put there, and
// being open to everybody for the moment between bind() and chmod().
#pragma once

#include <cstdint>
#include <string>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

struct Listener {
  UniqueFd fd;
  uint64_t inode;
};

// type: SOCK_STREAM or SOCK_SEQPACKET. gid -1 keeps the group that the directory or process gives.
Result<Listener> ListenUnix(int type, const std::string& directory, const std::string& name, uint32_t mode,
                            int64_t gid, int backlog);
// Removes directory/name when it is a socket with this inode, else leaves it.
Result<None> UnlinkSocket(const std::string& directory, const std::string& name, uint64_t inode);

}  // namespace aperture
