// Threads for blocking work: as many as there is work at once, because one that is in the kernel can stay
// there for minutes. One that has nothing to do waits a moment for more before it ends: a lease is a handful
// of calls one after the other, and a new thread for each would cost more than the calls.
#pragma once

#include <memory>

namespace aperture {

class Work {
 public:
  virtual ~Work() = default;
  // On a thread of its own until it returns.
  virtual void Run() = 0;
};

// Runs the work on a thread that has nothing else to do, or on a new one. 0; or the errno of pthread_create,
// and then nothing runs.
int RunOnWorker(std::shared_ptr<Work> work);

// Of threads that wait. The kernel's name for a test to count them by.
constexpr const char* kIdleWorkerName = "aperture-idle";

}  // namespace aperture
