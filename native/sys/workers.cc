#include "sys/workers.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <cerrno>
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
  std::shared_ptr<Work> work;
};

// Never destroyed: detached threads may wait here while the process exits.
struct Workers {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  // The one that began to wait last comes first: its stack is warm, and the others reach their end.
  std::list<Idle*> idle;
};

Workers& All() {
  static Workers* const workers = new Workers();
  return *workers;
}

// Asynchronous signals belong to the main thread, whose event loop handles them. Synchronous faults must stay
// unblocked: the kernel kills the process at once when one arrives blocked, guard or not.
void BlockSignals(sigset_t* previous) {
  sigset_t all;
  sigfillset(&all);
  for (const int fault : {SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
  pthread_sigmask(SIG_BLOCK, &all, previous);
}

// The next work; null when the thread is to end.
std::shared_ptr<Work> Await() {
  Workers& workers = All();
  Idle self;
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&self.woken, &attributes);
  pthread_condattr_destroy(&attributes);
  struct timespec end;
  clock_gettime(CLOCK_MONOTONIC, &end);
  end.tv_sec += kIdleSeconds;

  pthread_mutex_lock(&workers.mutex);
  if (workers.idle.size() < kMostIdle) {
    pthread_setname_np(pthread_self(), kIdleWorkerName);
    workers.idle.push_front(&self);
    while (self.work == nullptr) {
      if (pthread_cond_timedwait(&self.woken, &workers.mutex, &end) == 0) continue;
      // Work that came in the same moment is in self.work, and this thread is off the list then.
      if (self.work == nullptr) workers.idle.remove(&self);
      break;
    }
  }
  pthread_mutex_unlock(&workers.mutex);
  pthread_cond_destroy(&self.woken);
  return std::move(self.work);
}

void* Main(void* argument) {
  const std::unique_ptr<std::shared_ptr<Work>> first(static_cast<std::shared_ptr<Work>*>(argument));
  std::shared_ptr<Work> work = std::move(*first);
  while (work != nullptr) {
    work->Run();
    work.reset();
    work = Await();
  }
  return nullptr;
}

}  // namespace

int RunOnWorker(std::shared_ptr<Work> work) {
  Workers& workers = All();
  pthread_mutex_lock(&workers.mutex);
  if (!workers.idle.empty()) {
    Idle* const idle = workers.idle.front();
    workers.idle.pop_front();
    idle->work = std::move(work);
    // Under the mutex: what it waits on is gone as soon as it has seen the work.
    pthread_cond_signal(&idle->woken);
    pthread_mutex_unlock(&workers.mutex);
    return 0;
  }
  pthread_mutex_unlock(&workers.mutex);

  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStackBytes);
  // The new thread inherits the mask, so there is no moment in which it could take a signal.
  sigset_t previous;
  BlockSignals(&previous);
  auto argument = std::make_unique<std::shared_ptr<Work>>(std::move(work));
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, &Main, argument.get());
  pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  pthread_attr_destroy(&attributes);
  if (failed == 0) static_cast<void>(argument.release());
  return failed;
}

}  // namespace aperture
