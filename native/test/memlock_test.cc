// [real processes] RLIMIT_MEMLOCK, in children that may and may not raise it.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "check.h"
#include "sys/memlock.h"

namespace aperture {
namespace {

// What the child says of its limits. A child: limits cannot be put back without a capability. An unprivileged
// one: user 65534 has none.
int InChild(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

bool Set(rlim_t soft, rlim_t hard) {
  const struct rlimit limit = {soft, hard};
  return setrlimit(RLIMIT_MEMLOCK, &limit) == 0;
}

bool Holds(rlim_t soft, rlim_t hard) {
  struct rlimit limit;
  return getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur == soft && limit.rlim_max == hard;
}

constexpr rlim_t kKib = 1024;

TEST(memlock_up_to_the_hard_limit) {
  CHECK(InChild([] {
          if (!Set(4 * kKib, 64 * kKib)) return 1;
          auto limits = RaiseMemlock(16 * kKib);
          if (!limits.ok() || limits.value() != std::make_pair<uint64_t, uint64_t>(16 * kKib, 64 * kKib))
            return 2;
          return Holds(16 * kKib, 64 * kKib) ? 0 : 3;
        }) == 0);
}

TEST(memlock_is_never_lowered) {
  CHECK(InChild([] {
          if (!Set(32 * kKib, 64 * kKib)) return 1;
          auto limits = RaiseMemlock(4 * kKib);
          if (!limits.ok() || limits.value().first != 32 * kKib) return 2;
          return Holds(32 * kKib, 64 * kKib) ? 0 : 3;
        }) == 0);
}

TEST(memlock_beyond_the_hard_limit_without_capability) {
  CHECK(InChild([] {
          if (!Set(4 * kKib, 64 * kKib)) return 1;
          if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0) return 4;
          auto limits = RaiseMemlock(1024 * kKib);
          if (!limits.ok() || limits.value().first != 64 * kKib) return 2;
          return Holds(64 * kKib, 64 * kKib) ? 0 : 3;
        }) == 0);
}

TEST(memlock_beyond_the_hard_limit_with_capability) {
  if (geteuid() != 0) return;
  CHECK(InChild([] {
          if (!Set(4 * kKib, 64 * kKib)) return 1;
          // Root in a container may lack it; then the soft limit goes as far as the hard one.
          const bool may = Set(4 * kKib, 65 * kKib);
          const rlim_t hard = may ? 1024 * kKib : 64 * kKib;
          auto limits = RaiseMemlock(1024 * kKib);
          if (!limits.ok() || limits.value().first != hard) return 2;
          return Holds(hard, hard) ? 0 : 3;
        }) == 0);
}

}  // namespace
}  // namespace aperture
