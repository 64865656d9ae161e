// [real kernel] Descriptors over a socket pair: every count against every size of the receiver's buffer.
#include "sys/scm.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

#include "check.h"

namespace aperture {
namespace {

struct Pair {
  UniqueFd near;
  UniqueFd far;
  explicit Pair(int type = SOCK_SEQPACKET) {
    int fds[2];
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) abort();
    near.reset(fds[0]);
    far.reset(fds[1]);
  }
};

constexpr uint8_t kBytes[4] = {1, 2, 3, 4};

TEST(scm_counts_and_buffers) {
  UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  for (size_t sent = 0; sent <= 32; sent++) {
    for (size_t room = 0; room <= 33; room++) {
      Pair pair;
      const int before = check::CountDescriptors();
      const std::vector<int> fds(sent, file.get());
      CHECK(SendFrame(pair.near.get(), kBytes, sizeof(kBytes), fds.data(), fds.size()) == 0);
      {
        const Result<ReceivedFrame> got = ReceiveFrame(pair.far.get(), 16, room);
        if (!CHECK(got.ok())) continue;
        CHECK(got.value().bytes == std::vector<uint8_t>(kBytes, kBytes + sizeof(kBytes)));
        CHECK(got.value().truncated == (sent > room));
        CHECK(got.value().descriptors.size() == (sent > room ? 0 : sent));
        CHECK(check::CountDescriptors() == before + static_cast<int>(got.value().descriptors.size()));
        for (const UniqueFd& fd : got.value().descriptors)
          CHECK((fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
      }
      CHECK(check::CountDescriptors() == before);
    }
  }
}

TEST(scm_most_and_one_more) {
  Pair pair;
  const std::vector<int> fds(254, pair.near.get());
  CHECK(SendFrame(pair.near.get(), kBytes, 1, fds.data(), 254) == EINVAL);
  CHECK(SendFrame(pair.near.get(), kBytes, 1, fds.data(), 253) == 0);
  const Result<ReceivedFrame> got = ReceiveFrame(pair.far.get(), 1, 253);
  CHECK(got.ok() && got.value().descriptors.size() == 253);
}

TEST(scm_frame_too_long) {
  Pair pair;
  const int before = check::CountDescriptors();
  const int fd = pair.near.get();
  CHECK(SendFrame(pair.near.get(), kBytes, 4, &fd, 1) == 0);
  const Result<ReceivedFrame> got = ReceiveFrame(pair.far.get(), 3, 4);
  CHECK(!got.ok() && got.error().code == "BAD_ANSWER" && got.error().number == 0);
  CHECK(check::CountDescriptors() == before);
}

TEST(scm_nothing_there_and_end_of_file) {
  Pair pair;
  const Result<ReceivedFrame> nothing = ReceiveFrame(pair.far.get(), 16, 1);
  CHECK(!nothing.ok() && nothing.error().number == EAGAIN && nothing.error().operation == "recvmsg");
  pair.near.reset();
  const Result<ReceivedFrame> end = ReceiveFrame(pair.far.get(), 16, 1);
  CHECK(end.ok() && end.value().bytes.empty() && end.value().descriptors.empty() && !end.value().truncated);
}

TEST(scm_receiver_at_its_limit) {
  Pair pair;
  UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::vector<int> fds(5, file.get());
  CHECK(SendFrame(pair.near.get(), kBytes, 4, fds.data(), fds.size()) == 0);
  const int before = check::CountDescriptors();
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  // Room for two of the five: the kernel installs those and says MSG_CTRUNC.
  UniqueFd highest(fcntl(file.get(), F_DUPFD_CLOEXEC, 0));
  const struct rlimit low = {static_cast<rlim_t>(highest.get()) + 2, limit.rlim_max};
  highest.reset();
  setrlimit(RLIMIT_NOFILE, &low);
  {
    const Result<ReceivedFrame> got = ReceiveFrame(pair.far.get(), 16, 8);
    CHECK(got.ok() && got.value().truncated && got.value().descriptors.empty());
  }
  setrlimit(RLIMIT_NOFILE, &limit);
  CHECK(check::CountDescriptors() == before);
}

// How a VMM's control socket is spoken to: bytes without descriptors before and after the one byte that has
// them.
TEST(scm_one_byte_of_a_stream) {
  Pair pair(SOCK_STREAM);
  UniqueFd file(open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int before = check::CountDescriptors();
  const int fds[2] = {file.get(), file.get()};
  CHECK(write(pair.near.get(), "ab", 2) == 2);
  CHECK(SendFrame(pair.near.get(), kBytes, 1, fds, 2) == 0);
  CHECK(write(pair.near.get(), "cd", 2) == 2);
  size_t bytes = 0;
  size_t descriptors = 0;
  while (bytes < 5) {
    const Result<ReceivedFrame> got = ReceiveFrame(pair.far.get(), 16, 4);
    if (!CHECK(got.ok() && !got.value().bytes.empty())) break;
    bytes += got.value().bytes.size();
    descriptors += got.value().descriptors.size();
    CHECK(got.value().descriptors.empty() || bytes >= 3);
  }
  CHECK(bytes == 5 && descriptors == 2);
  CHECK(check::CountDescriptors() == before);
}

TEST(scm_full_socket_is_an_error_value) {
  Pair pair;
  int sent = 0;
  int failed = 0;
  while ((failed = SendFrame(pair.near.get(), kBytes, 4, nullptr, 0)) == 0) sent++;
  CHECK(failed == EAGAIN && sent > 0);
  pair.far.reset();
  // The first error tells of the unread frames.
  CHECK(SendFrame(pair.near.get(), kBytes, 4, nullptr, 0) == ECONNRESET);
  CHECK(SendFrame(pair.near.get(), kBytes, 4, nullptr, 0) == EPIPE);
}

}  // namespace
}  // namespace aperture
