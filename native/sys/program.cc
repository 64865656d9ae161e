#include "sys/program.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "sys/unique_fd.h"

namespace aperture {

namespace {

// One line a v1 hierarchy (at most 16 or so) and the v2 line, each a path of at most PATH_MAX.
constexpr size_t kLongestCgroups = 128 * 1024;

#ifdef STATX_INO
// AT_STATX_DONT_SYNC: what the kernel has. A FUSE server is not asked, and cannot keep us waiting.
int Identity(int directory, const char* path, int flags, uint64_t* device, uint64_t* inode) {
  struct statx status;
  if (statx(directory, path, flags | AT_STATX_DONT_SYNC, STATX_INO, &status) < 0) return errno;
  *device = static_cast<uint64_t>(status.stx_dev_major) << 32 | status.stx_dev_minor;
  *inode = status.stx_ino;
  return 0;
}
#else
#error "statx(2) is in Linux 4.11 and glibc 2.28"
#endif

int ReadExecutable(int process, Program* out) {
  std::vector<uint8_t> target(PATH_MAX);
  const ssize_t length = readlinkat(process, "exe", reinterpret_cast<char*>(target.data()), target.size());
  if (length < 0) return errno;
  // The kernel gives no longer one (d_path works in one page), so this one was cut.
  if (static_cast<size_t>(length) == target.size()) return ENAMETOOLONG;
  target.resize(static_cast<size_t>(length));
  // O_PATH opens nothing but the name: no driver, no server of a file system hears of it.
  const UniqueFd file(openat(process, "exe", O_PATH | O_CLOEXEC));
  if (!file.valid()) return errno;
  const int failed = Identity(file.get(), "", AT_EMPTY_PATH, &out->device, &out->inode);
  if (failed == 0) out->executable = std::move(target);
  return failed;
}

int ReadCgroup(int process, Program* out) {
  const UniqueFd file(openat(process, "cgroup", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return errno;
  std::string text;
  char part[4096];
  for (;;) {
    const ssize_t got = read(file.get(), part, sizeof(part));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) break;
    text.append(part, static_cast<size_t>(got));
    if (text.size() > kLongestCgroups) return EFBIG;
  }
  const std::string path = UnifiedCgroup(text);
  if (path.empty()) return ENODATA;
  out->cgroup.assign(path.begin(), path.end());
  return 0;
}

}  // namespace

std::string UnifiedCgroup(const std::string& text) {
  const std::string key = "0::";
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    // A cgroup's name cannot hold a newline (kernel/cgroup/cgroup.c, cgroup_mkdir), so no name can look like
    // a line.
    if (text.compare(begin, key.size(), key) == 0)
      return text.substr(begin + key.size(), end - begin - key.size());
    begin = end + 1;
  }
  return "";
}

Result<Program> ReadProgram(int pid) {
  const std::string path = "/proc/" + std::to_string(pid);
  // Everything is read through this one descriptor: it stays with the process that had the number when it was
  // opened, and says ESRCH when that is gone.
  const UniqueFd process(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!process.valid()) return MakeError("open", errno, path);
  Program program;
  int failed = ReadExecutable(process.get(), &program);
  if (failed != 0) program.exe_error = ErrnoName(failed);
  failed = ReadCgroup(process.get(), &program);
  if (failed != 0) program.cgroup_error = ErrnoName(failed);
  return program;
}

Result<bool> IsFile(const std::string& path, uint64_t device, uint64_t inode) {
  uint64_t found_device = 0;
  uint64_t found_inode = 0;
  const int failed = Identity(AT_FDCWD, path.c_str(), AT_SYMLINK_NOFOLLOW, &found_device, &found_inode);
  if (failed == ENOENT || failed == ENOTDIR) return false;
  if (failed != 0) return MakeError("statx", failed, path);
  return found_device == device && found_inode == inode;
}

}  // namespace aperture
