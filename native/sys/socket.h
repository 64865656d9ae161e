// UNIX sockets seen from outside: who is at the other end, and reaching one by path.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

#include "sys/result.h"
#include "sys/unique_fd.h"

namespace aperture {

struct Peer {
  int32_t pid;
  uint32_t uid;
  uint32_t gid;
  UniqueFd pidfd;  // invalid when the kernel has no SO_PEERPIDFD (before 6.5)
};

// ESRCH: the connecting process has been reaped and the kernel cannot name it any more.
Result<Peer> PeerOf(int fd);
// Supplementary groups of the connecting process at connect time, ascending. ERANGE: more than most (a
// process can have 65,536).
Result<std::vector<uint32_t>> PeerGroups(int fd, size_t most);
// type: SOCK_STREAM or SOCK_SEQPACKET. CLOEXEC and non-blocking; EAGAIN: the listener's backlog is full.
Result<UniqueFd> ConnectUnix(int type, const std::string& path);

// connect() to directory/name, whatever the length of the directory's path: sun_path holds 107 bytes, and
// /proc/self/fd/N/name also stays with the directory that was opened when somebody renames it. 0 or errno.
int ConnectInDirectory(int socket, int directory, const std::string& name);
// The address that ConnectInDirectory() uses; false when name is too long even so.
bool AddressInDirectory(int directory, const std::string& name, struct sockaddr_storage* out,
                        socklen_t* length);

}  // namespace aperture
