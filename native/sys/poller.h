// One epoll set for listeners, descriptor channels, pidfds and eventfds. It reports in batches of rows that
// JavaScript reads from shared memory: one call across the bridge for up to 64 events, which measured within
// 8 % of an epoll server in C (one callback a connection: 29 %). All of it runs on one thread and none of it
// blocks.
//
// Everything is level-triggered and each source gets a budget a wake-up, so that a loud peer cannot starve
// the others and nothing is lost when a batch is full: the kernel rotates its ready list, the rest comes in
// the next batch.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include "sys/result.h"
#include "sys/scm.h"
#include "sys/unique_fd.h"

namespace aperture {

constexpr int kPollBatch = 64;
constexpr int kPollFrameBytes = 2048;
constexpr int kPollDescriptors = 32;

// The values of PollEvent in src/native.ts. 0 is a row that was taken back.
enum class PollKind : int32_t {
  kNone = 0,
  kAccepted = 1,
  kFrame = 2,
  kHangup = 3,
  kExited = 4,
  kViolation = 5,
  kSignalled = 6,
  kStarved = 7,
  kReadable = 8,
};

// Int32 columns, in the order of PollColumn in src/native.ts.
struct PollRow {
  PollKind kind;
  int32_t id;
  int32_t a;
  int32_t b;
  int32_t c;
  int32_t d;
  int32_t e;
};
static_assert(sizeof(PollRow) == 7 * sizeof(int32_t));

struct OutRow {
  int32_t id;
  int32_t length;
  int32_t descriptors;
  int32_t error;
};
static_assert(sizeof(OutRow) == 4 * sizeof(int32_t));

struct PollerBuffers {
  PollRow rows[kPollBatch];
  uint8_t frames[kPollBatch][kPollFrameBytes];
  OutRow out[kPollBatch];
  uint8_t out_frames[kPollBatch][kPollFrameBytes];
  int32_t out_descriptors[kPollBatch][kPollDescriptors];
};

class Poller {
 public:
  static Result<std::unique_ptr<Poller>> Create(std::shared_ptr<PollerBuffers> buffers);

  // Readable whenever Collect() has something to do.
  int descriptor() const { return epoll_.get(); }

  // The first two take fd over when they succeed, and leave it to the caller when they fail. The others watch
  // a duplicate of their own, so that a caller who closes too early cannot make them look at somebody else's
  // number.
  Result<None> AddListener(int fd, int32_t id);
  Result<None> AddChannel(int fd, int32_t id, int32_t pid, uint32_t uid, int pidfd);
  Result<None> WatchExit(int pidfd, int32_t id);
  Result<None> WatchEventfd(int fd, int32_t id);
  // One row each wake-up while fd is readable: whoever gets it reads it.
  Result<None> WatchReadable(int fd, int32_t id);
  // Takes back the rows of id that the current batch still holds, except `accepted`: those carry descriptors,
  // which whoever reads the batch owns.
  void Remove(int32_t id);
  // Remove() of every id.
  void RemoveAll();

  // Fills the rows of one batch and says how many. Between it and EndBatch() the rows may be taken back by
  // Remove().
  int Collect();
  void EndBatch() { rows_ = 0; }
  void Flush(int count);

 private:
  enum class Source { kListener, kChannel, kExit, kEventfd, kReadable };

  struct Entry {
    Source source;
    int32_t id;
    uint32_t generation;
    UniqueFd fd;
    // Channels only.
    int32_t pid = 0;
    uint32_t uid = 0;
    UniqueFd pidfd;
    // Of pidfd, where it can be told: tells processes apart that have no pid here.
    std::optional<uint64_t> inode;
    // Listeners only: out of the set until the timer fires.
    bool disarmed = false;
  };

  explicit Poller(std::shared_ptr<PollerBuffers> buffers) : buffers_(std::move(buffers)) {}

  Result<None> Add(const char* operation, Entry entry, uint32_t events);
  Entry* Find(uint64_t key);
  PollRow* NewRow(PollKind kind, int32_t id, int32_t a);

  void OnListener(Entry* entry, int limit);
  void OnStarved(Entry* entry, int error);
  void OnChannel(Entry* entry);
  void OnExit(Entry* entry);
  void OnEventfd(Entry* entry);
  void OnTimer();

  bool IsFromOwner(const Entry& channel, const ControlData& control) const;
  void DisownTheDead();
  void End(Entry* entry, PollKind kind, int error);

  std::shared_ptr<PollerBuffers> buffers_;
  UniqueFd epoll_;
  UniqueFd timer_;
  UniqueFd spare_;
  std::unordered_map<int32_t, Entry> entries_;
  uint32_t next_generation_ = 1;
  int rows_ = 0;
  // Frames of this batch that come from their owners if those are alive: their pidfds and their rows.
  std::array<int, kPollBatch> owners_;
  std::array<int, kPollBatch> owned_rows_;
  int owned_ = 0;
};

// Makes the kernel name the sender of each message that fd receives: pid and user, and with pidfd a pidfd of
// it too. 0 or errno.
int RequestCredentials(int fd, bool pidfd);

}  // namespace aperture
