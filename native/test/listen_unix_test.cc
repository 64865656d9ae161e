// [real kernel] What stands at the socket's path already, and who could reach it when.
#include "sys/listen_unix.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <functional>

#include "check.h"
#include "sys/socket.h"

namespace {
// Called inside listen() and fchownat(), to look at the file while ListenUnix() is on its way.
std::function<void(const char* call)>* watcher = nullptr;
}  // namespace

// These two replace the C library's in this program.
extern "C" int listen(int fd, int backlog) noexcept {
  if (watcher != nullptr) (*watcher)("listen");
  return static_cast<int>(syscall(SYS_listen, fd, backlog));
}
extern "C" int fchownat(int directory, const char* path, uid_t owner, gid_t group, int flags) noexcept {
  const int result = static_cast<int>(syscall(SYS_fchownat, directory, path, owner, group, flags));
  if (watcher != nullptr) (*watcher)("fchownat");
  return result;
}

namespace aperture {
namespace {

struct stat Look(const std::string& path) {
  struct stat status = {};
  lstat(path.c_str(), &status);
  return status;
}

// A socket at the path, bound in the ordinary way; listening or not.
UniqueFd BindPlain(const std::string& path, int type, bool listening) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path.c_str(), sizeof(address.sun_path) - 1);
  UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  if (bind(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)) != 0) abort();
  if (listening && listen(fd.get(), 4) != 0) abort();
  return fd;
}

void Write(const std::string& path) {
  UniqueFd fd(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  if (write(fd.get(), "x", 1) != 1) abort();
}

Result<Listener> Listen(const std::string& directory, int type = SOCK_SEQPACKET, uint32_t mode = 0660) {
  return ListenUnix(type, directory, "s", mode, -1, 8);
}

bool RefusedAs(const Result<Listener>& result, const char* code, int number) {
  return !result.ok() && result.error().code == code && result.error().number == number;
}

TEST(listen_fresh) {
  for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
    check::Folder folder;
    const Result<Listener> made = Listen(folder.path(), type);
    if (!CHECK(made.ok())) continue;
    const struct stat status = Look(folder / "s");
    CHECK(S_ISSOCK(status.st_mode) && (status.st_mode & 07777) == 0660);
    CHECK(made.value().inode == status.st_ino);
    CHECK((fcntl(made.value().fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK((fcntl(made.value().fd.get(), F_GETFL) & O_NONBLOCK) != 0);
    UniqueFd client(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    UniqueFd directory(open(folder.path().c_str(), O_PATH | O_CLOEXEC));
    CHECK(ConnectInDirectory(client.get(), directory.get(), "s") == 0);
  }
}

TEST(listen_mode_is_never_wider) {
  const mode_t old = umask(0);
  for (const int64_t gid : {int64_t{-1}, static_cast<int64_t>(getegid())}) {
    check::Folder folder;
    int looks = 0;
    std::function<void(const char*)> look = [&](const char*) {
      looks++;
      CHECK((Look(folder / "s").st_mode & 077) == 0);
    };
    watcher = &look;
    const Result<Listener> made = ListenUnix(SOCK_SEQPACKET, folder.path(), "s", 0660, gid, 8);
    watcher = nullptr;
    CHECK(made.ok() && looks == (gid >= 0 ? 2 : 1));
    CHECK((Look(folder / "s").st_mode & 07777) == 0660);
  }
  // A strict umask takes nothing away either.
  umask(0777);
  check::Folder folder;
  chmod(folder.path().c_str(), 0700);
  CHECK(Listen(folder.path()).ok() && (Look(folder / "s").st_mode & 07777) == 0660);
  umask(old);
}

TEST(listen_gives_the_group) {
  if (getuid() != 0) return;
  check::Folder folder;
  CHECK(ListenUnix(SOCK_STREAM, folder.path(), "s", 0660, 65534, 8).ok());
  CHECK(Look(folder / "s").st_gid == 65534 && Look(folder / "s").st_uid == 0);
}

TEST(listen_symlink) {
  check::Folder folder;
  Write(folder / "target");
  CHECK(symlink("target", (folder / "s").c_str()) == 0);
  CHECK(RefusedAs(Listen(folder.path()), "IS_SYMLINK", ELOOP));
  CHECK(S_ISLNK(Look(folder / "s").st_mode));
  CHECK(unlink((folder / "s").c_str()) == 0 && symlink("nowhere", (folder / "s").c_str()) == 0);
  CHECK(RefusedAs(Listen(folder.path()), "IS_SYMLINK", ELOOP));
  CHECK(Look(folder / "nowhere").st_mode == 0);
}

TEST(listen_file_fifo_directory) {
  for (int kind = 0; kind < 3; kind++) {
    check::Folder folder;
    if (kind == 0) Write(folder / "s");
    if (kind == 1) CHECK(mkfifo((folder / "s").c_str(), 0600) == 0);
    if (kind == 2) CHECK(mkdir((folder / "s").c_str(), 0700) == 0);
    const ino_t inode = Look(folder / "s").st_ino;
    CHECK(RefusedAs(Listen(folder.path()), "FOREIGN_FILE", EEXIST));
    CHECK(Look(folder / "s").st_ino == inode);
  }
}

TEST(listen_live) {
  for (const int theirs : {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM}) {
    check::Folder folder;
    const UniqueFd live = BindPlain(folder / "s", theirs, theirs != SOCK_DGRAM);
    const ino_t inode = Look(folder / "s").st_ino;
    CHECK(RefusedAs(Listen(folder.path()), "EADDRINUSE", EADDRINUSE));
    CHECK(Look(folder / "s").st_ino == inode);
  }
}

TEST(listen_live_with_a_full_backlog) {
  check::Folder folder;
  const Result<Listener> live = ListenUnix(SOCK_SEQPACKET, folder.path(), "s", 0600, -1, 1);
  UniqueFd directory(open(folder.path().c_str(), O_PATH | O_CLOEXEC));
  std::vector<UniqueFd> clients;
  int answer = 0;
  while (answer == 0 && clients.size() < 64) {
    clients.emplace_back(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    answer = ConnectInDirectory(clients.back().get(), directory.get(), "s");
  }
  CHECK(live.ok() && answer == EAGAIN);
  CHECK(RefusedAs(Listen(folder.path()), "EADDRINUSE", EADDRINUSE));
}

TEST(listen_dead_own) {
  check::Folder folder;
  BindPlain(folder / "s", SOCK_STREAM, true).reset();
  const Result<Listener> made = Listen(folder.path());
  CHECK(made.ok() && Look(folder / "s").st_ino == made.value().inode);
}

TEST(listen_dead_foreign) {
  if (getuid() != 0) return;
  check::Folder folder;
  BindPlain(folder / "s", SOCK_STREAM, true).reset();
  CHECK(chown((folder / "s").c_str(), 65534, 65534) == 0);
  CHECK(RefusedAs(Listen(folder.path()), "FOREIGN_FILE", EEXIST));
  CHECK(S_ISSOCK(Look(folder / "s").st_mode));
}

TEST(listen_unsafe_directories) {
  for (const mode_t mode : {0770, 0777, 01777, 0702, 0720}) {
    check::Folder folder;
    CHECK(chmod(folder.path().c_str(), mode) == 0);
    CHECK(RefusedAs(Listen(folder.path()), "UNSAFE_DIRECTORY", EPERM));
    CHECK(Look(folder / "s").st_mode == 0);
  }
  if (getuid() == 0) {
    check::Folder folder;
    CHECK(chown(folder.path().c_str(), 65534, 65534) == 0);
    CHECK(RefusedAs(Listen(folder.path()), "UNSAFE_DIRECTORY", EPERM));
  }
}

TEST(listen_directory_is_a_symlink_or_missing) {
  check::Folder folder;
  CHECK(mkdir((folder / "real").c_str(), 0755) == 0);
  CHECK(symlink("real", (folder / "link").c_str()) == 0);
  CHECK(RefusedAs(Listen(folder / "link"), "IS_SYMLINK", ELOOP));
  CHECK(RefusedAs(Listen(folder / "link/"), "IS_SYMLINK", ELOOP));
  CHECK(Listen(folder / "real/").ok());
  CHECK(RefusedAs(Listen(folder / "missing"), "ENOENT", ENOENT));
  Write(folder / "file");
  CHECK(RefusedAs(Listen(folder / "file"), "ENOTDIR", ENOTDIR));
}

TEST(listen_long_path) {
  check::Folder folder;
  std::string path = folder.path();
  for (int i = 0; i < 3; i++) {
    path += "/" + std::string(100, 'd');
    CHECK(mkdir(path.c_str(), 0755) == 0);
  }
  const Result<Listener> made = Listen(path);
  CHECK(made.ok());
  const Result<UniqueFd> client = ConnectUnix(SOCK_SEQPACKET, path + "/s");
  CHECK(client.ok());
  CHECK(RefusedAs(ListenUnix(SOCK_STREAM, path, std::string(100, 'n'), 0600, -1, 1), "ENAMETOOLONG",
                  ENAMETOOLONG));
}

TEST(connect_by_type) {
  check::Folder folder;
  const Result<Listener> made = ListenUnix(SOCK_STREAM, folder.path(), "s", 0600, -1, 1);
  if (!CHECK(made.ok())) return;
  const Result<UniqueFd> client = ConnectUnix(SOCK_STREAM, folder / "s");
  CHECK(client.ok() && (fcntl(client.value().get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(client.ok() && (fcntl(client.value().get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK(ConnectUnix(SOCK_SEQPACKET, folder / "s").error().number == EPROTOTYPE);
  CHECK(ConnectUnix(SOCK_STREAM, folder / "missing").error().number == ENOENT);
}

TEST(unlink_only_what_is_ours) {
  check::Folder folder;
  const Result<Listener> made = Listen(folder.path());
  if (!CHECK(made.ok())) return;
  CHECK(UnlinkSocket(folder.path(), "s", made.value().inode + 1).ok());
  CHECK(S_ISSOCK(Look(folder / "s").st_mode));
  CHECK(UnlinkSocket(folder.path(), "s", made.value().inode).ok());
  CHECK(Look(folder / "s").st_mode == 0);
  CHECK(UnlinkSocket(folder.path(), "s", made.value().inode).ok());
  Write(folder / "s");
  CHECK(UnlinkSocket(folder.path(), "s", Look(folder / "s").st_ino).ok());
  CHECK(S_ISREG(Look(folder / "s").st_mode));
}

TEST(peer_of_a_socket) {
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
  const UniqueFd near(fds[0]);
  const UniqueFd far(fds[1]);
  const Result<Peer> peer = PeerOf(near.get());
  CHECK(peer.ok() && peer.value().pid == getpid() && peer.value().uid == geteuid());
  const UniqueFd alone(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(PeerOf(alone.get()).error().number == ENOTCONN);
  const UniqueFd inet(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(PeerOf(inet.get()).error().code == "NOT_UNIX");
  const UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  CHECK(PeerOf(file.get()).error().number == ENOTSOCK);
}

}  // namespace
}  // namespace aperture
