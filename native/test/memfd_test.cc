// [real kernel, real processes] The memfd behind a simulated region, and the question whether somebody else
// holds it.
#include "sys/memfd.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>

#include "check.h"
#include "sys/descriptor.h"
#include "sys/scm.h"

namespace aperture {
namespace {

constexpr size_t kSize = 1 << 20;

bool Shared(int fd) {
  const Result<bool> shared = IsMemfdShared(fd);
  CHECK(shared.ok());
  return shared.ok() && shared.value();
}

TEST(memfd_size_is_sealed) {
  const Result<UniqueFd> made = CreateMemfd("check", kSize);
  if (!CHECK(made.ok())) return;
  const int fd = made.value().get();
  CHECK(lseek(fd, 0, SEEK_END) == static_cast<off_t>(kSize));
  CHECK(ftruncate(fd, kSize / 2) < 0 && errno == EPERM);
  CHECK(ftruncate(fd, kSize * 2) < 0 && errno == EPERM);
  CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
  CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(pwrite(fd, "x", 1, 0) == 1);
}

TEST(memfd_shared_by_descriptor_and_by_mapping) {
  const Result<UniqueFd> made = CreateMemfd("check", kSize);
  if (!CHECK(made.ok())) return;
  const int fd = made.value().get();
  CHECK(!Shared(fd));
  for (const Access access : {Access::kRead, Access::kReadWrite}) {
    Result<UniqueFd> other = Reopen(fd, access);
    CHECK(other.ok() && Shared(fd));
    void* const mapped = mmap(nullptr, kSize, PROT_READ, MAP_SHARED, other.value().get(), 0);
    CHECK(mapped != MAP_FAILED);
    other.value().reset();
    CHECK(Shared(fd));
    CHECK(munmap(mapped, kSize) == 0);
    CHECK(!Shared(fd));
  }
}

TEST(memfd_shared_while_it_is_on_its_way) {
  int fds[2];
  CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) == 0);
  const UniqueFd near(fds[0]);
  UniqueFd far(fds[1]);
  const Result<UniqueFd> made = CreateMemfd("check", kSize);
  Result<UniqueFd> copy = Reopen(made.value().get(), Access::kReadWrite);
  const int number = copy.value().get();
  CHECK(SendFrame(near.get(), reinterpret_cast<const uint8_t*>("x"), 1, &number, 1) == 0);
  copy.value().reset();
  CHECK(Shared(made.value().get()));
  far.reset();
  CHECK(!Shared(made.value().get()));
}

// Somebody opens the file in the very moment in which we hold the lease: the kernel signals us, and we live
// on.
TEST(memfd_question_survives_an_open) {
  const Result<UniqueFd> made = CreateMemfd("check", kSize);
  const int fd = made.value().get();
  int gate[2];
  CHECK(pipe2(gate, O_CLOEXEC) == 0);
  const UniqueFd from(gate[0]);
  UniqueFd to(gate[1]);
  const pid_t child = fork();
  if (child == 0) {
    // Through the parent's number: a descriptor inherited here would itself be the other open file.
    const std::string path = "/proc/" + std::to_string(getppid()) + "/fd/" + std::to_string(fd);
    close(fd);
    to.reset();
    fcntl(from.get(), F_SETFL, O_NONBLOCK);
    char byte;
    // Until the parent closes its end.
    while (read(from.get(), &byte, 1) < 0) {
      const int other = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
      if (other >= 0) close(other);
    }
    _exit(0);
  }
  int alone = 0;
  int shared = 0;
  for (int i = 0; i < 300000 || (i < 3000000 && (alone == 0 || shared == 0)); i++)
    (Shared(fd) ? shared : alone)++;
  CHECK(alone > 0 && shared > 0);
  to.reset();
  CHECK(waitpid(child, nullptr, 0) == child);
}

}  // namespace
}  // namespace aperture
