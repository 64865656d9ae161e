// Threads for blocking work: as many as there is work that blocks at once, because one that is in the kernel
// can stay there for minutes. One that has nothing to do waits a moment for more before it ends: a lease is a
// handful of calls one after the other, and a new thread for each would cost more than the calls.
//
// Most work does not block after all (the close of a copy), and comes in bursts: sixty leases are
// acknowledged in one turn of the event loop. So one thread at a time is on its way to the work that waits.
// Before it begins with a piece it sends for the next thread if there is more, so that nothing ever waits for
// a piece that blocks; and when pieces are short, it has done the rest itself before the next one has come.
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
// and then nothing runs. Where no thread can be had for work of a burst that is not its first, it waits for
// one of those there are.
int RunOnWorker(std::shared_ptr<Work> work);

// While there is one, no idle thread is called for the work that this thread hands over, but at its end: a
// thread that is woken for each piece takes the processor from the one that is still making the others.
class Burst {
 public:
  Burst();
  ~Burst();
  Burst(const Burst&) = delete;
  Burst& operator=(const Burst&) = delete;
};

// Of threads that wait. The kernel's name for a test to count them by.
constexpr const char* kIdleWorkerName = "aperture-idle";

}  // namespace aperture
