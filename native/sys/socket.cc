#include "sys/socket.h"

#include <fcntl.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "sys/abi_socket.h"

namespace aperture {

namespace {

int IntegerOption(int fd, int option, int* out) {
  socklen_t size = sizeof(*out);
  return getsockopt(fd, SOL_SOCKET, option, out, &size) < 0 ? errno : 0;
}

}  // namespace

Result<Peer> PeerOf(int fd) {
  const std::string subject = "descriptor " + std::to_string(fd);
  int domain = 0;
  int failed = IntegerOption(fd, SO_DOMAIN, &domain);
  if (failed != 0) return MakeError("getsockopt(SO_DOMAIN)", failed, subject);
  // SO_PEERCRED of another domain answers pid 0 and uid -1 without an error.
  if (domain != AF_UNIX) return MakeError("getsockopt(SO_PEERCRED)", EAFNOSUPPORT, subject, "NOT_UNIX");
  struct ucred credentials = {};
  socklen_t size = sizeof(credentials);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0)
    return MakeError("getsockopt(SO_PEERCRED)", errno, subject);
  if (credentials.uid == static_cast<uid_t>(-1))
    return MakeError("getsockopt(SO_PEERCRED)", ENOTCONN, subject);
  Peer peer = {credentials.pid, credentials.uid, credentials.gid, UniqueFd()};
  int pidfd = -1;
  failed = IntegerOption(fd, SO_PEERPIDFD, &pidfd);
  if (failed == 0) {
    peer.pidfd.reset(pidfd);
  } else if (failed == EINVAL || failed == ENODATA || failed == ESRCH) {
    // A reaped peer: which of these depends on the kernel; from 6.16 on pidfs keeps what it needs and
    // answers.
    return MakeError("getsockopt(SO_PEERPIDFD)", ESRCH, subject);
  } else if (failed != ENOPROTOOPT) {
    return MakeError("getsockopt(SO_PEERPIDFD)", failed, subject);
  }
  return peer;
}

Result<std::vector<uint32_t>> PeerGroups(int fd, size_t most) {
  // gid_t is 32 bits on every architecture that Node runs on.
  static_assert(sizeof(gid_t) == sizeof(uint32_t));
  std::vector<uint32_t> groups(most);
  auto size = static_cast<socklen_t>(most * sizeof(uint32_t));
  if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &size) < 0)
    return MakeError("getsockopt(SO_PEERGROUPS)", errno, "descriptor " + std::to_string(fd));
  groups.resize(size / sizeof(uint32_t));
  return groups;
}

bool AddressInDirectory(int directory, const std::string& name, struct sockaddr_storage* out,
                        socklen_t* length) {
  const std::string path = "/proc/self/fd/" + std::to_string(directory) + "/" + name;
  struct sockaddr_un address = {};
  if (path.size() >= sizeof(address.sun_path)) return false;
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  memcpy(out, &address, sizeof(address));
  *length = static_cast<socklen_t>(offsetof(struct sockaddr_un, sun_path) + path.size() + 1);
  return true;
}

int ConnectInDirectory(int socket, int directory, const std::string& name) {
  struct sockaddr_storage address;
  socklen_t length;
  if (!AddressInDirectory(directory, name, &address, &length)) return ENAMETOOLONG;
  return connect(socket, reinterpret_cast<struct sockaddr*>(&address), length) < 0 ? errno : 0;
}

Result<UniqueFd> ConnectUnix(int type, const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  UniqueFd directory(open(parent.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return MakeError("open", errno, parent);
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return MakeError("socket", errno, path);
  const int failed = ConnectInDirectory(fd.get(), directory.get(), name);
  if (failed != 0) return MakeError("connect", failed, path);
  return fd;
}

}  // namespace aperture
