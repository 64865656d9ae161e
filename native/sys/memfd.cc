#include "sys/memfd.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "sys/descriptor.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U  // uapi/linux/memfd.h, Linux 6.3
#endif

namespace aperture {

Result<UniqueFd> CreateMemfd(const std::string& name, uint64_t size) {
  // Since 6.3 a memfd can be sealed against execution; with vm.memfd_noexec = 2 the kernel gives no other.
  // Older kernels refuse the flag.
  int raw = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (raw < 0 && errno == EINVAL) raw = memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (raw < 0) return MakeError("memfd_create", errno, name);
  UniqueFd fd(raw);
  if (ftruncate(fd.get(), static_cast<off_t>(size)) < 0) return MakeError("ftruncate", errno, name);
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
    return MakeError("fcntl(F_ADD_SEALS)", errno, name);
  // The open file that memfd_create() makes does not count in i_writecount (fs/file_table.c,
  // alloc_file_pseudo), so that a lease on it is always refused. One that was opened does, and is the only
  // one from here on.
  return Reopen(fd.get(), Access::kReadWrite);
}

Result<bool> IsMemfdShared(int fd) {
  const std::string subject = "descriptor " + std::to_string(fd);
  // Whoever opens the file while we hold the lease makes the kernel signal us. The default signal is SIGIO,
  // which ends a process that does not handle it; SIGURG is ignored by default.
  if (fcntl(fd, F_SETSIG, SIGURG) < 0) return MakeError("fcntl(F_SETSIG)", errno, subject);
  // fs/locks.c, check_conflicting_open(): a write lease is granted only when i_writecount and i_readcount of
  // the inode are no more than this open file's own share. A mapping pins the open file it was made from, so
  // it counts.
  if (fcntl(fd, F_SETLEASE, F_WRLCK) == 0) {
    if (fcntl(fd, F_SETLEASE, F_UNLCK) < 0) return MakeError("fcntl(F_SETLEASE)", errno, subject);
    return false;
  }
  const int failed = errno;
  if (failed == EAGAIN) return true;
  // Kernels from 7.0 on grant leases only where the filesystem opts in, and CONFIG_FILE_LOCKING may be off:
  // EINVAL or ENOSYS. There is no other oracle that leaves no trace: F_SEAL_WRITE tells of writable mappings
  // only, and once it succeeds it stays for ever. So the honest answer is that nobody knows, and the caller
  // treats that as shared.
  if (failed == EINVAL || failed == ENOSYS)
    return MakeError("fcntl(F_SETLEASE)", failed, subject, "NO_ORACLE");
  return MakeError("fcntl(F_SETLEASE)", failed, subject);
}

}  // namespace aperture
