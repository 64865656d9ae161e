#include "sys/listen_unix.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "sys/socket.h"

namespace aperture {

namespace {

// Two daemons that start together must not both find the same dead socket and the slower one remove the
// faster one's new one. The lock is held for microseconds; somebody who holds it on purpose delays a start by
// this much, and the start then fails with the reason.
constexpr int kLockAttempts = 100;
constexpr long kLockPauseNanoseconds = 10'000'000;

Result<UniqueFd> OpenDirectory(const std::string& given) {
  // A trailing slash would make the kernel follow a symlink in spite of O_NOFOLLOW.
  std::string path = given;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  struct stat status;
  if (lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode))
    return MakeError("open", ELOOP, path, "IS_SYMLINK");
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd.valid()) return MakeError("open", errno, path);
  if (fstat(fd.get(), &status) < 0) return MakeError("fstat", errno, path);
  // The sticky bit would keep others from removing our socket, not from putting theirs there before we come.
  const bool owned = status.st_uid == 0 || status.st_uid == geteuid();
  if (!owned || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return MakeError("open", EPERM, path, "UNSAFE_DIRECTORY");
  return fd;
}

// Released when the directory's descriptor is closed. A kernel without CONFIG_FILE_LOCKING answers ENOSYS:
// two daemons that start there at the same instant could both find the same dead socket; bind(2) lets one
// win.
int Lock(int directory) {
  for (int attempt = 0; attempt < kLockAttempts; attempt++) {
    if (flock(directory, LOCK_EX | LOCK_NB) == 0 || errno == ENOSYS) return 0;
    if (errno != EWOULDBLOCK && errno != EINTR) return errno;
    const struct timespec pause = {0, kLockPauseNanoseconds};
    nanosleep(&pause, nullptr);
  }
  return EWOULDBLOCK;
}

// Makes room at name, or says why there is none.
Result<None> ClearName(int directory, const std::string& name, int type, const std::string& path) {
  struct stat status;
  if (fstatat(directory, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return None();
    return MakeError("fstatat", errno, path);
  }
  if (S_ISLNK(status.st_mode)) return MakeError("bind", ELOOP, path, "IS_SYMLINK");
  if (!S_ISSOCK(status.st_mode) || status.st_uid != geteuid())
    return MakeError("bind", EEXIST, path, "FOREIGN_FILE");
  UniqueFd probe(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid()) return MakeError("socket", errno, path);
  // Only ECONNREFUSED says that nobody listens. A full backlog (EAGAIN) and a socket of the other type
  // (EPROTOTYPE) belong to somebody who is alive.
  const int answer = ConnectInDirectory(probe.get(), directory, name);
  if (answer == ENOENT) return None();
  if (answer == ENAMETOOLONG) return MakeError("bind", ENAMETOOLONG, path);
  if (answer != ECONNREFUSED) return MakeError("bind", EADDRINUSE, path);
  if (unlinkat(directory, name.c_str(), 0) < 0 && errno != ENOENT) return MakeError("unlinkat", errno, path);
  return None();
}

// Gives the bound file its group and then its mode; the inode comes back.
Result<uint64_t> Publish(int directory, const std::string& name, uint32_t mode, int64_t gid,
                         const std::string& path) {
  // The file itself, held: no later step can be led to another one.
  UniqueFd file(openat(directory, name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status;
  if (!file.valid()) return MakeError("openat", errno, path);
  if (fstat(file.get(), &status) < 0) return MakeError("fstat", errno, path);
  if (gid >= 0 &&
      fchownat(file.get(), "", static_cast<uid_t>(-1), static_cast<gid_t>(gid), AT_EMPTY_PATH) < 0)
    return MakeError("fchownat", errno, path);
  // fchmod() refuses O_PATH descriptors, and fchmodat() with AT_EMPTY_PATH is new in 6.6; the link in /proc
  // works everywhere and leads to exactly this file.
  const std::string link = "/proc/self/fd/" + std::to_string(file.get());
  if (chmod(link.c_str(), mode) < 0) return MakeError("chmod", errno, path);
  return static_cast<uint64_t>(status.st_ino);
}

}  // namespace

Result<Listener> ListenUnix(int type, const std::string& directory, const std::string& name, uint32_t mode,
                            int64_t gid, int backlog) {
  const std::string path = directory + "/" + name;
  Result<UniqueFd> opened = OpenDirectory(directory);
  if (!opened.ok()) return opened.error();
  const int at = opened.value().get();
  int failed = Lock(at);
  if (failed != 0) return MakeError("flock", failed, directory);
  Result<None> cleared = ClearName(at, name, type, path);
  if (!cleared.ok()) return cleared.error();
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return MakeError("socket", errno, path);
  // net/unix/af_unix.c, unix_bind_bsd(): the new file's mode is that of the socket's own inode less the
  // umask. The owner's bits only, until the group is the right one.
  if (fchmod(fd.get(), mode & S_IRWXU) < 0) return MakeError("fchmod", errno, path);
  struct sockaddr_storage address;
  socklen_t length;
  if (!AddressInDirectory(at, name, &address, &length)) return MakeError("bind", ENAMETOOLONG, path);
  if (bind(fd.get(), reinterpret_cast<struct sockaddr*>(&address), length) < 0)
    return MakeError("bind", errno, path);
  // Listening first: a name that exists and refuses would look like a dead socket to another program.
  failed = listen(fd.get(), backlog) < 0 ? errno : 0;
  Result<uint64_t> inode =
      failed != 0 ? Result<uint64_t>(MakeError("listen", failed, path)) : Publish(at, name, mode, gid, path);
  if (!inode.ok()) {
    unlinkat(at, name.c_str(), 0);
    return inode.error();
  }
  return Listener{std::move(fd), inode.value()};
}

Result<None> UnlinkSocket(const std::string& directory, const std::string& name, uint64_t inode) {
  const std::string path = directory + "/" + name;
  Result<UniqueFd> opened = OpenDirectory(directory);
  if (!opened.ok()) return opened.error();
  const int at = opened.value().get();
  const int failed = Lock(at);
  if (failed != 0) return MakeError("flock", failed, directory);
  struct stat status;
  if (fstatat(at, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) < 0) {
    if (errno == ENOENT) return None();
    return MakeError("fstatat", errno, path);
  }
  if (!S_ISSOCK(status.st_mode) || status.st_ino != inode) return None();
  if (unlinkat(at, name.c_str(), 0) < 0 && errno != ENOENT) return MakeError("unlinkat", errno, path);
  return None();
}

}  // namespace aperture
