// [real threads] Order, independence, and no thread without work.
#include "sys/serial_queue.h"

#include <dirent.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>

#include "check.h"
#include "sys/workers.h"

namespace aperture {
namespace {

class Call final : public Task {
 public:
  explicit Call(std::function<void()> body) : body_(std::move(body)) {}
  void Run(std::unique_ptr<Task>) override { body_(); }

 private:
  std::function<void()> body_;
};

void Push(SerialQueue* queue, std::function<void()> body) {
  std::unique_ptr<Task> task(new Call(std::move(body)));
  if (queue->Push(task) != 0) abort();
}

class Gate {
 public:
  void Open() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  // False: it was not opened within ten seconds.
  bool Opens() {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), [this] { return open_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

// Shared with the task: its thread may still be inside Open() when the test that waited is over.
using SharedGate = std::shared_ptr<Gate>;

int CountThreads(const char* name) {
  DIR* directory = opendir("/proc/self/task");
  int count = 0;
  while (const struct dirent* entry = readdir(directory)) {
    const std::string path = std::string("/proc/self/task/") + entry->d_name + "/comm";
    FILE* comm = fopen(path.c_str(), "re");
    if (comm == nullptr) continue;
    char text[32] = "";
    if (fgets(text, sizeof(text), comm) != nullptr && std::string(text) == std::string(name) + "\n") count++;
    fclose(comm);
  }
  closedir(directory);
  return count;
}

bool Until(const std::function<bool()>& holds) {
  const struct timespec pause = {0, 1000000};
  int left = 10000;
  while (!holds() && left-- > 0) nanosleep(&pause, nullptr);
  return left > 0;
}

TEST(queue_keeps_order) {
  SerialQueue queue("check-order");
  std::vector<int> seen;
  const SharedGate done = std::make_shared<Gate>();
  for (int i = 0; i < 10000; i++) Push(&queue, [&seen, i] { seen.push_back(i); });
  Push(&queue, [done] { done->Open(); });
  done->Wait();
  CHECK(seen.size() == 10000);
  for (size_t i = 0; i < seen.size(); i++) CHECK(seen[i] == static_cast<int>(i));
}

TEST(queue_ends_its_thread_and_starts_another) {
  SerialQueue queue("check-thread");
  for (int round = 0; round < 50; round++) {
    const SharedGate held = std::make_shared<Gate>();
    const SharedGate started = std::make_shared<Gate>();
    Push(&queue, [started, held] {
      started->Open();
      held->Wait();
    });
    started->Wait();
    CHECK(CountThreads("check-thread") == 1);
    held->Open();
    CHECK(Until([] { return CountThreads("check-thread") == 0; }));
  }
}

// A call after a call is what a lease is made of.
TEST(a_thread_that_has_just_ended_its_work_takes_the_next) {
  std::set<pid_t> threads;
  for (int round = 0; round < 200; round++) {
    SerialQueue queue("check-reuse");
    const SharedGate done = std::make_shared<Gate>();
    pid_t thread = 0;
    Push(&queue, [&thread, done] {
      thread = static_cast<pid_t>(syscall(SYS_gettid));
      done->Open();
    });
    done->Wait();
    threads.insert(thread);
  }
  // The one before may not be idle yet when the next is wanted.
  CHECK(threads.size() < 20);
}

TEST(few_threads_wait_for_work_and_not_for_long) {
  constexpr int kMany = 16;
  std::vector<SharedGate> held;
  std::vector<SharedGate> started;
  for (int i = 0; i < kMany; i++) {
    SerialQueue queue("check-many");
    held.push_back(std::make_shared<Gate>());
    started.push_back(std::make_shared<Gate>());
    Push(&queue, [open = started.back(), wait = held.back()] {
      open->Open();
      wait->Wait();
    });
  }
  for (const SharedGate& gate : started) gate->Wait();
  CHECK(CountThreads("check-many") == kMany);
  for (const SharedGate& gate : held) gate->Open();
  CHECK(Until([] { return CountThreads("check-many") == 0; }));
  CHECK(CountThreads(kIdleWorkerName) <= 4);
  CHECK(Until([] { return CountThreads(kIdleWorkerName) == 0; }));
}

// On one processor the threads run when the one that pushes waits: then the burst is complete.
TEST(a_burst_of_short_work_takes_few_threads) {
  constexpr int kMany = 64;
  cpu_set_t before, one;
  CHECK(sched_getaffinity(0, sizeof(before), &before) == 0);
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
  std::mutex mutex;
  std::set<pid_t> threads;
  std::vector<SharedGate> done;
  for (int i = 0; i < kMany; i++) {
    SerialQueue queue("check-burst");
    done.push_back(std::make_shared<Gate>());
    Push(&queue, [&mutex, &threads, open = done.back()] {
      {
        const std::lock_guard<std::mutex> lock(mutex);
        threads.insert(static_cast<pid_t>(syscall(SYS_gettid)));
      }
      open->Open();
    });
  }
  for (const SharedGate& gate : done) gate->Wait();
  CHECK(sched_setaffinity(0, sizeof(before), &before) == 0);
  // Two do it; a third and fourth when the pushing thread is interrupted.
  CHECK(threads.size() <= 4);
}

TEST(work_of_a_burst_begins_at_its_end) {
  // Only what is idle waits for a call.
  SerialQueue before("check-before");
  Push(&before, [] {});
  CHECK(Until([] { return CountThreads(kIdleWorkerName) > 0; }));
  SerialQueue queue("check-held");
  std::atomic<bool> began(false);
  const SharedGate done = std::make_shared<Gate>();
  {
    const Burst outer;
    {
      const Burst inner;
      Push(&queue, [&began, done] {
        began = true;
        done->Open();
      });
    }
    // Much longer than a thread takes to come.
    for (int left = 20; left > 0 && !began; left--) {
      const struct timespec pause = {0, 1000000};
      nanosleep(&pause, nullptr);
    }
    CHECK(!began);
  }
  done->Wait();
  CHECK(began);
}

// Each piece of work that blocks is followed by one that does not.
TEST(in_a_burst_nothing_waits_for_what_blocks) {
  constexpr int kPairs = 20;
  const SharedGate held = std::make_shared<Gate>();
  std::vector<SharedGate> quick;
  std::vector<SharedGate> slow;
  for (int i = 0; i < kPairs; i++) {
    SerialQueue blocked("check-blocked");
    SerialQueue free("check-free");
    slow.push_back(std::make_shared<Gate>());
    quick.push_back(std::make_shared<Gate>());
    Push(&blocked, [held, open = slow.back()] {
      held->Wait();
      open->Open();
    });
    Push(&free, [open = quick.back()] { open->Open(); });
  }
  bool all = true;
  for (const SharedGate& gate : quick) all = all && gate->Opens();
  held->Open();
  for (const SharedGate& gate : slow) gate->Wait();
  CHECK(all);
}

TEST(queues_do_not_wait_for_each_other) {
  SerialQueue slow("check-slow");
  const SharedGate held = std::make_shared<Gate>();
  const SharedGate slow_done = std::make_shared<Gate>();
  Push(&slow, [held, slow_done] {
    held->Wait();
    slow_done->Open();
  });
  std::atomic<int> ran(0);
  for (int i = 0; i < 20; i++) {
    SerialQueue quick("check-quick");
    const SharedGate done = std::make_shared<Gate>();
    Push(&quick, [&ran, done] {
      ran++;
      done->Open();
    });
    done->Wait();
  }
  CHECK(ran == 20);
  held->Open();
  slow_done->Wait();
}

TEST(queue_may_die_before_its_tasks) {
  const SharedGate held = std::make_shared<Gate>();
  const SharedGate done = std::make_shared<Gate>();
  {
    SerialQueue queue("check-orphan");
    Push(&queue, [held] { held->Wait(); });
    Push(&queue, [done] { done->Open(); });
  }
  held->Open();
  done->Wait();
}

}  // namespace
}  // namespace aperture
