#include "sys/workers.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <deque>
#include <list>
#include <utility>

namespace aperture {

namespace {

// The deepest path is an ioctl with a 64 KiB answer on the heap.
constexpr size_t kStackBytes = 512 * 1024;
// A thread that waits costs 16 KiB or so of the kernel's memory.
constexpr size_t kMostIdle = 4;
constexpr time_t kIdleSeconds = 1;

struct Idle {
  pthread_cond_t woken;
  bool called = false;
};

// Never destroyed: detached threads may wait here while the process exits.
struct Workers {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  // Work that no thread has taken yet. While there is some, a thread is on its way to it.
  std::deque<std::shared_ptr<Work>> waiting;
  bool coming = false;
  // The one that began to wait last comes first: its stack is warm, and the others reach their end.
  std::list<Idle*> idle;
};

Workers& All() {
  static Workers* const workers = new Workers();
  return *workers;
}

thread_local int bursts = 0;

class Lock {
 public:
  Lock() { pthread_mutex_lock(&All().mutex); }
  ~Lock() { pthread_mutex_unlock(&All().mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// Asynchronous signals belong to the main thread, whose event loop handles them. Synchronous faults must stay
// unblocked: the kernel kills the process at once when one arrives blocked, guard or not.
void BlockSignals(sigset_t* previous) {
  sigset_t all;
  sigfillset(&all);
  for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
  pthread_sigmask(SIG_BLOCK, &all, previous);
}

// Waits until the thread is called, with the mutex held. False: it is to end.
bool WaitForCall() {
  Workers& workers = All();
  if (workers.idle.size() >= kMostIdle) return false;
  Idle self;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&self.woken, &attributes);
  pthread_condattr_destroy(&attributes);
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += kIdleSeconds;

  pthread_setname_np(pthread_self(), kIdleWorkerName);
  workers.idle.push_front(&self);
  while (!self.called) {
    if (pthread_cond_timedwait(&self.woken, &workers.mutex, &end) == 0) continue;
    // One that was called in the same moment is off the list.
    if (!self.called) workers.idle.remove(&self);
    break;
  }
  pthread_cond_destroy(&self.woken);
  return self.called;
}

int CallThread();

// The next work; null when the thread is to end. called: it is the thread on its way.
std::shared_ptr<Work> Next(bool called) {
  Workers& workers = All();
  std::shared_ptr<Work> work;
  bool more = false;
  {
    const Lock lock;
    for (;;) {
      if (called) workers.coming = false;
      if (!workers.waiting.empty()) break;
      called = WaitForCall();
      if (!called) return nullptr;
    }
    work = std::move(workers.waiting.front());
    workers.waiting.pop_front();
    more = !workers.waiting.empty() && !workers.coming;
    if (more) workers.coming = true;
  }
  // Before this work begins: it may block.
  if (more) static_cast<void>(CallThread());
  return work;
}

void* Main(void*) {
  std::shared_ptr<Work> work = Next(true);
  while (work != nullptr) {
    work->Run();
    work.reset();
    work = Next(false);
  }
  return nullptr;
}

int CreateThread() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // The new thread inherits the mask, so there is no moment in which it could take a signal.
  sigset_t previous;
  BlockSignals(&previous);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, &Main, nullptr);
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  pthread_attr_destroy(&attributes);
  return failed;
}

// Sends for a thread; `coming` is set already. 0; or the errno of pthread_create, and then it is not.
int CallThread() {
  Workers& workers = All();
  {
    const Lock lock;
    if (!workers.idle.empty()) {
      Idle* const idle = workers.idle.front();
      workers.idle.pop_front();
      idle->called = true;
      // Under the mutex: what it waits on is gone as soon as it has seen the call.
      pthread_cond_signal(&idle->woken);
      return 0;
    }
  }
  const int failed = CreateThread();
  if (failed != 0) {
    const Lock lock;
    workers.coming = false;
  }
  return failed;
}

}  // namespace

int RunOnWorker(std::shared_ptr<Work> work) {
  Workers& workers = All();
  {
    const Lock lock;
    workers.waiting.push_back(work);
    if (workers.coming) return 0;
    // Only one that is idle can be called later: that cannot fail, and making one can.
    if (bursts > 0 && !workers.idle.empty()) return 0;
    workers.coming = true;
  }
  const int failed = CallThread();
  if (failed == 0) return 0;
  const Lock lock;
  // A thread that has just become free may have taken it.
  const auto still = std::find(workers.waiting.begin(), workers.waiting.end(), work);
  if (still == workers.waiting.end()) return 0;
  workers.waiting.erase(still);
  return failed;
}

Burst::Burst() {
  bursts++;
}

Burst::~Burst() {
  if (--bursts > 0) return;
  Workers& workers = All();
  {
    const Lock lock;
    if (workers.waiting.empty() || workers.coming) return;
    workers.coming = true;
  }
  static_cast<void>(CallThread());
}

}  // namespace aperture
