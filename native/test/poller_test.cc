// [real kernel] The poller at the end of the descriptors, where a test in JavaScript cannot go. Everything
// else about it is tested with real peers in test/unit/native/poller.test.ts.
#include "sys/poller.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <cerrno>

#include "check.h"
#include "sys/listen_unix.h"
#include "sys/socket.h"

namespace aperture {
namespace {

bool IsReady(const Poller& poller, int milliseconds) {
  struct pollfd query = {poller.descriptor(), POLLIN, 0};
  return poll(&query, 1, milliseconds) == 1;
}

// No number below the limit is free, so that giving the spare descriptor up does not help either.
TEST(poller_without_any_descriptor_rests) {
  check::Folder folder;
  Result<Listener> listener = ListenUnix(SOCK_SEQPACKET, folder.path(), "s", 0600, -1, 4);
  const auto buffers = std::make_shared<PollerBuffers>();
  Result<std::unique_ptr<Poller>> made = Poller::Create(buffers);
  if (!CHECK(listener.ok() && made.ok())) return;
  Poller& poller = *made.value();
  CHECK(poller.AddListener(listener.value().fd.release(), 1).ok());
  const Result<UniqueFd> client = ConnectUnix(SOCK_SEQPACKET, folder / "s");
  CHECK(client.ok());

  const int before = check::CountDescriptors();
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  const struct rlimit none = {3, limit.rlim_max};
  for (int round = 0; round < 2; round++) {
    CHECK(IsReady(poller, 1000));
    setrlimit(RLIMIT_NOFILE, &none);
    CHECK(poller.Collect() == 1);
    setrlimit(RLIMIT_NOFILE, &limit);
    CHECK(buffers->rows[0].kind == PollKind::kStarved && buffers->rows[0].a == EMFILE);
    poller.EndBatch();
    // The connection still waits, and does not wake us.
    CHECK(!IsReady(poller, 0));
    CHECK(IsReady(poller, 1000));
    CHECK(poller.Collect() == 0);  // the end of the rest
  }
  CHECK(check::CountDescriptors() == before);  // the spare one is back
  CHECK(IsReady(poller, 1000));
  CHECK(poller.Collect() == 1 && buffers->rows[0].kind == PollKind::kAccepted);
  UniqueFd(buffers->rows[0].a).reset();
  UniqueFd(buffers->rows[0].e).reset();
}

}  // namespace
}  // namespace aperture
